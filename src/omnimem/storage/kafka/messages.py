"""How a change, and what became of it, is written in a topic.

The value is the change as JSON. In the topics of retries and dead letters headers say how often it was tried, with
which error, and from when it may be tried again; the key names the change, so that a later message of the same key
takes the place of the earlier one, and one without a value ends it.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from confluent_kafka import Message

from omnimem.storage.base import Change

type Seen = Message[bytes, bytes]
"""A message that was read."""

MAX_ERROR = 2_000
"""Characters of an error that are kept."""


@dataclass(frozen=True)
class Outgoing:
    """A message to be published; without a value it ends its key. `partition` None: by the key."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None


@dataclass(frozen=True)
class Trial:
    """How a change fared: tried so often, when last, with which error; due again at `not_before` (seconds, epoch)."""

    attempts: int
    not_before: float
    failed_at: datetime
    error: str

    def headers(self) -> list[tuple[str, bytes]]:
        return [
            ("attempts", str(self.attempts).encode()),
            ("not-before", f"{self.not_before:.3f}".encode()),
            ("failed-at", self.failed_at.isoformat().encode()),
            ("error", self.error[:MAX_ERROR].encode(errors="replace")),
        ]


def change_value(change: Change, recorded: int) -> bytes:
    """A change as JSON; `recorded`: when it was recorded, in nanoseconds since 1970."""
    record = {} if change.record_id is None else {"record_id": change.record_id}
    value = {"kind": change.kind, "memory_id": change.memory_id, **record, "recorded": recorded}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def read_change(value: bytes) -> tuple[Change, int]:
    """The change of a value, and when it was recorded. Raises ValueError where it is none."""
    try:
        found = cast("dict[str, Any]", json.loads(value))
        kind, memory_id, record_id = found["kind"], found["memory_id"], found.get("record_id")
        recorded = found["recorded"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no change: {error!r}") from None
    if (
        kind not in ("put", "delete")
        or not isinstance(memory_id, str)
        or not isinstance(recorded, int)
        or (kind == "put") != isinstance(record_id, str)
    ):
        raise ValueError(f"no change: {value[:200]!r}")
    return Change(kind, memory_id, record_id), recorded


def change_key(change: Change) -> bytes:
    """What a change is known by among retries and dead letters."""
    return json.dumps([change.kind, change.memory_id, change.record_id], ensure_ascii=False).encode()


def read_trial(message: Seen) -> Trial:
    """How the change of a message fared, by its headers."""
    headers = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
    try:
        failed_at = datetime.fromisoformat(headers["failed-at"].decode())
    except (KeyError, ValueError):
        failed_at = datetime.fromtimestamp(message.timestamp()[1] / 1_000, UTC)
    try:
        attempts, not_before = int(headers.get("attempts", b"0")), float(headers.get("not-before", b"0"))
    except ValueError:
        attempts, not_before = 0, 0.0
    return Trial(attempts, not_before, failed_at, headers.get("error", b"").decode(errors="replace"))


class Stamps:
    """Moments in nanoseconds, each later than the one before: the order in which this program recorded."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(time.time_ns(), self._last + 1)
        return self._last
