"""How background work is done, and how much of it waits: values, whatever queue they are about."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from memground.errors import InvalidInputError


@dataclass(frozen=True)
class JobPolicy:
    """How jobs are worked off.

    `lease`: seconds a claim lasts unless extended. `batch`: jobs claimed at once. `poll`: seconds between looks for
    jobs of other processes. `attempts`: tries before a job counts as failed; the pause before try n+1 is
    `backoff`·2ⁿ⁻¹ seconds, at most `backoff_max`.
    """

    lease: float = 30.0
    batch: int = 64
    poll: float = 1.0
    attempts: int = 6
    backoff: float = 1.0
    backoff_max: float = 300.0

    def __post_init__(self) -> None:
        for name in ("batch", "attempts"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is not accepted; pass a whole number above 0")
        for name in ("lease", "poll"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is not accepted; pass seconds above 0")
        for name in ("backoff", "backoff_max"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is not accepted; pass seconds, 0 or more")


@dataclass(frozen=True)
class QueueStatus:
    """`waiting` jobs (claimed ones included), `failed` ones that need a person, since when the oldest waits, one of
    the errors met, and how many wait in which part of a queue that has parts."""

    waiting: int
    failed: int
    oldest: datetime | None
    last_error: str | None
    parts: Mapping[str, int] = field(default_factory=dict[str, int])
