"""recall: memories, conversations and profile in one ranking, on one snapshot."""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memground.embedding import EmbeddingProvider
from memground.filters import Filter
from memground.postgres.engine import Row
from memground.text import fold
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import messages as queries
from neuromem.queries.memories import MemoryScope
from neuromem.ranking import Arms, RankingProfile, top_with_best
from neuromem.services import rows
from neuromem.services.kv import KVService
from neuromem.services.search import ScoredMemories, SearchService
from neuromem.types import (
    DEFAULT_IMPORTANCE,
    PROFILE_NAMESPACE,
    Explanation,
    Hit,
    MergedHit,
    MessageHit,
    RecallResult,
)

_CONTEXT_CANDIDATES = 60
"""Messages whose neighbours are looked up. Those below cannot reach the top by a neighbour's weight alone."""


@dataclass(frozen=True)
class RecallQuestion:
    """What recall is asked, checked."""

    user_id: str
    query: str
    view: View
    limit: int
    memory_types: Sequence[str] | None = None
    where: Filter | None = None
    include_conversations: bool = True

    def scope(self) -> MemoryScope:
        return MemoryScope(self.user_id, self.view, self.memory_types, self.where)


class RecallService:
    """Joins what each arm finds. All reads happen in the session it is given."""

    def __init__(self, session: Session, embedding: EmbeddingProvider, ranking: RankingProfile | None = None) -> None:
        self._session = session
        self._tables = session.tables
        self._ranking = ranking or RankingProfile()
        self._search = SearchService(session, embedding, self._ranking)

    async def recall(
        self, question: RecallQuestion, *, query_embedding: Sequence[float] | None = None, explain: bool = False
    ) -> RecallResult:
        """Everything known about the query; see `NeuroMemory.recall`."""
        checks.name(question.user_id, "user_id")
        checks.query(question.query)
        checks.limit(question.limit)
        scope = question.scope()
        # What needs no vector is read while the query is being embedded.
        async with self._search.query_vector(question.query, query_embedding) as embedding:
            memory_words = await self._search.keyword_arm(scope, question.query)
            message_words = await self._keyword_messages(question)
            profile = await self._fetch_user_profile(question)
            vector = await embedding
        messages = Arms(await self._vector_messages(question, vector), message_words)
        memories = await self._fetch_vector_memories(question, scope, vector, memory_words, messages)
        vector_top = max(memories.vector_top, max(messages.vector.values(), default=0.0))
        keyword_top = max(memories.keyword_top, max(messages.keyword.values(), default=0.0))
        said, best_said = await self._search_conversations(question, messages, vector_top, keyword_top)
        merged = _merge(memories.hits, said)
        merged = top_with_best(merged, question.limit, lambda hit: hit.id, [*memories.best, *best_said])
        vector_results = top_with_best(memories.hits, question.limit, lambda hit: hit.memory.memory_id, memories.best)
        return RecallResult(
            merged=tuple(hit if explain else replace(hit, explanation=None) for hit in merged),
            vector_results=tuple(hit if explain else Hit(hit.memory, hit.score) for hit in vector_results),
            conversation_results=tuple(
                hit if explain else MessageHit(hit.message, hit.score) for hit in said[: question.limit]
            ),
            graph_results=(),
            graph_context="",
            user_profile=profile,
        )

    async def _fetch_vector_memories(
        self,
        question: RecallQuestion,
        scope: MemoryScope,
        vector: Sequence[float],
        keyword: Sequence[tuple[uuid.UUID, float]],
        messages: Arms[uuid.UUID],
    ) -> ScoredMemories:
        tops = (max(messages.vector.values(), default=0.0), max(messages.keyword.values(), default=0.0))
        exact = await self._search.exact(scope)
        return await self._search.scored_search(scope, vector, keyword, limit=question.limit, exact=exact, tops=tops)

    async def _fetch_user_profile(self, question: RecallQuestion) -> dict[str, Any]:
        entries = await KVService(self._session).list(PROFILE_NAMESPACE, question.user_id, question.view)
        return {entry.key: entry.value for entry in entries}

    async def _keyword_messages(self, question: RecallQuestion) -> dict[uuid.UUID, float]:
        if not question.include_conversations:
            return {}
        statement = queries.keyword_arm(
            self._tables,
            question.user_id,
            question.query,
            question.view,
            question.where,
            limit=self._ranking.candidates,
        )
        return {row.id: row.score for row in await self._session.execute(statement)}

    async def _vector_messages(self, question: RecallQuestion, vector: Sequence[float]) -> dict[uuid.UUID, float]:
        if not question.include_conversations:
            return {}
        table = self._tables.conversation_embeddings.table
        mine, passing = queries.vector_conditions(self._tables, question.user_id, question.view, question.where)
        statement = queries.vector_arm(
            self._tables,
            vector,
            [*mine, *passing],
            limit=self._ranking.candidates,
            exact=await self._search.compares_all(table, mine, passing),
        )
        return {row.id: row.score for row in await self._session.execute(statement)}

    async def _search_conversations(
        self, question: RecallQuestion, arms: Arms[uuid.UUID], vector_top: float, keyword_top: float
    ) -> tuple[list[MessageHit], list[str]]:
        """Messages ranked with their surroundings, best first, and the ids of each arm's best."""
        profile, view = self._ranking, question.view
        fused = arms.fused(profile, vector_top=vector_top, keyword_top=keyword_top)
        if not fused:
            return [], []
        turns = await self._turns(question, list(fused))
        best_of_session: dict[str, float] = {}
        for key, turn in turns.items():
            best_of_session[turn.session_id] = max(best_of_session.get(turn.session_id, 0.0), fused[key])
        leading = sorted(turns, key=lambda key: (-fused[key], key))[:_CONTEXT_CANDIDATES]
        beside = await self._beside(question, leading, turns)
        unlisted = arms.unlisted(profile, vector_top=vector_top)
        scored: dict[uuid.UUID, tuple[float, dict[str, float]]] = {}
        for key, turn in turns.items():
            own = fused.get(key, unlisted)
            near = max((weight * fused.get(other, unlisted) for other, weight in beside.get(key, ())), default=0.0)
            session = max(best_of_session[turn.session_id], own)
            parts = {"fused": own, "neighbours": near, "session": session}
            scored[key] = (profile.in_context(**parts, question_share=turn.question_share), parts)
        wanted = sorted(scored, key=lambda key: (-scored[key][0], key))
        best = [next(iter(arm)) for arm in (arms.vector, arms.keyword) if arm]
        # Age may reorder what surroundings ranked, so more are read than are shown.
        read = dict.fromkeys([*wanted[: question.limit + _CONTEXT_CANDIDATES], *best])
        statement = queries.by_ids(self._tables, question.user_id, list(read), view)
        ranks = tuple({key: rank for rank, key in enumerate(arm, 1)} for arm in (arms.vector, arms.keyword))
        hits = [
            self._message_hit(row, scored[row["message_id"]], arms, ranks, view)
            for row in (await self._session.execute(statement)).mappings()
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.message.message_id)), [str(key) for key in best]

    async def _turns(self, question: RecallQuestion, ids: list[uuid.UUID]) -> dict[uuid.UUID, "_Turn"]:
        statement = queries.places(self._tables, question.user_id, ids, question.view)
        rows_found = await self._session.execute(statement)
        return {row.message_id: _Turn(row.session_id, row.question_share) for row in rows_found}

    async def _beside(
        self, question: RecallQuestion, leading: list[uuid.UUID], turns: dict[uuid.UUID, "_Turn"]
    ) -> dict[uuid.UUID, list[tuple[uuid.UUID, float]]]:
        """Who stands next to whom, and how much that counts: an answer owes more to the question before it.

        Neighbours that were no candidates are added to `turns`; with a filter, only those that passed it count.
        """
        beside: dict[uuid.UUID, list[tuple[uuid.UUID, float]]] = {}
        statement = queries.neighbours(self._tables, question.user_id, leading, question.view)
        for row in await self._session.execute(statement):
            if question.where is not None and row.other not in turns:
                continue
            turns.setdefault(row.other, _Turn(row.session_id, row.question_share))
            before, after = (row.other, row.message_id) if row.before else (row.message_id, row.other)
            asked = self._ranking.answer * turns[before].question_share
            beside.setdefault(after, []).append((before, 1.0 + asked))
            beside.setdefault(before, []).append((after, 1.0))
        return beside

    def _message_hit(
        self,
        row: Row,
        scored: tuple[float, dict[str, float]],
        arms: Arms[uuid.UUID],
        ranks: Sequence[Mapping[uuid.UUID, int]],
        view: View,
    ) -> MessageHit:
        profile, key = self._ranking, row["message_id"]
        days = max(0.0, (view.now - row["event_at"]).total_seconds() / 86_400)
        recency = _floored(profile.recency_floor, math.exp(-days / profile.decay_rate))
        importance = _floored(profile.importance_floor, DEFAULT_IMPORTANCE / 10)
        score, parts = scored
        explanation = Explanation(
            vector_rank=ranks[0].get(key),
            vector_score=arms.vector.get(key),
            keyword_rank=ranks[1].get(key),
            keyword_score=arms.keyword.get(key),
            parts={**parts, "recency": recency, "importance": importance},
            notes=() if key in arms.vector or key in arms.keyword else ("found beside a turn that matches",),
        )
        return MessageHit(rows.message(row, view), score * recency * importance, explanation)


@dataclass(frozen=True)
class _Turn:
    """What scoring needs to know of a message."""

    session_id: str
    question_share: float


def _merge(memories: Sequence[Hit], messages: Sequence[MessageHit]) -> list[MergedHit]:
    """One ranking; a content that several sources hold appears once, with the best score and all its sources."""
    entries = [_from_memory(hit) for hit in memories] + [_from_message(hit) for hit in messages]
    entries.sort(key=lambda entry: (-entry.score, entry.id))
    seen: dict[str, MergedHit] = {}
    for entry in entries:
        key = fold(entry.content)
        first = seen.setdefault(key, entry)
        if first is not entry and entry.source not in first.sources:
            seen[key] = replace(first, sources=(*first.sources, entry.source))
    return list(seen.values())


def _from_memory(hit: Hit) -> MergedHit:
    m = hit.memory
    return MergedHit(
        content=m.content,
        score=hit.score,
        source="vector",
        sources=("vector",),
        id=m.memory_id,
        metadata=m.metadata,
        at=m.event_at,
        known_from=m.known_from,
        valid_from=m.valid_from,
        valid_to=m.valid_to,
        explanation=hit.explanation,
    )


def _from_message(hit: MessageHit) -> MergedHit:
    m = hit.message
    return MergedHit(
        content=m.content,
        score=hit.score,
        source="conversation",
        sources=("conversation",),
        id=m.message_id,
        metadata=m.metadata,
        at=m.timestamp,
        known_from=m.known_from,
        speaker=m.speaker,
        explanation=hit.explanation,
    )


def _floored(floor: float, value: float) -> float:
    return floor + (1.0 - floor) * value
