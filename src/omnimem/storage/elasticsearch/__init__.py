"""The keyword index in Elasticsearch. Opened by `omnimem.storage.factory` only."""

from memground.extras import missing_package

try:
    import elasticsearch as elasticsearch
except ImportError as error:
    raise missing_package("elasticsearch[async]", "elasticsearch") from error

from omnimem.storage.elasticsearch.keywords import ElasticsearchKeywords

__all__ = ["ElasticsearchKeywords"]
