"""What the tests of all roles share: records, and how they are stored."""

from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from memground.clock import nanoseconds
from memground.errors import (
    MemoryStoreError,
)
from omnimem.models import Content, Memory, NewMemory, Scope
from omnimem.models.memory import checked
from omnimem.storage.base import (
    Storage,
    StoredRecord,
)

DIMS = 4
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def record(
    memory_id: str, hour: int = 0, *, end: int | None = None, scope: Scope | None = None, **fields: Any
) -> StoredRecord:
    """The record a memory got at an hour, superseded at another."""
    given: dict[str, Any] = {"content": Content(f"{memory_id} {hour}"), "scope": scope or Scope(), **fields}
    new = NewMemory(**given)
    memory = Memory.stored(
        memory_id=memory_id,
        record_id=f"{memory_id}@{hour}",
        version=nanoseconds(START + hour * HOUR),
        is_latest=end is None,
        created_time=START + hour * HOUR,
        **checked(new),
    )
    return StoredRecord(memory, None if end is None else START + end * HOUR)


async def insert(storage: Storage, records: Sequence[StoredRecord], *, named: bool = False) -> None:
    """Stores records of new memories."""
    await storage.records.write(lambda work: storage.records.insert(work, records, named=named))


async def refused(call: Awaitable[Any], kind: type[MemoryStoreError]) -> str:
    """The message of the error a call must raise."""
    try:
        await call
    except kind as error:
        return str(error)
    raise AssertionError(f"{kind.__name__} was expected")
