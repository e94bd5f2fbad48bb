"""Adding memories and finding them again."""

import asyncio
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any

from sqlalchemy import insert

from memground.clock import Stamp
from memground.embedding import EmbeddingProvider, check_vectors
from memground.errors import InvalidInputError, MemoryStoreError, ProviderError
from memground.postgres import versioned
from memground.postgres.arms import Scan, approximate_settings
from memground.postgres.engine import Query, Row
from memground.text import check_text, show
from memground.view import View
from memground.words import asked, keys, words
from neuromem import checks
from neuromem.db import Session
from neuromem.models import Tables
from neuromem.queries import memories as queries
from neuromem.queries.scope import Scope, Shape
from neuromem.ranking import RankingProfile, top_with_best
from neuromem.ranking.times import TimeRange, of_the_time, time_ranges
from neuromem.services import rows
from neuromem.services.memories import MemoryService, checked_sources
from neuromem.types import DEFAULT_IMPORTANCE, DEFAULT_ORIGIN, Explanation, Hit, Memory, MemoryRef, NewMemory, Source

UNCHANGED: Any = object()
"""Default of `update`: leave the field as it is (None would mean: clear it)."""


@dataclass(frozen=True)
class ScoredMemories:
    """What `scored_search` found: hits best first, and the best score of either arm (0 where it found nothing)."""

    hits: list[Hit]
    best: list[str]


class SearchService:
    """Memories in and out by meaning and by word."""

    def __init__(self, session: Session, embedding: EmbeddingProvider, ranking: RankingProfile | None = None) -> None:
        self._session = session
        self._tables = session.tables
        self._embedding = embedding
        self._ranking = ranking or RankingProfile()

    async def add(
        self,
        user_id: str,
        memories: Sequence[NewMemory],
        *,
        origin: str = DEFAULT_ORIGIN,
        stored: Collection[uuid.UUID] = (),
    ) -> list[Memory]:
        """Embeds (one batch) and stores memories, all or none; returns them in order.

        A memory whose `external_id` the user already has is not stored again; the stored one is returned in its place.
        `stored`: what `stored` said a moment ago, so that nothing is embedded in vain.
        """
        checks.name(user_id, "user_id")
        # Checked and embedded before the first statement: no connection is held while the model works.
        stamp = self._session.stamp(origin)
        new = [memory_row(user_id, memory, stamp) for memory in memories]
        links = {row["memory_id"]: checked_sources(m.sources) for row, m in zip(new, memories, strict=True)}
        if not new:
            return []
        await self._embed_rows(row for row in new if row["memory_id"] not in stored)
        named = [row["memory_id"] for row, m in zip(new, memories, strict=True) if m.external_id is not None]
        return await self.store(user_id, new, links, named, stamp)

    async def store(
        self,
        user_id: str,
        new: Sequence[dict[str, Any]],
        links: Mapping[uuid.UUID, Sequence[Source]],
        named: Sequence[uuid.UUID],
        stamp: Stamp,
        *,
        held: bool = False,
    ) -> list[Memory]:
        """Stores rows of `memory_row` that have their vectors, and what they came from; returns them in order.

        `named`: those an external id names; where one is current, it is returned as it is. `held`: the caller holds
        these names, so that nobody else adds them at the same time.
        """
        await self._session.hold(user_id)
        if named and not held:
            # Who adds a new external id has no row to lock: they queue here, the later ones then find the row.
            await versioned.lock_name(self._session, f"{self._tables.embeddings.table.fullname}/{user_id}/external")
        there = await self._placed(user_id, new, named, stamp) if named else {}
        fresh = {row["memory_id"]: row for row in reversed(new) if row["memory_id"] not in there}  # the first counts
        links = {key: links[key] for key in fresh}
        service = MemoryService(self._session)
        if fresh:
            since = await service.sources_known_since(user_id, links)
            for key, row in fresh.items():
                if (known_from := since.get(key, row["known_from"])) > row["known_from"]:
                    row |= {"known_from": known_from, "event_at": row["valid_from"] or known_from}
            await service.link_sources(user_id, links, {key: row["known_from"] for key, row in fresh.items()}, stamp)
            ordered = [row for row in new if fresh.get(row["memory_id"]) is row]
            await self._session.execute(insert(self._tables.embeddings.table), ordered)
        view = View(now=stamp.at)
        sources = {**links, **await service.sources(Scope(user_id, view), list(there))}
        found = (there.get(row["memory_id"]) or fresh[row["memory_id"]] for row in new)
        return [rows.memory(row, view, sources.get(row["memory_id"], ())) for row in found]

    async def stored(self, user_id: str, external_ids: Sequence[str]) -> set[uuid.UUID]:
        """The ids of the memories the user already has under these external ids."""
        checks.name(user_id, "user_id")
        return set(await self._current(user_id, [external_key(user_id, name) for name in external_ids]))

    async def _placed(
        self, user_id: str, new: Sequence[dict[str, Any]], named: Sequence[uuid.UUID], stamp: Stamp
    ) -> dict[uuid.UUID, Row]:
        """The current rows of external ids; what was there once begins after its end."""
        there = await self._current(user_id, named)
        ends = versioned.ends(self._tables.embeddings, self._tables.embeddings.table.c.user_id == user_id, named)
        ended = {row.key: row for row in await self._session.execute(ends)}
        for row in new:
            key = row["memory_id"]
            if key in ended and key not in there:
                start = max(row["known_from"], ended[key].ended)
                row |= {"version": max(stamp.version, ended[key].newest + 1), "known_from": start}
                row["event_at"] = row["valid_from"] or start
        vector = self._tables.vector_column
        # Taken back since `stored` looked; seldom enough to embed while the connection waits.
        await self._embed_rows(row for row in new if row["memory_id"] not in there and vector not in row)
        return there

    async def _current(self, user_id: str, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Row]:
        if not ids:
            return {}
        found = await self._session.execute(queries.current(self._tables, user_id, ids))
        return {row["memory_id"]: row for row in found.mappings()}

    async def _embed_rows(self, new: Iterable[dict[str, Any]]) -> None:
        texts = list(new)
        if texts:
            for row, vector in zip(texts, await self.embed([row["content"] for row in texts]), strict=True):
                row[self._tables.vector_column] = vector

    async def update(
        self, user_id: str, memory_id: MemoryRef, changes: dict[str, Any], *, known_at: Any = None, origin: str
    ) -> Memory:
        """Appends a version with the given fields changed; equal content changes nothing. Raises NotFoundError."""
        values = _changes(changes)
        vector = (await self.embed([values["content"]]))[0] if "content" in values else None
        service = MemoryService(self._session)
        row = await service.locked(user_id, memory_id)
        stamp = self._session.stamp(origin)
        start = None if known_at is None else versioned.check_known(known_at, stamp)
        valid_from, _ = checks.validity(
            values.get("valid_from", row["valid_from"]), values.get("valid_to", row["valid_to"])
        )
        if vector is not None and values["content"] != row["content"]:
            values |= {self._tables.vector_column: vector, "words": keys(user_id, words(values["content"]))}
            # Other words are news: their age counts from now, unless they say since when they hold.
            values["event_at"] = valid_from or start or max(stamp.at, row["known_from"])
        elif "valid_from" in values and valid_from is not None:
            values["event_at"] = valid_from
        vt, owned = self._tables.embeddings, queries.owned(self._tables, user_id, row["memory_id"])
        now = await versioned.append(self._session, vt, row, values, stamp, where=owned, known_from=start)
        view = View(now=stamp.at)
        sources = await service.sources(Scope(user_id, view), [row["memory_id"]])
        return rows.memory(now, view, sources.get(row["memory_id"], ()))

    async def search(
        self,
        scope: Scope,
        query: str,
        *,
        limit: int,
        query_embedding: Sequence[float] | None,
        explain: bool,
        timezone: tzinfo = UTC,
    ) -> list[Hit]:
        """The best memories for a query; the times it names are those of the zone's clocks."""
        checks.name(scope.user_id, "user_id")
        checks.query(query)
        checks.limit(limit)
        times = time_ranges(query, scope.view.now, timezone)
        async with self.query_vector(query, query_embedding) as embedding:
            keyword = await self.keyword_arm(scope, query)
            scan = await self.scan(scope)
            found = await self.scored_search(
                scope, await embedding, keyword, limit=limit, scan=scan, times=times, explain=explain
            )
        hits = top_with_best(found.hits, limit, lambda hit: hit.memory.memory_id, found.best)
        return [hit if explain else Hit(hit.memory, hit.score) for hit in hits]

    async def keyword_arm(self, scope: Scope, query: str) -> list[tuple[uuid.UUID, float]]:
        """(version row id, score) of the memories that share a word with the query, best first."""
        if not (words := keys(scope.user_id, asked(query))):
            return []
        statement = queries.keyword_arm(self._tables, scope.shape, self._ranking.candidates)
        found = await self._session.fetch(statement, scope.values(words=words))
        return [(row["id"], row["score"]) for row in found]

    async def scan(self, scope: Scope) -> Scan:
        """How the nearest of the memories in the scope are found."""
        statement = queries.best_scan(self._tables, Shape(), self._ranking.candidates)
        best = Scan((await self._session.fetch(statement, scope.values()))[0]["scan"])
        found = await self.narrowed_scan(scope, best, queries.is_few)
        await self.widen(found)
        return found

    async def narrowed_scan(self, scope: Scope, best: Scan, is_few: Callable[[Tables, Shape], Query]) -> Scan:
        """The scan for what passes the scope's filter: an exact one where so little does that all of it is compared."""
        if best is Scan.EXACT:
            return best
        shape = scope.shape
        filtered = shape.typed or shape.valid or shape.in_files or shape.where is not None
        if filtered and await self._session.scalar(is_few(self._tables, shape), scope.values()):
            return Scan.EXACT
        return best

    async def widen(self, *scans: Scan) -> None:
        """Tells the indexes to look as far as they must, where one of these scans asks an index."""
        if set(scans) != {Scan.EXACT}:
            await self._session.fetch(approximate_settings(self._ranking.candidates), {})

    async def scored_search(
        self,
        scope: Scope,
        vector: Sequence[float],
        keyword: Sequence[tuple[uuid.UUID, float]],
        *,
        limit: int,
        scan: Scan = Scan.EXACT,
        tops: tuple[float, float] = (0.0, 0.0),
        times: Sequence[TimeRange] = (),
        explain: bool = True,
    ) -> ScoredMemories:
        """The fusion of both arms in SQL; see `RankingProfile`.

        `tops`: the best vector and keyword score found elsewhere, so that scores compare with what is ranked there.
        `times`: those the query names. `explain`: whether the hits say why they stand where they do.
        """
        values = scope.values(
            vector=vector,
            keyword_ids=[row[0] for row in keyword],
            keyword_scores=[row[1] for row in keyword],
            vector_top=tops[0],
            keyword_top=tops[1],
            limit=limit,
            time_from=[named.seconds[0] for named in times],
            time_to=[named.seconds[1] for named in times],
            time_yearly=[named.yearly for named in times],
        )
        statement = queries.scored(self._tables, scope.shape, self._ranking, scan=scan, timed=bool(times))
        found = await self._session.fetch(statement, values)
        hits = [
            Hit(
                rows.memory(row, scope.view, [Source(*source) for source in row["sources"] or ()]),
                row["score"],
                _explain(row, times) if explain else None,
            )
            for row in found
        ]
        best = [str(row["memory_id"]) for row in found if 1 in (row["vector_rank"], row["keyword_rank"])]
        return ScoredMemories(hits, best)

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """Vectors of texts, checked."""
        provider = self._embedding
        with _naming_failures(provider):
            vectors = await provider.embed_batch(texts)
        return check_vectors(vectors, count=len(texts), dims=provider.dims, model_id=provider.model_id)

    @asynccontextmanager
    async def query_vector(self, query: str, given: Sequence[float] | None):
        """An awaitable vector of the query, embedded while the block reads what needs no vector."""
        if given is not None:
            future: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
            future.set_result(checks.vector(given, self._tables.dims))
            yield future
            return
        # Begun at once: else it would wait until the first statement is sent.
        task = asyncio.Task(self._embed_query(query), loop=asyncio.get_running_loop(), eager_start=True)
        try:
            yield task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            elif not task.cancelled():
                task.exception()  # known; another error may have come first

    async def _embed_query(self, query: str) -> list[float]:
        provider = self._embedding
        with _naming_failures(provider):
            vector = await provider.embed_query(query)
        return check_vectors([vector], count=1, dims=provider.dims, model_id=provider.model_id)[0]


@contextmanager
def _naming_failures(provider: EmbeddingProvider) -> Generator[None]:
    """Whatever a provider raises becomes an error of ours."""
    try:
        yield
    except MemoryStoreError:
        raise
    except Exception as error:  # a provider is the user's code and may raise anything
        raise ProviderError(f"{provider.model_id} failed: {type(error).__name__}: {error}") from error


def memory_row(user_id: str, memory: NewMemory, stamp: Stamp) -> dict[str, Any]:
    """A new memory as a row without its vector; checked."""
    if not isinstance(memory, NewMemory):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"a memory must be a str or a NewMemory, got {type(memory).__name__} {show(memory)}")
    valid_from, valid_to = checks.validity(memory.valid_from, memory.valid_to)
    known_from = versioned.check_known(memory.known_at, stamp)
    values = {
        "memory_id": uuid.uuid4() if memory.external_id is None else external_key(user_id, memory.external_id),
        "user_id": user_id,
        "content": check_text(memory.content, "content"),
        "words": keys(user_id, words(memory.content)),
        "memory_type": checks.name(memory.memory_type, "memory_type", limit=50),
        "metadata_": checks.metadata(memory.metadata),
        "importance": DEFAULT_IMPORTANCE if memory.importance is None else checks.importance(memory.importance),
        "valid_from": valid_from,
        "valid_to": valid_to,
        "event_at": valid_from or known_from,
    }
    return versioned.new_row(stamp, values, known_from=known_from)


def external_key(user_id: str, external_id: str) -> uuid.UUID:
    """The id of the memory a user's external id names, always the same."""
    checks.name(external_id, "external_id")
    return uuid.uuid5(uuid.NAMESPACE_OID, f"memory/{len(user_id)}/{user_id}{external_id}")


def _changes(changes: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in changes.items() if value is not UNCHANGED}
    if not given:
        raise InvalidInputError(f"nothing to update; pass at least one of {', '.join(changes)}")
    values: dict[str, Any] = {}
    for field, value in given.items():
        match field:
            case "content":
                values["content"] = check_text(value, "content")
            case "memory_type":
                values["memory_type"] = checks.name(value, "memory_type", limit=50)
            case "metadata":
                values["metadata_"] = checks.metadata(value)
            case "importance":
                values["importance"] = checks.importance(value)
            case _:
                values[field] = checks.moment(value, field)
    return values


def _explain(row: Any, times: Sequence[TimeRange]) -> Explanation:
    notes: list[str] = []
    if row["ended"] < 1.0:
        notes.append(f"no longer true since {row['valid_to'].date().isoformat()}")
    if times and row["time"] == 1.0:
        notes.append(of_the_time(times))
    if row["vector_rank"] is None:
        notes.append("found by its words only")
    elif row["keyword_rank"] is None:
        notes.append("found by its meaning only")
    parts = {
        "fused": row["fused"],
        "recency": row["recency"],
        "importance": row["importance_factor"],
        "ended": row["ended"],
    }
    return Explanation(
        vector_rank=row["vector_rank"],
        vector_score=row["vector_score"],
        keyword_rank=row["keyword_rank"],
        keyword_score=row["keyword_score"],
        parts=parts | {"time": row["time"]} if times else parts,
        notes=tuple(notes),
    )
