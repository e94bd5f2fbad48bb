"""The domain: memories, whose they are, how they are indexed, and what is searched for."""

from memground.filters import F, Filter
from omnimem.models.filter import (
    FIELDS,
    ArmHit,
    Explanation,
    Filters,
    Page,
    SearchFilters,
    SearchHit,
    SearchQuery,
    SearchResult,
    read_filters,
)
from omnimem.models.index import IndexHint
from omnimem.models.memory import Content, Memory, MemoryType, NewMemory, SourceReference
from omnimem.models.scope import EVERYTHING, Scope, read_scope

__all__ = [
    "EVERYTHING",
    "FIELDS",
    "ArmHit",
    "Content",
    "Explanation",
    "F",
    "Filter",
    "Filters",
    "IndexHint",
    "Memory",
    "MemoryType",
    "NewMemory",
    "Page",
    "Scope",
    "SearchFilters",
    "SearchHit",
    "SearchQuery",
    "SearchResult",
    "SourceReference",
    "read_filters",
    "read_scope",
]
