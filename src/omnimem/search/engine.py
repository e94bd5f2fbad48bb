"""SearchEngine: plan → arms → fusion → truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from memground.clock import Clock
from memground.embedding import EmbeddingProvider, check_vectors
from memground.errors import InvalidInputError, ProviderError
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


class SearchEngine:
    """Finds memories by meaning, by word, and by filters.

    Indexes only propose; what is returned is what the truth has. So an index that lags shows old hits at worst with
    their new content, and never what was deleted.
    """

    def __init__(self, storage: Storage, embedding: EmbeddingProvider, clock: Clock) -> None:
        self._storage = storage
        self._embedding = embedding
        self._clock = clock

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
        async with self._storage.records.reading() as work:
            arms = await self._arms(work, planned, query.text, vector)
            ranked = _fused(arms)
            hits, position = await self._hydrated(work, planned, ranked, query.limit)
        cursor = None
        if position < len(ranked):
            cursor = write_cursor([(known_at or view.now).isoformat(), planned.depth, position], mark)
        shown = tuple(self._hit(memory, score, arms, explain=query.explain) for memory, score in hits)
        return SearchResult(shown, self._warnings(query.text, planned, arms, hits), cursor)

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

    async def _arms(self, work: Work, planned: Plan, text: str, vector: list[float] | None) -> list[_Arm]:
        arms: list[_Arm] = []
        for name, weight in planned.weights.items():
            index = self._storage.vectors if name == SEMANTIC else self._storage.keywords
            selection = asked_of(planned.selection, index.capabilities, name)
            within = work if index.capabilities.place == self._storage.records.capabilities.place else None
            # What is filtered afterwards must be sought for more widely.
            depth = planned.depth if selection.filter == planned.selection.filter else MAX_DEPTH
            if name == SEMANTIC:
                assert vector is not None
                found = await self._storage.vectors.candidates(within, vector, selection, limit=depth)
            else:
                found = await self._storage.keywords.candidates(within, text, selection, limit=depth)
            arms.append(_Arm(name, weight, found))
        return arms

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
        for arm in arms:
            for rank, found in enumerate(arm.found, start=1):
                if found.memory_id == memory.memory_id:
                    added = rrf_share(rank, arm.weight) if len(arms) > 1 else found.score
                    places.append(ArmHit(arm.name, rank, found.score, added, found.field))
                    if found.record_id != memory.record_id:
                        indexed = found.record_id
        return SearchHit(memory, score, Explanation(tuple(places), indexed))

    def _warnings(
        self, text: str, planned: Plan, arms: Sequence[_Arm], hits: Sequence[tuple[Memory, float]]
    ) -> tuple[str, ...]:
        found: list[str] = []
        records = {memory.memory_id: memory.record_id for memory, _ in hits}
        behind = {
            c.memory_id for arm in arms for c in arm.found if records.get(c.memory_id, c.record_id) != c.record_id
        }
        if behind:
            found.append(f"{len(behind)} hits were found by an earlier record: the indexes follow soon")
        for arm in arms:
            index = self._storage.vectors if arm.name == SEMANTIC else self._storage.keywords
            if planned.selection.filter is not None and not index.capabilities.filters:
                found.append(f"the filter was finished on truth: the {arm.name} index cannot apply it")
            if arm.name == KEYWORD and not arm.found and not hits:
                found.append(f"no memory shares a word with {show(text)}")
        return tuple(found)


def _fused(arms: Sequence[_Arm]) -> list[tuple[str, float]]:
    """(memory_id, score), best first. One arm keeps its own scores; several are fused by rank."""
    if len(arms) == 1:
        return [(candidate.memory_id, candidate.score) for candidate in arms[0].found]
    scores = rrf([[c.memory_id for c in arm.found] for arm in arms], weights=[arm.weight for arm in arms])
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def _mark(query: SearchQuery, scope: Scope) -> list[Any]:
    """What tells one search from another, the size of its parts aside."""
    plain = replace(query, cursor=None, limit=1, explain=False).to_dict()
    return ["search", plain, scope.to_dict()]
