"""neuromem: memory for AI agents, embedded in your async Python program, on one PostgreSQL."""

from memground.clock import Clock, ManualClock, SystemClock
from memground.filters import F, Filter
from memground.postgres.queue import JobPolicy
from neuromem._core import NeuroMemory
from neuromem.errors import (
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
from neuromem.ranking import RankingProfile
from neuromem.types import (
    BackgroundStatus,
    Change,
    Diff,
    Explanation,
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
    RecallResult,
    Reversal,
    Session,
    Source,
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
    "Explanation",
    "F",
    "Filter",
    "Hit",
    "InvalidInputError",
    "JobPolicy",
    "KeyValue",
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
    "ProviderError",
    "RankingProfile",
    "RecallResult",
    "Reversal",
    "Session",
    "Source",
    "SystemClock",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
    "neuromem",
]
