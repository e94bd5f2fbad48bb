"""The truth in MongoDB: the collection `memories`, one document a record."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, NamedTuple

from pymongo import UpdateOne

from memground.clock import SystemClock
from memground.errors import ConflictError
from memground.filters import Filter, matches
from omnimem.models import Memory, Scope
from omnimem.models.filter import FIELDS
from omnimem.storage.base import Capabilities, RecordStore, Selection, StoredRecord, Work
from omnimem.storage.flat import stored, taken, unflatten
from omnimem.storage.mongodb.coding import Document, write_time
from omnimem.storage.mongodb.database import MongoDatabase
from omnimem.storage.mongodb.documents import read_document, write_document
from omnimem.storage.mongodb.errors import Duplicate, PassingConflict, reporting
from omnimem.storage.mongodb.filter_query import compile_query
from omnimem.storage.mongodb.schema import LOCKS, MEMORIES, TOMBSTONES, VERSION

_NEWEST = [("version", -1), ("memory_id", -1)]
_BY_MEMORY = [("memory_id", 1), ("version", 1)]


class Asked(NamedTuple):
    """A query, and the filter that its answers have yet to pass (None: they all do)."""

    query: Document
    rest: Filter | None


class MongoRecords(RecordStore):
    """Records in one database of MongoDB."""

    def __init__(self, database: MongoDatabase) -> None:
        self._database = database

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self._database.place, filters=True, as_of=True)

    def reading(self) -> AbstractAsyncContextManager[Work]:
        return self._database.reading()

    async def write[T](self, body: Callable[[Work], Awaitable[T]]) -> T:
        return await self._database.write(body)

    # ---------------------------------------------------------------- writing

    async def insert(self, work: Work, records: Sequence[StoredRecord], *, named: bool = False) -> None:
        if not records:
            return
        documents = [write_document(record) for record in records]
        if named:
            await self._check_names(work, {record.memory.memory_id for record in records})
        session = self._database.joined(work)
        try:
            with self._reporting():
                await self._memories.insert_many(documents, session=session)
        except Duplicate as error:
            raise ConflictError(taken(records)) from error

    async def _check_names(self, work: Work, memory_ids: set[str]) -> None:
        await self.hold(work, memory_ids)
        with self._reporting():
            dead = await self._database.collection(TOMBSTONES).find_one(
                {"_id": {"$in": sorted(memory_ids)}}, session=self._database.joined(work)
            )
        if dead is not None:
            raise ConflictError(f"memory {dead['_id']!r} was deleted here; a deleted memory does not come back")

    async def lock(self, work: Work, memory_id: str, scope: Scope) -> Memory | None:
        await self.hold(work, [memory_id])
        return await self.get(work, memory_id, scope)

    async def hold(self, work: Work, memory_ids: Iterable[str]) -> None:
        """Of transactions that write one document, all but one are aborted, and run again."""
        ids = sorted(set(memory_ids))
        if not ids:
            return
        held = self._database.work(work)
        held.want(ids)
        change = {"$inc": {"turn": 1}, "$set": {"held_time": SystemClock().now()}}
        updates = [UpdateOne({"_id": memory_id}, change, upsert=True) for memory_id in ids]
        try:
            with self._reporting():
                await self._database.collection(LOCKS).bulk_write(updates, ordered=False, session=held.session)
        except Duplicate as error:
            raise PassingConflict(str(error)) from error  # another transaction held it for the first time meanwhile

    async def supersede(self, work: Work, successor: Memory) -> None:
        document = write_document(StoredRecord(successor, None))
        session = self._database.joined(work)
        ended = {"is_latest": False, "superseded_time": write_time(successor.created_time)}
        with self._reporting():
            await self._memories.update_one(_latest(successor.memory_id), {"$set": ended}, session=session)
            await self._memories.insert_one(document, session=session)

    async def remove(self, work: Work, memory_id: str, at: datetime) -> int:
        session = self._database.joined(work)
        with self._reporting():
            gone = await self._memories.delete_many({"memory_id": memory_id}, session=session)
            tombstone = {"_id": memory_id, "deleted_time": write_time(at)}
            await self._database.collection(TOMBSTONES).insert_one(tombstone, session=session)
        return gone.deleted_count

    # ---------------------------------------------------------------- one memory

    async def get(self, work: Work, memory_id: str, scope: Scope, *, version: int | None = None) -> Memory | None:
        which = _latest(memory_id) if version is None else {"memory_id": memory_id, "version": version}
        return await self._single(work, {**which, **_in_scope(scope)})

    async def record(self, work: Work, memory_id: str, record_id: str, scope: Scope) -> Memory | None:
        return await self._single(work, {"_id": record_id, "memory_id": memory_id, **_in_scope(scope)})

    async def at(self, work: Work, memory_id: str, moment: datetime, scope: Scope) -> Memory | None:
        return await self._single(work, {"memory_id": memory_id, **_then(moment), **_in_scope(scope)})

    async def history(
        self, work: Work, memory_id: str, scope: Scope, *, limit: int, before: int | None = None
    ) -> list[Memory]:
        query: Document = {"memory_id": memory_id, **_in_scope(scope)}
        if before is not None:
            query["version"] = {"$lt": before}
        return await self._many(work, query, sort=[("version", -1)], limit=limit)

    # ---------------------------------------------------------------- many memories

    async def select(
        self, work: Work, selection: Selection, *, limit: int, after: tuple[int, str] | None = None
    ) -> list[Memory]:
        asked = listed(selection, after)
        if asked.rest is None:
            return await self._many(work, asked.query, sort=_NEWEST, limit=limit)
        found: list[Memory] = []
        async for memory in self._passing(work, asked, sort=_NEWEST):
            found.append(memory)
            if len(found) == limit:
                break
        return found

    async def count(self, work: Work, selection: Selection) -> int:
        asked = listed(selection)
        if asked.rest is not None:
            return sum([1 async for _ in self._passing(work, asked)])
        with self._reporting():
            return await self._memories.count_documents(asked.query, session=self._database.joined(work))

    async def hydrate(self, work: Work, memory_ids: Sequence[str], selection: Selection) -> dict[str, Memory]:
        asked = chosen(memory_ids, selection)
        return {memory.memory_id: memory async for memory in self._passing(work, asked)}

    async def records(
        self, work: Work, record_ids: Collection[str], *, predecessors: bool = False
    ) -> list[StoredRecord]:
        wanted = set(record_ids)
        if predecessors:
            wanted |= await self._before(work, wanted)
        found = await self._documents(work, {"_id": {"$in": sorted(wanted)}})
        return sorted((stored(read_document(document)) for document in found), key=_place)

    async def of_memories(self, work: Work, memory_ids: Sequence[str]) -> list[StoredRecord]:
        found = await self._documents(work, {"memory_id": {"$in": sorted(set(memory_ids))}}, sort=_BY_MEMORY)
        return [stored(read_document(document)) for document in found]

    async def scan(self, work: Work, scope: Scope, *, after: str, memories: int) -> list[StoredRecord]:
        ids = await self._documents(
            work, scanned(scope, after), sort=[("memory_id", 1)], limit=memories, fields={"_id": 0, "memory_id": 1}
        )
        return await self.of_memories(work, [document["memory_id"] for document in ids]) if ids else []

    async def existing(self, work: Work, memory_ids: Collection[str]) -> set[str]:
        query = {"memory_id": {"$in": sorted(set(memory_ids))}, "is_latest": True}
        return {each["memory_id"] for each in await self._documents(work, query, fields={"_id": 0, "memory_id": 1})}

    async def about(self) -> dict[str, str]:
        return {
            "MongoDB": self._database.server_version,
            "database": f"{self._database.name}, version {VERSION}",
        }

    # ---------------------------------------------------------------- statements

    @property
    def _memories(self) -> Any:
        return self._database.collection(MEMORIES)

    def _reporting(self) -> Any:
        return reporting(self._database.url)

    async def _single(self, work: Work, query: Document) -> Memory | None:
        with self._reporting():
            found = await self._memories.find_one(query, session=self._database.joined(work))
        return None if found is None else unflatten(read_document(found))

    async def _many(self, work: Work, query: Document, *, sort: list[tuple[str, int]], limit: int) -> list[Memory]:
        found = await self._documents(work, query, sort=sort, limit=limit)
        return [unflatten(read_document(document)) for document in found]

    async def _documents(
        self,
        work: Work,
        query: Document,
        *,
        sort: list[tuple[str, int]] | None = None,
        limit: int = 0,
        fields: Mapping[str, int] | None = None,
    ) -> list[Document]:
        with self._reporting():
            cursor = self._memories.find(query, fields, sort=sort, limit=limit, session=self._database.joined(work))
            return await cursor.to_list()

    async def _passing(
        self, work: Work, asked: Asked, *, sort: list[tuple[str, int]] | None = None
    ) -> AsyncIterator[Memory]:
        """What a query finds and the rest of its filter admits, as it is read."""
        session = self._database.joined(work)
        with self._reporting():
            async with self._memories.find(asked.query, sort=sort, session=session) as cursor:
                async for document in cursor:
                    memory = unflatten(read_document(document))
                    if asked.rest is None or matches(asked.rest, memory.document):
                        yield memory

    async def _before(self, work: Work, record_ids: set[str]) -> set[str]:
        """The ids of the records right before those."""
        pipeline = before(record_ids)
        with self._reporting():
            cursor = await self._memories.aggregate(pipeline, session=self._database.joined(work))
            return {each["_id"] for row in await cursor.to_list() for each in row["before"]}


# ---------------------------------------------------------------- queries


def _latest(memory_id: str) -> Document:
    return {"memory_id": memory_id, "is_latest": True}


def _in_scope(scope: Scope) -> Document:
    query: Document = {f"scope_{dimension}": value for dimension, value in scope.dimensions}
    if scope.tags:
        query["scope_tags"] = {"$all": list(scope.tags)}
    return query


def _then(moment: datetime) -> Document:
    """The records that were the latest at a moment: written by then, and superseded later or never."""
    time = write_time(moment)
    return {"created_time": {"$lte": time}, "superseded_time": {"$not": {"$lte": time}}}


def _filtered(query: Document, selection: Selection) -> Asked:
    if selection.filter is None:
        return Asked(query, None)
    compiled = compile_query(selection.filter, FIELDS)
    if compiled.query:
        query["$and"] = [*query.get("$and", []), compiled.query]
    return Asked(query, None if compiled.exact else selection.filter)


def listed(selection: Selection, after: tuple[int, str] | None = None) -> Asked:
    """The records of a selection, those after a place in the order of listings.

    `is_latest` is named even where both are meant: the indexes have it before the order.
    """
    query = _in_scope(selection.scope)
    query["is_latest"] = True if selection.as_of is None else {"$in": [True, False]}
    if selection.as_of is not None:
        query |= _then(selection.as_of)
    if after is not None:
        version, memory_id = after
        query["version"] = {"$lte": version}
        query["$and"] = [{"$or": [{"version": {"$lt": version}}, {"memory_id": {"$lt": memory_id}}]}]
    return _filtered(query, selection)


def chosen(memory_ids: Sequence[str], selection: Selection) -> Asked:
    """Those of the memories that a selection has."""
    query: Document = {"memory_id": {"$in": sorted(set(memory_ids))}, **_in_scope(selection.scope)}
    query |= {"is_latest": True} if selection.as_of is None else _then(selection.as_of)
    return _filtered(query, selection)


def scanned(scope: Scope, after: str) -> Document:
    """The latest records of the memories after an id."""
    return {"memory_id": {"$gt": after}, "is_latest": True, **_in_scope(scope)}


def before(record_ids: Collection[str]) -> list[Document]:
    """The pipeline to the ids of the records right before those, as `before`."""
    same = {"$eq": ["$memory_id", "$$memory_id"]}
    lower = {"$lt": ["$version", "$$version"]}
    lookup = {
        "from": MEMORIES,
        "let": {"memory_id": "$memory_id", "version": "$version"},
        "pipeline": [
            {"$match": {"$expr": {"$and": [same, lower]}}},
            {"$sort": {"version": -1}},
            {"$limit": 1},
            {"$project": {"_id": 1}},
        ],
        "as": "before",
    }
    return [
        {"$match": {"_id": {"$in": sorted(record_ids)}}},
        {"$project": {"memory_id": 1, "version": 1}},
        {"$lookup": lookup},
        {"$project": {"before": 1}},
    ]


def _place(record: StoredRecord) -> tuple[str, int]:
    return record.memory.memory_id, record.memory.version
