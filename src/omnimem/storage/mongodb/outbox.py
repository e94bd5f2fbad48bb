"""Changes that wait in MongoDB, beside the truth, for a queue that is elsewhere."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bson import ObjectId
from pymongo.read_concern import ReadConcern

from memground.clock import SystemClock
from memground.jobs import QueueStatus
from omnimem.storage.base import Change, Outbox, Work
from omnimem.storage.mongodb.coding import Document
from omnimem.storage.mongodb.database import MongoDatabase
from omnimem.storage.mongodb.errors import reporting
from omnimem.storage.mongodb.schema import META, OUTBOX, RELAY


class MongoOutbox(Outbox):
    """One document for each change, in the order they fall due."""

    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._handed: dict[Change, list[ObjectId]] = {}

    async def record(self, work: Work, changes: Sequence[Change], *, delay: float = 0.0) -> None:
        if not changes:
            return
        now = SystemClock().now()
        due = now + timedelta(seconds=delay)
        documents = [
            {
                "_id": ObjectId(),
                "ref": _ref(change),
                "kind": change.kind,
                "memory_id": change.memory_id,
                "record_id": change.record_id,
                "recorded_time": now,
                "due_time": due,
            }
            for change in changes
        ]
        with self._reporting():
            await self._outbox.insert_many(documents, session=self._database.joined(work))

    async def lead(self, owner: str, seconds: float) -> bool:
        """By the server's clock: those who ask need not agree about the time."""
        free = {"$or": [{"$eq": ["$owner", {"$literal": owner}]}, {"$lt": ["$until", "$$NOW"]}]}
        until = {"$add": ["$$NOW", round(seconds * 1000)]}
        lease = self._database.collection(META)
        with self._reporting():
            done = await lease.update_one(
                {"_id": RELAY, "$expr": free}, [{"$set": {"owner": {"$literal": owner}, "until": until}}]
            )
        return done.matched_count == 1

    async def due(self, limit: int) -> list[Change]:
        # Not what is written and may not be read at a moment of the truth yet: whoever works it off would find nothing.
        safe = self._outbox.with_options(read_concern=ReadConcern("majority"))
        with self._reporting():
            cursor = safe.find({"due_time": {"$lte": SystemClock().now()}}, sort=DUE, limit=limit)
            found: list[Document] = await cursor.to_list()
        self._handed = {}
        for each in found:
            self._handed.setdefault(_change(each), []).append(each["_id"])
        return [_change(each) for each in found]

    async def forget(self, changes: Sequence[Change]) -> None:
        """Of what `due` gave only that: the same change may have been recorded again since."""
        others = [_ref(change) for change in changes if change not in self._handed]
        handed = [found for change in changes for found in self._handed.pop(change, [])]
        with self._reporting():
            if handed:
                await self._outbox.delete_many({"_id": {"$in": handed}})
            if others:
                await self._outbox.delete_many({"ref": {"$in": others}})

    async def status(self) -> QueueStatus:
        with self._reporting():
            first = await self._outbox.find_one({}, sort=DUE)
            waiting = await self._outbox.count_documents({}, hint="ix_memory_outbox_due") if first else 0
        return QueueStatus(waiting, 0, first["recorded_time"] if first else None, None)

    @property
    def _outbox(self) -> Any:
        return self._database.collection(OUTBOX)

    def _reporting(self) -> Any:
        return reporting(self._database.url)


DUE = [("due_time", 1), ("_id", 1)]


def _ref(change: Change) -> str:
    return f"-{change.memory_id}" if change.record_id is None else f"+{change.record_id}"


def _change(document: Document) -> Change:
    return Change(document["kind"], document["memory_id"], document["record_id"])
