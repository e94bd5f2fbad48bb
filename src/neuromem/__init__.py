"""neuromem: memory for AI agents, embedded in your async Python program, on one PostgreSQL."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memground.clock import Clock, ManualClock, SystemClock
    from memground.filters import F, Filter
    from memground.postgres.queue import JobPolicy
    from neuromem._core import NeuroMemory, reembed
    from neuromem.errors import (
        ConfigurationError,
        ConflictError,
        InvalidInputError,
        MemoryStoreError,
        ModelMismatchError,
        ModelMissingError,
        NotFoundError,
        ProviderError,
        TruncatedError,
        UnavailableError,
        UnsupportedError,
    )
    from neuromem.extraction.policy import ExtractionPolicy, HygieneRules
    from neuromem.providers.watched import EmbeddingCall, LLMCall
    from neuromem.ranking import RankingProfile
    from neuromem.relations import GraphRules
    from neuromem.types import (
        BackgroundStatus,
        Change,
        Diff,
        Emotion,
        Episode,
        ErasurePreview,
        ErasureReceipt,
        Explanation,
        ExtractionFailure,
        ExtractionResult,
        ExtractionStatus,
        Fact,
        GraphEdge,
        GraphFact,
        GraphNeighbor,
        GraphNode,
        GraphPath,
        Hit,
        KeyValue,
        Memory,
        MemoryType,
        MergedHit,
        Message,
        MessageHit,
        NewMemory,
        NewMessage,
        Page,
        Period,
        RecallResult,
        Reembedded,
        Reversal,
        Session,
        Source,
        Stats,
        StoredTriples,
        Triple,
    )

    neuromem = NeuroMemory
    """The class under its older name."""

__version__ = "0.1.0"

__all__ = [
    "BackgroundStatus",
    "Change",
    "Clock",
    "ConfigurationError",
    "ConflictError",
    "Diff",
    "EmbeddingCall",
    "Emotion",
    "Episode",
    "ErasurePreview",
    "ErasureReceipt",
    "Explanation",
    "ExtractionFailure",
    "ExtractionPolicy",
    "ExtractionResult",
    "ExtractionStatus",
    "F",
    "Fact",
    "Filter",
    "GraphEdge",
    "GraphFact",
    "GraphNeighbor",
    "GraphNode",
    "GraphPath",
    "GraphRules",
    "Hit",
    "HygieneRules",
    "InvalidInputError",
    "JobPolicy",
    "KeyValue",
    "LLMCall",
    "ManualClock",
    "Memory",
    "MemoryStoreError",
    "MemoryType",
    "MergedHit",
    "Message",
    "MessageHit",
    "ModelMismatchError",
    "ModelMissingError",
    "NeuroMemory",
    "NewMemory",
    "NewMessage",
    "NotFoundError",
    "Page",
    "Period",
    "ProviderError",
    "RankingProfile",
    "RecallResult",
    "Reembedded",
    "Reversal",
    "Session",
    "Source",
    "Stats",
    "StoredTriples",
    "SystemClock",
    "Triple",
    "TruncatedError",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
    "neuromem",
    "reembed",
]

# Imported when they are first asked for: a command that only prints its help should not wait for SQLAlchemy.
_HOMES = {
    "memground.clock": ("Clock", "ManualClock", "SystemClock"),
    "memground.filters": ("F", "Filter"),
    "memground.postgres.queue": ("JobPolicy",),
    "neuromem._core": ("NeuroMemory", "reembed"),
    "neuromem.errors": (
        "ConfigurationError",
        "ConflictError",
        "InvalidInputError",
        "MemoryStoreError",
        "ModelMismatchError",
        "ModelMissingError",
        "NotFoundError",
        "ProviderError",
        "TruncatedError",
        "UnavailableError",
        "UnsupportedError",
    ),
    "neuromem.extraction.policy": ("ExtractionPolicy", "HygieneRules"),
    "neuromem.providers.watched": ("EmbeddingCall", "LLMCall"),
    "neuromem.ranking": ("RankingProfile",),
    "neuromem.relations": ("GraphRules",),
    "neuromem.types": (
        "BackgroundStatus",
        "Change",
        "Diff",
        "Emotion",
        "Episode",
        "ErasurePreview",
        "ErasureReceipt",
        "Explanation",
        "ExtractionFailure",
        "ExtractionResult",
        "ExtractionStatus",
        "Fact",
        "GraphEdge",
        "GraphFact",
        "GraphNeighbor",
        "GraphNode",
        "GraphPath",
        "Hit",
        "KeyValue",
        "Memory",
        "MemoryType",
        "MergedHit",
        "Message",
        "MessageHit",
        "NewMemory",
        "NewMessage",
        "Page",
        "Period",
        "RecallResult",
        "Reembedded",
        "Reversal",
        "Session",
        "Source",
        "Stats",
        "StoredTriples",
        "Triple",
    ),
}


def __getattr__(name: str) -> Any:
    if name == "neuromem":
        return __getattr__("NeuroMemory")
    for module, names in _HOMES.items():
        if name in names:
            return globals().setdefault(name, getattr(import_module(module), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
