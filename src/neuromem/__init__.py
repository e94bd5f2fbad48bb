"""neuromem: memory for AI agents, embedded in your async Python program, on one PostgreSQL."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# A program that imports this at its start pays for the database's and the model's packages when it first names
# something that needs them.
_HOMES = {
    "memground.clock": "Clock ManualClock SystemClock",
    "memground.filters": "F Filter",
    "memground.postgres.queue": "JobPolicy",
    "neuromem._core": "NeuroMemory",
    "neuromem.errors": (
        "ConfigurationError ConflictError InvalidInputError MemoryStoreError ModelMismatchError ModelMissingError "
        "NotFoundError ProviderError UnavailableError UnsupportedError "
    ),
    "neuromem.ranking": "RankingProfile",
    "neuromem.types": (
        "BackgroundStatus Change Diff Explanation Hit KeyValue "
        "Memory MemoryType MergedHit Message MessageHit NewMemory "
        "NewMessage Page RecallResult Reversal Session Source "
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name == "neuromem":  # the class under its older name
        name = "NeuroMemory"
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
