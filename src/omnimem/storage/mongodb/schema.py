"""Collections and indexes, and how an older database becomes a new one."""

from collections.abc import Awaitable, Callable
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import CollectionInvalid, OperationFailure

from memground.errors import ConfigurationError
from omnimem.models.scope import DIMENSIONS
from omnimem.storage.mongodb.coding import Document

MEMORIES, TOMBSTONES, LOCKS, OUTBOX, META = (
    "memories", "memory_tombstones", "memory_locks", "memory_outbox", "memory_meta",
)  # fmt: skip
RELAY = "relay"
"""The id of the lease among `META`."""
_LOCK_SECONDS = 86_400
_EXISTS = 48
"""What the server says where another client made the same meanwhile."""
_NEWEST = [("is_latest", ASCENDING), ("version", DESCENDING), ("memory_id", DESCENDING)]
"""Behind what a listing asks for: it reads the latest records, or all, newest first, and sorts nothing."""


def memory_indexes() -> list[IndexModel]:
    """The indexes of `memories`; `_id` is the record's id."""
    tags = [("scope_tags", ASCENDING), *_NEWEST]
    return [
        IndexModel(
            [("memory_id", ASCENDING)],
            name="uq_memories_latest",
            unique=True,
            partialFilterExpression={"is_latest": True},
        ),
        IndexModel([("memory_id", ASCENDING), ("version", ASCENDING)], name="uq_memories_version", unique=True),
        IndexModel(
            [("memory_id", ASCENDING), ("superseded_time", ASCENDING), ("created_time", ASCENDING)],
            name="ix_memories_time",
        ),
        IndexModel(_NEWEST, name="ix_memories_newest"),
        *(
            IndexModel(
                [(f"scope_{dimension}", ASCENDING), *_NEWEST],
                name=f"ix_memories_{dimension}",
                partialFilterExpression={f"scope_{dimension}": {"$exists": True}},
            )
            for dimension in DIMENSIONS
        ),
        IndexModel(tags, name="ix_memories_tags", partialFilterExpression={"scope_tags": {"$exists": True}}),
    ]


async def _first_schema(database: AsyncDatabase[Document]) -> None:
    for name in (MEMORIES, TOMBSTONES, LOCKS, OUTBOX, META):
        try:
            await database.create_collection(name)
        except CollectionInvalid:
            continue
        except OperationFailure as error:
            if error.code != _EXISTS:
                raise
    await database[MEMORIES].create_indexes(memory_indexes())
    await database[LOCKS].create_index("held_time", name="ix_memory_locks_held", expireAfterSeconds=_LOCK_SECONDS)
    await database[OUTBOX].create_indexes(
        [
            IndexModel([("due_time", ASCENDING), ("_id", ASCENDING)], name="ix_memory_outbox_due"),
            IndexModel([("ref", ASCENDING)], name="ix_memory_outbox_ref"),
        ]
    )
    await database[META].update_one({"_id": RELAY}, {"$setOnInsert": {"owner": None, "until": None}}, upsert=True)


_STEPS: list[Callable[[AsyncDatabase[Document]], Awaitable[Any]]] = [_first_schema]
"""From each version to the next; every step may run twice, and at the same time as itself."""
VERSION = len(_STEPS)


async def migrate(database: AsyncDatabase[Document]) -> None:
    """Brings the database to this program's version. Raises ConfigurationError where it is of a newer program."""
    found = await database[META].find_one({"_id": "schema"})
    version = int(found["version"]) if found else 0
    if version > VERSION:
        raise ConfigurationError(
            f"the MongoDB database {database.name!r} has schema version {version}, made by a newer omnimem; this one "
            f"knows version {VERSION}: install the newer one"
        )
    for step in _STEPS[version:]:
        await step(database)
    if version < VERSION:
        await database[META].update_one({"_id": "schema"}, {"$max": {"version": VERSION}}, upsert=True)
