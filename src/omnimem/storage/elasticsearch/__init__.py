"""The keyword index in Elasticsearch. Opened by `omnimem.storage.factory` only."""

from omnimem.storage.elasticsearch.keywords import ElasticsearchKeywords
from omnimem.storage.elasticsearch.settings import ElasticsearchSettings

__all__ = ["ElasticsearchKeywords", "ElasticsearchSettings"]
