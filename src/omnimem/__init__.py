"""omnimem: versioned, scoped, searchable memories, for teams that run memory as shared infrastructure."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memground.clock import Clock, ManualClock, SystemClock
    from memground.filters import F, Filter
    from memground.jobs import JobPolicy
    from omnimem.client.client import OmniMemClient
    from omnimem.errors import (
        ConfigurationError,
        ConflictError,
        InvalidInputError,
        MemoryStoreError,
        ModelMismatchError,
        ModelMissingError,
        NotFoundError,
        ProviderError,
        UnavailableError,
        UnsupportedError,
    )
    from omnimem.models.filter import (
        ArmHit,
        Explanation,
        Page,
        SearchFilters,
        SearchHit,
        SearchQuery,
        SearchResult,
    )
    from omnimem.models.index import IndexHint
    from omnimem.models.memory import Content, Memory, MemoryType, NewMemory, SourceReference
    from omnimem.models.scope import Scope
    from omnimem.operations.manager import MemoryManager
    from omnimem.operations.time_travel import TimeTravel
    from omnimem.pipeline.reembedding import Reembedded
    from omnimem.pipeline.reindexing import Reindexed
    from omnimem.pipeline.synchronizer import IndexSynchronizer
    from omnimem.pipeline.verification import Difference, Report
    from omnimem.search.engine import SearchEngine
    from omnimem.storage.base import StorageProtocol
    from omnimem.storage.factory import Settings, SyncMode

__version__ = "0.1.0"

# Imported when they are first asked for: a command that only prints its help should not wait for SQLAlchemy.
_HOMES = {
    "memground.clock": ("Clock", "ManualClock", "SystemClock"),
    "memground.filters": ("F", "Filter"),
    "memground.jobs": ("JobPolicy",),
    "omnimem.client.client": ("OmniMemClient",),
    "omnimem.errors": (
        "ConfigurationError",
        "ConflictError",
        "InvalidInputError",
        "MemoryStoreError",
        "ModelMismatchError",
        "ModelMissingError",
        "NotFoundError",
        "ProviderError",
        "UnavailableError",
        "UnsupportedError",
    ),
    "omnimem.models.filter": (
        "ArmHit",
        "Explanation",
        "Page",
        "SearchFilters",
        "SearchHit",
        "SearchQuery",
        "SearchResult",
    ),
    "omnimem.models.index": ("IndexHint",),
    "omnimem.models.memory": ("Content", "Memory", "MemoryType", "NewMemory", "SourceReference"),
    "omnimem.models.scope": ("Scope",),
    "omnimem.operations.manager": ("MemoryManager",),
    "omnimem.operations.time_travel": ("TimeTravel",),
    "omnimem.pipeline.reembedding": ("Reembedded",),
    "omnimem.pipeline.reindexing": ("Reindexed",),
    "omnimem.pipeline.synchronizer": ("IndexSynchronizer",),
    "omnimem.pipeline.verification": ("Difference", "Report"),
    "omnimem.search.engine": ("SearchEngine",),
    "omnimem.storage.base": ("StorageProtocol",),
    "omnimem.storage.factory": ("Settings", "SyncMode"),
}

__all__ = [
    "ArmHit",
    "Clock",
    "ConfigurationError",
    "ConflictError",
    "Content",
    "Difference",
    "Explanation",
    "F",
    "Filter",
    "IndexHint",
    "IndexSynchronizer",
    "InvalidInputError",
    "JobPolicy",
    "ManualClock",
    "Memory",
    "MemoryManager",
    "MemoryStoreError",
    "MemoryType",
    "ModelMismatchError",
    "ModelMissingError",
    "NewMemory",
    "NotFoundError",
    "OmniMemClient",
    "Page",
    "ProviderError",
    "Reembedded",
    "Reindexed",
    "Report",
    "Scope",
    "SearchEngine",
    "SearchFilters",
    "SearchHit",
    "SearchQuery",
    "SearchResult",
    "Settings",
    "SourceReference",
    "StorageProtocol",
    "SyncMode",
    "SystemClock",
    "TimeTravel",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return globals().setdefault(name, getattr(import_module(module), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
