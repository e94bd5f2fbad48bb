"""Which indexes there are, and how their fields are mapped.

Each concrete index carries the version of the mapping in its name and stands behind an alias, so that it can be made
anew beside and switched.
"""

from typing import Any

from omnimem.models.scope import DIMENSIONS
from omnimem.storage.elasticsearch.facts import FACTS
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings

MAPPING_VERSION = 1
MAX_KEYWORD = 8_191
"""Characters of a string that is kept as a keyword: in UTF-8 they fit the 32,766 bytes of a Lucene term."""
ANALYZER = "omnimem"
UNTYPED_FIELDS = frozenset({"text", "memory_id", "record_id"})
"""Fields of a memory that have facts only: they are kept in another way already."""
_DEPTH = 40
SUFFIXES = ("long", "double", "boolean", "date", "keyword", "text", "nested")


def suffixed(path: str, suffix: str) -> str:
    """The field of a path's values of one type."""
    return f"{path}__{suffix}"


def index_settings(settings: ElasticsearchSettings) -> dict[str, Any]:
    return {
        "number_of_shards": settings.shards,
        "number_of_replicas": settings.replicas,
        "refresh_interval": settings.refresh_interval,
        # Late writes are kept off by tombstones of our own. What is deleted is forgotten at once, so that it can be
        # taken in anew with the version it had.
        "gc_deletes": -1,
        "mapping.total_fields.limit": settings.fields,
        "mapping.total_fields.ignore_dynamic_beyond_limit": True,
        "mapping.nested_fields.limit": settings.nested_fields,
        "mapping.depth.limit": _DEPTH,
        "analysis": {
            "analyzer": {
                ANALYZER: {
                    "type": "custom",
                    "tokenizer": "standard",
                    "filter": ["cjk_width", "lowercase", "asciifolding", "cjk_bigram", "porter_stem"],
                }
            }
        },
    }


def mappings() -> dict[str, Any]:
    keyword = {"type": "keyword"}
    facts = {"type": "keyword", "doc_values": False}
    text = {"type": "text", "analyzer": ANALYZER}
    suffixes: dict[str, dict[str, Any]] = {
        "long": {"type": "long"},
        "double": {"type": "double"},
        "boolean": {"type": "boolean"},
        "date": {"type": "date", "ignore_malformed": True},
        "keyword": {**keyword, "ignore_above": MAX_KEYWORD},
        "text": text,
    }
    elements = {"type": "nested", "properties": {FACTS: facts}}
    templates: list[dict[str, Any]] = [
        {"nested": {"match": "*__nested", "match_mapping_type": "object", "mapping": elements}},
        *({name: {"match": f"*__{name}", "mapping": mapping}} for name, mapping in suffixes.items()),
    ]
    typed = {
        f"{name}__{kind}": suffixes[kind]
        for name in ("created_time", "superseded_time", "event_time", "valid_time_from", "valid_time_to")
        for kind in ("long", "date")
    }
    return {
        "_meta": {"omnimem_mapping": MAPPING_VERSION},
        "dynamic": True,
        "date_detection": False,
        "numeric_detection": False,
        "dynamic_templates": templates,
        "properties": {
            "memory_id": keyword,
            "record_id": keyword,
            **{f"scope_{dimension}": keyword for dimension in DIMENSIONS},
            "scope_tags": keyword,
            "version__long": {"type": "long"},
            "type__keyword": keyword,
            **typed,
            "removed": {"type": "boolean"},
            "content_hash": {"type": "keyword", "index": False},
            "text": text,
            # Words as `memground.words` tells them apart: the same as in every other keyword index.
            "words": {"type": "text", "analyzer": "whitespace", "index_options": "freqs"},
            FACTS: facts,
            **{root: {"type": "object"} for root in ("data", "metadata", "sources")},
        },
    }
