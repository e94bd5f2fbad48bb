"""SearchEngine: plan → arms → fusion → truth."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from memground.clock import Clock
from memground.embedding import EmbeddingProvider, check_vectors
from memground.errors import InvalidInputError, ProviderError, UnavailableError
from memground.text import show
from memground.view import View
from omnimem.models import Explanation, Memory, Scope, SearchHit, SearchQuery, SearchResult
from omnimem.models.cursor import read_cursor, write_cursor
from omnimem.models.filter import ArmHit
from omnimem.search.fusion import rrf, rrf_share
from omnimem.search.query_builder import KEYWORD, MAX_DEPTH, SEMANTIC, Plan, asked_of, plan
from omnimem.storage.base import Candidate, Storage, Work


@dataclass(frozen=True)
class _Arm:
    """One ranked list of candidates, and how much it counts."""

    name: str
    weight: float
    found: Sequence[Candidate]

    @property
    def decided(self) -> bool:
        """Whether the index could tell of each candidate that it passes the filter."""
        return all(candidate.decided for candidate in self.found)


@dataclass(frozen=True)
class _Found:
    """What the arms found, the hits the truth has of it with their scores, and the place behind the last one.

    `missing`: arms that could not be asked, and why.
    """

    planned: Plan
    arms: Sequence[_Arm]
    ranked: Sequence[tuple[str, float]]
    hits: Sequence[tuple[Memory, float]]
    position: int
    missing: dict[str, str] = field(default_factory=dict[str, str])

    def wants_more(self, limit: int) -> bool:
        """Whether candidates that did not pass the filter on truth may have kept others out."""
        short = len(self.hits) < limit and self.planned.depth < MAX_DEPTH
        return short and any(not arm.decided and len(arm.found) >= self.planned.depth for arm in self.arms)


class SearchEngine:
    """Finds memories by meaning, by word, and by filters.

    Indexes only propose; what is returned is what the truth has. So an index that lags shows old hits at worst with
    their new content, and never what was deleted. Indexes that are not beside the truth are asked at the same time, for
    `deadline` seconds at most; without one of them the others answer, and the result says so.
    """

    def __init__(self, storage: Storage, embedding: EmbeddingProvider, clock: Clock, *, deadline: float = 10.0) -> None:
        self._storage = storage
        self._embedding = embedding
        self._clock = clock
        self._deadline = deadline
        self._together = storage.outbox is None

    async def search(
        self, query: SearchQuery, scope: Scope, *, query_embedding: Sequence[float] | None = None
    ) -> SearchResult:
        """The best memories of a scope. Raises InvalidInputError, UnsupportedError, and what the model raises."""
        view = View.of(self._clock, query.as_of)
        if query.text is None:
            return await self._listed(query, scope, view)
        mark = _mark(query, scope)
        known_at, depth, start = view.known_at, None, 0
        if query.cursor is not None:
            began, depth, start = read_cursor(query.cursor, mark, str, int, int)
            known_at = datetime.fromisoformat(began)
        planned = plan(query, scope, known_at, depth, start)
        vector = await self._vector(query.text, query_embedding) if SEMANTIC in planned.weights else None
        found = await self._found(planned, query, vector)
        if found.wants_more(query.limit):
            found = await self._found(replace(planned, depth=MAX_DEPTH), query, vector)
        cursor = None
        if found.position < len(found.ranked):
            cursor = write_cursor([(known_at or view.now).isoformat(), found.planned.depth, found.position], mark)
        shown = tuple(self._hit(memory, score, found.arms, explain=query.explain) for memory, score in found.hits)
        return SearchResult(shown, self._warnings(query.text, found), cursor)

    async def _found(self, planned: Plan, query: SearchQuery, vector: list[float] | None) -> _Found:
        """Asks the arms, and the truth for what they propose."""
        assert query.text is not None
        async with self._moment() as work:
            arms, missing = await self._arms(work, planned, query.text, vector)
            if missing and (query.strict or not arms):
                raise UnavailableError("; ".join(f"the {arm} index: {error}" for arm, error in missing.items()))
            ranked = _fused(arms)
            if work is not None:
                hits, position = await self._hydrated(work, planned, ranked, query.limit)
            else:
                async with self._storage.records.reading() as own:
                    hits, position = await self._hydrated(own, planned, ranked, query.limit)
        return _Found(planned, arms, ranked, hits, position, missing)

    @asynccontextmanager
    async def _moment(self) -> AsyncGenerator[Work | None]:
        """The moment that all stores are read at, where they can be read at one."""
        if self._together:
            async with self._storage.records.reading() as work:
                yield work
        else:
            yield None

    async def _listed(self, query: SearchQuery, scope: Scope, view: View) -> SearchResult:
        """Without a text: what passes the filters, latest change first."""
        mark = _mark(query, scope)
        moment, after = view.known_at, None
        if query.cursor is not None:
            began, version, memory_id = read_cursor(query.cursor, mark, str, int, str)
            moment, after = datetime.fromisoformat(began), (version, memory_id)
        selection = plan(query, scope, moment, None, 0).selection
        async with self._storage.records.reading() as work:
            found = await self._storage.records.select(work, selection, limit=query.limit + 1, after=after)
        cursor = None
        if len(found) > query.limit:
            last = found[query.limit - 1]
            cursor = write_cursor([(moment or view.now).isoformat(), last.version, last.memory_id], mark)
        explanation = Explanation(()) if query.explain else None
        return SearchResult(tuple(SearchHit(memory, 0.0, explanation) for memory in found[: query.limit]), (), cursor)

    async def _vector(self, text: str, given: Sequence[float] | None) -> list[float]:
        dims, model_id = self._embedding.dims, self._embedding.model_id
        if given is None:
            answer = await self._embedding.embed_query(text)
            return check_vectors([answer], count=1, dims=dims, model_id=model_id)[0]
        if isinstance(given, str | bytes) or len(given) != dims:
            raise InvalidInputError(f"query_embedding={show(given)} is not accepted; pass {dims} numbers")
        try:
            return check_vectors([given], count=1, dims=dims, model_id="query_embedding")[0]
        except ProviderError as error:  # a provider's check; here it is the caller's vector
            raise InvalidInputError(str(error)) from None

    async def _arms(
        self, work: Work | None, planned: Plan, text: str, vector: list[float] | None
    ) -> tuple[list[_Arm], dict[str, str]]:
        """The arms that could be asked, and why others could not."""
        if work is not None:
            return [await self._arm(work, planned, name, text, vector) for name in planned.weights], {}

        async def in_time(name: str) -> _Arm | str:
            try:
                async with asyncio.timeout(self._deadline):
                    return await self._arm(None, planned, name, text, vector)
            except TimeoutError:
                return f"no answer within {self._deadline:g} s"
            except UnavailableError as error:
                return str(error)

        found = await asyncio.gather(*(in_time(name) for name in planned.weights))
        missing = {name: arm for name, arm in zip(planned.weights, found, strict=True) if isinstance(arm, str)}
        return [arm for arm in found if not isinstance(arm, str)], missing

    async def _arm(self, work: Work | None, planned: Plan, name: str, text: str, vector: list[float] | None) -> _Arm:
        index = self._storage.vectors if name == SEMANTIC else self._storage.keywords
        selection = asked_of(planned.selection, index.capabilities, name)
        # What is filtered afterwards must be sought for more widely.
        depth = planned.depth if selection.filter == planned.selection.filter else MAX_DEPTH
        if name == SEMANTIC:
            assert vector is not None
            found = await self._storage.vectors.candidates(work, vector, selection, limit=depth)
        else:
            found = await self._storage.keywords.candidates(work, text, selection, limit=depth)
        return _Arm(name, planned.weights[name], found)

    async def _hydrated(
        self, work: Work, planned: Plan, ranked: Sequence[tuple[str, float]], limit: int
    ) -> tuple[list[tuple[Memory, float]], int]:
        """The first hits that the truth has from a place on, and the place behind them."""
        hits: list[tuple[Memory, float]] = []
        position = planned.start
        while len(hits) < limit and position < len(ranked):
            part = ranked[position : position + limit - len(hits)]
            truth = await self._storage.records.hydrate(work, [key for key, _ in part], planned.selection)
            hits += [(truth[key], score) for key, score in part if key in truth]
            position += len(part)
        return hits, position

    def _hit(self, memory: Memory, score: float, arms: Sequence[_Arm], *, explain: bool) -> SearchHit:
        if not explain:
            return SearchHit(memory, score)
        places: list[ArmHit] = []
        indexed: str | None = None
        decided = True
        for arm in arms:
            for rank, found in enumerate(arm.found, start=1):
                if found.memory_id == memory.memory_id:
                    added = rrf_share(rank, arm.weight) if len(arms) > 1 else found.score
                    places.append(ArmHit(arm.name, rank, found.score, added, found.field))
                    decided = decided and found.decided
                    if found.record_id != memory.record_id:
                        indexed = found.record_id
        return SearchHit(memory, score, Explanation(tuple(places), indexed, filtered_on_truth=not decided))

    def _warnings(self, text: str, found: _Found) -> tuple[str, ...]:
        said = [
            f"the {name} index could not be asked, the answer is without it: {error}"
            for name, error in found.missing.items()
        ]
        records = {memory.memory_id: memory.record_id for memory, _ in found.hits}
        behind = {
            c.memory_id for arm in found.arms for c in arm.found if records.get(c.memory_id, c.record_id) != c.record_id
        }
        if behind:
            said.append(f"{len(behind)} hits were found by an earlier record: the indexes follow soon")
        for arm in found.arms:
            index = self._storage.vectors if arm.name == SEMANTIC else self._storage.keywords
            if found.planned.selection.filter is not None and not (index.capabilities.filters and arm.decided):
                said.append(f"the filter was finished on truth: the {arm.name} index cannot apply it")
            if arm.name == KEYWORD and not arm.found and not found.hits:
                said.append(f"no memory shares a word with {show(text)}")
        return tuple(said)


def _fused(arms: Sequence[_Arm]) -> list[tuple[str, float]]:
    """(memory_id, score), best first. One arm keeps its own scores; several are fused by rank."""
    if len(arms) == 1:
        return [(candidate.memory_id, candidate.score) for candidate in arms[0].found]
    scores = rrf([[c.memory_id for c in arm.found] for arm in arms], weights=[arm.weight for arm in arms])
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def _mark(query: SearchQuery, scope: Scope) -> list[Any]:
    """What tells one search from another, the size of its parts aside."""
    plain = replace(query, cursor=None, limit=1, explain=False, strict=False).to_dict()
    return ["search", plain, scope.to_dict()]
