"""Words in Elasticsearch: BM25 over the words of each memory, and of what it was."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from memground.errors import ConfigurationError, InvalidInputError, UnavailableError
from memground.words import asked
from omnimem.storage.base import (
    Candidate,
    Capabilities,
    KeywordContent,
    KeywordEntry,
    KeywordIndex,
    Selection,
    Work,
)
from omnimem.storage.elasticsearch.conditions import DECIDED, condition
from omnimem.storage.elasticsearch.connection import Connection, MissingIndexError, Refusal, Write
from omnimem.storage.elasticsearch.documents import document, encoded, opaque, reduced, scope_filters
from omnimem.storage.elasticsearch.facts import microseconds, moment
from omnimem.storage.elasticsearch.indexes import Indexes
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings

_log = logging.getLogger("omnimem.storage")
_LAST = 2**63 - 1
"""The version of a tombstone: nothing is newer."""
_BATCH = 500
"""Records described at once."""
_PAGE = 1_000
_MAX_WORDS = 300
"""Different words of a question that are looked for."""
_MAX_ID = 512
"""Bytes an id of Elasticsearch's has at most."""
_HASHED = "sha256:"
_IDS = ["memory_id", "record_id"]
_CREATED, _SUPERSEDED = "created_time__long", "superseded_time__long"


type _Written = Callable[[KeywordEntry], dict[str, Any]]


class ElasticsearchKeywords(KeywordIndex):
    """The latest record of each memory in one index, under its memory_id; superseded ones in another, by record_id.

    Elasticsearch keeps the newest version of a document and refuses older ones; a removed memory leaves a tombstone
    that is newer than any. No write is in a transaction: `work` must be None.
    """

    def __init__(self, settings: ElasticsearchSettings) -> None:
        self.connection = Connection(settings)
        self.indexes = Indexes(self.connection)

    async def open(self) -> None:
        """Connects and makes the indexes where they are missing: now, or where the cluster is away when it is first
        used. Raises ConfigurationError for one that cannot be used."""
        self.connection.prepare = self.indexes.ensure
        self.connection.open()
        try:
            await self.connection.ready()
        except UnavailableError as error:
            _log.warning("going on without it for now: %s", error)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self.connection.close()

    @property
    def location(self) -> str:
        """The address in use, without a password."""
        return self.connection.settings.location

    @property
    def capabilities(self) -> Capabilities:
        place = f"elasticsearch {self.location}/{self.connection.settings.prefix}"
        return Capabilities(place, filters=True, as_of=True, retires=False)

    # ---------------------------------------------------------------- writes

    async def apply(self, work: Work | None, entries: Sequence[KeywordEntry], *, refresh: bool = False) -> None:
        _alone(work)
        for start in range(0, len(entries), _BATCH):
            part = entries[start : start + _BATCH]
            await self._everywhere(lambda suffix, part=part: self._apply(part, suffix, refresh))

    async def remove(self, work: Work | None, memory_ids: Iterable[str]) -> None:
        _alone(work)
        if ids := sorted(set(memory_ids)):
            await self._everywhere(lambda suffix: self._remove(ids, suffix))

    async def reset(self, work: Work | None, memory_ids: Iterable[str]) -> None:
        _alone(work)
        if ids := sorted(set(memory_ids)):
            await self._everywhere(lambda suffix: self._forget(ids, suffix))

    async def refresh(self) -> None:
        """Makes all that was written findable now rather than within the refresh interval."""
        await self.indexes.refresh(self.indexes.both)

    async def _everywhere(self, write: Callable[[str], Awaitable[None]]) -> None:
        """Writes to the indexes in use, and before to those that are being made; these may be in use meanwhile."""
        for suffix in await self.indexes.written():
            if suffix:
                with suppress(MissingIndexError):
                    await write(suffix)
            else:
                await _in_use(partial(write, suffix))

    async def _apply(self, entries: Sequence[KeywordEntry], suffix: str, refresh: bool) -> None:
        # A tombstone guards its memory's place among the memories. The history is guarded by looking: before, so that
        # nothing shows for a moment, and afterwards, because the memory may have been removed in between.
        past = {entry.record.memory_id for entry in entries if entry.record.superseded_time is not None}
        gone = await self._removed(past, suffix)
        kept = [entry for entry in entries if entry.record.memory_id not in gone]
        for written in (document, reduced, opaque):
            # The mapping may refuse the fields of a record (it has too many nested ones, say), never those all have.
            # In a thread: describing a large record takes a second, in which leases want to be renewed.
            writes = await asyncio.to_thread(self._puts, kept, written, suffix)
            refused = {failure.write: failure for failure in await self._write(writes, refresh=refresh)}
            kept = [entry for entry, write in zip(kept, writes, strict=True) if write in refused]
            if not kept:
                break
        else:
            raise _refusal(kept[0], next(iter(refused.values())))
        if left := await self._removed(past - gone, suffix):
            await self._clear(sorted(left), suffix)

    def _puts(self, entries: Sequence[KeywordEntry], written: _Written, suffix: str) -> list[Write]:
        return [self._put(entry, encoded(written(entry)), suffix) for entry in entries]

    def _put(self, entry: KeywordEntry, written: bytes, suffix: str) -> Write:
        record = entry.record
        if record.superseded_time is not None:
            return Write("create", self.indexes.history + suffix, _id(record.record_id), {}, written)
        newer = {"version": record.version, "version_type": "external"}
        return Write("index", self.indexes.memories + suffix, _id(record.memory_id), newer, written)

    async def _remove(self, ids: Sequence[str], suffix: str) -> None:
        newest = {"version": _LAST, "version_type": "external_gte"}
        current = self.indexes.memories + suffix
        stones = [encoded({"memory_id": key, "removed": True}) for key in ids]
        # What was removed is not proposed any more, not even for the refresh interval.
        await self._write(
            [Write("index", current, _id(key), newest, stone) for key, stone in zip(ids, stones, strict=True)],
            refresh=True,
        )
        await self._clear(ids, suffix)

    async def _forget(self, ids: Sequence[str], suffix: str) -> None:
        newest = {"version": _LAST, "version_type": "external_gte"}
        current = self.indexes.memories + suffix
        await self._write([Write("delete", current, _id(key), newest) for key in ids])
        await self._clear(ids, suffix)

    async def _clear(self, ids: Sequence[str], suffix: str) -> None:
        """Deletes all that the history has of some memories."""
        history = self.indexes.history + suffix
        await self.indexes.refresh(history)
        found = [hit["_id"] async for hit in self._hits(history, {"terms": {"memory_id": list(ids)}})]
        await self._write([Write("delete", history, key, {}) for key in found], refresh=True)

    async def _removed(self, ids: Iterable[str], suffix: str) -> set[str]:
        """Those of the memories that have a tombstone."""
        wanted = {_id(key): key for key in ids}
        if not wanted:
            return set()
        index = self.indexes.memories + suffix
        answer = await self.connection.run(
            lambda client: client.mget(index=index, ids=list(wanted), source_includes=["removed"])
        )
        return {wanted[found["_id"]] for found in answer["docs"] if found.get("_source", {}).get("removed")}

    async def _write(self, writes: Sequence[Write], *, refresh: bool = False) -> list[Refusal]:
        """Does the writes; returns what the mapping refused. What is stale, or there already, is as it should be."""
        refused: list[Refusal] = []
        for failure in await self.connection.bulk(writes, refresh=refresh):
            if failure.status == _CONFLICT:
                continue
            if failure.status == _MISSING:
                raise self.connection.missing(failure.write.index)
            if failure.status != _MALFORMED:
                raise UnavailableError(
                    f"Elasticsearch at {self.location} takes no writes into {failure.write.index}: {failure.reason}"
                )
            refused.append(failure)
        return refused

    # ---------------------------------------------------------------- reads

    async def contents(self, work: Work | None, memory_ids: Sequence[str]) -> dict[str, KeywordContent]:
        _alone(work)
        await self.refresh()
        found: dict[str, KeywordContent] = {}
        for start in range(0, len(memory_ids), _PAGE):
            query = {"bool": {"filter": [{"terms": {"memory_id": list(memory_ids[start : start + _PAGE])}}, _THERE]}}
            async for hit in self._hits(self.indexes.both, query):
                fields = hit["fields"]
                end = fields.get(_SUPERSEDED)
                content = KeywordContent(
                    fields["memory_id"][0], moment(end[0]) if end else None, fields["content_hash"][0]
                )
                # A record that was superseded may still be the newest one known, and is in both.
                if content.superseded_time is not None or fields["record_id"][0] not in found:
                    found[fields["record_id"][0]] = content
        return found

    async def memory_ids(self, work: Work | None, *, after: str, limit: int) -> list[str]:
        _alone(work)
        await self.refresh()
        hits = await self.connection.search(
            self.indexes.both,
            {"bool": {"filter": [_THERE]}},
            sort=[{"memory_id": "asc"}],
            collapse={"field": "memory_id"},
            size=limit,
            search_after=[after] if after else None,
        )
        return [hit["sort"][0] for hit in hits]

    async def candidates(self, work: Work | None, query: str, selection: Selection, *, limit: int) -> list[Candidate]:
        _alone(work)
        if not (looked := asked(query)[:_MAX_WORDS]):
            return []
        conditions = list(scope_filters(selection.scope))
        if selection.filter is not None:
            conditions.append(condition(selection.filter))
        options: dict[str, Any] = {}
        if (then := selection.as_of) is not None:
            at = microseconds(then)
            ended = {"range": {_SUPERSEDED: {"lte": at}}}
            conditions += [{"range": {_CREATED: {"lte": at}}}, {"bool": {"must_not": [ended]}}]
            # Each index counts how rare a word is in itself; together they have to agree.
            options = {"collapse": {"field": "memory_id"}, "search_type": "dfs_query_then_fetch"}
        index = self.indexes.memories if then is None else self.indexes.both
        matching = {"match": {"words": {"query": " ".join(looked), "operator": "or"}}}
        hits = await _in_use(
            lambda: self.connection.search(
                index,
                {"bool": {"must": [matching], "filter": conditions}},
                size=limit,
                docvalue_fields=_IDS,
                **options,
            )
        )
        found = [
            Candidate(
                hit["fields"]["memory_id"][0],
                hit["fields"]["record_id"][0],
                float(hit["_score"]),
                decided=selection.filter is None or DECIDED in hit.get("matched_queries", ()),
            )
            for hit in hits
        ]
        return sorted(found, key=lambda candidate: (-candidate.score, candidate.memory_id))

    async def _hits(self, index: str, query: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """All documents that satisfy a query, in parts; what was written after the last refresh aside."""
        after: list[Any] | None = None
        while True:
            hits = await self.connection.search(
                index,
                query,
                sort=[{"record_id": "asc"}, {_SUPERSEDED: {"order": "asc", "missing": "_last"}}],
                size=_PAGE,
                docvalue_fields=[*_IDS, "content_hash", _SUPERSEDED],
                search_after=after,
            )
            for hit in hits:
                yield hit
            if len(hits) < _PAGE:
                return
            after = hits[-1]["sort"]

    # ---------------------------------------------------------------- lives of the indexes

    @asynccontextmanager
    async def rebuilding(self) -> AsyncGenerator[None]:
        """Makes the indexes anew while the old ones are searched.

        Whatever is written in the block, here or in other programs, goes into the old and the new ones; apply every
        record of the truth in it. At its end the new ones take the old ones' place at once. After an error, or a
        crash, the next rebuild goes on with what is there; `abandon` gives it up. Two at once do the same work.
        """
        await self.indexes.begin()
        yield
        try:
            await self._copy_tombstones()
            await self.indexes.refresh(self.indexes.memories + self.indexes.next)
            await self.indexes.refresh(self.indexes.history + self.indexes.next)
            await self.indexes.switch()
        except MissingIndexError:
            if await self.indexes.building():
                raise  # else somebody else's rebuild was as far, and switched

    async def abandon(self) -> bool:
        return await self.indexes.abandon()

    async def drop(self) -> None:
        """Deletes the indexes. Nothing but a rebuild from the truth brings them back."""
        await self.indexes.drop()

    async def about(self) -> dict[str, str]:
        """What an operator asks first: the server's version, and the indexes with their documents and size."""
        return {"Elasticsearch": self.connection.version, **await self.indexes.about()}

    async def _copy_tombstones(self) -> None:
        await self.indexes.refresh(self.indexes.memories)
        after: list[Any] | None = None
        while hits := await self.connection.search(
            self.indexes.memories,
            {"term": {"removed": True}},
            sort=[{"memory_id": "asc"}],
            size=_PAGE,
            search_after=after,
        ):
            after = hits[-1]["sort"]
            await self._remove([hit["sort"][0] for hit in hits], self.indexes.next)


_THERE = {"exists": {"field": "record_id"}}
"""No tombstone."""
_CONFLICT, _MISSING, _MALFORMED = 409, 404, 400


async def _in_use[T](call: Callable[[], Awaitable[T]]) -> T:
    """A call on the indexes in use, made again where a switch deleted one in its middle: another stands there then."""
    try:
        return await call()
    except MissingIndexError:
        return await call()


def _alone(work: Work | None) -> None:
    if work is not None:
        raise ConfigurationError("a transaction of another store was handed to Elasticsearch; pass None")


def _id(key: str) -> str:
    """The id of a document: the memory's or the record's own, or a hash where that is too long for Elasticsearch."""
    if len(key.encode()) <= _MAX_ID and not key.startswith(_HASHED):
        return key
    return _HASHED + hashlib.sha256(key.encode()).hexdigest()


def _refusal(entry: KeywordEntry, failure: Refusal) -> InvalidInputError:
    return InvalidInputError(
        f"record {entry.record.record_id} of memory {entry.record.memory_id} cannot be indexed: Elasticsearch refused "
        f"it ({failure.status} {failure.kind}: {failure.reason})"
    )
