"""recall: memories, conversations and profile in one ranking, on one snapshot."""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memground.embedding import EmbeddingProvider
from memground.filters import Filter
from memground.postgres.engine import Row
from memground.postgres.versioned import known
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
            merged=tuple(hit if explain else _bare_merged(hit) for hit in merged),
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
        exact = await self._search.exact(question.user_id, question.view)
        return await self._search.scored_search(scope, vector, keyword, limit=question.limit, exact=exact, tops=tops)

    async def _fetch_user_profile(self, question: RecallQuestion) -> dict[str, Any]:
        entries = await KVService(self._session).list(PROFILE_NAMESPACE, question.user_id, question.view)
        return {entry.key: entry.value for entry in entries}

    async def _keyword_messages(self, question: RecallQuestion) -> dict[uuid.UUID, float]:
        if not question.include_conversations:
            return {}
        statement = queries.keyword_arm(
            self._tables, question.user_id, question.query, question.view, question.where, self._ranking.candidates
        )
        return {row.id: row.score for row in await self._session.execute(statement)}

    async def _vector_messages(self, question: RecallQuestion, vector: Sequence[float]) -> dict[uuid.UUID, float]:
        if not question.include_conversations:
            return {}
        table = self._tables.conversation_embeddings.table
        mine = [table.c.user_id == question.user_id, known(table, question.view)]
        statement = queries.vector_arm(
            self._tables,
            question.user_id,
            vector,
            question.view,
            question.where,
            limit=self._ranking.candidates,
            exact=await self._search.compares_all(mine, table),
        )
        found = {row.id: row.score for row in await self._session.execute(statement)}
        # Approximate scans may yield out of order.
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    async def _search_conversations(
        self, question: RecallQuestion, arms: Arms[uuid.UUID], vector_top: float, keyword_top: float
    ) -> tuple[list[MessageHit], list[str]]:
        """Messages ranked with their surroundings, best first, and the ids of each arm's best."""
        profile, view = self._ranking, question.view
        fused = arms.fused(profile, vector_top=vector_top, keyword_top=keyword_top)
        if not fused:
            return [], []
        places = await self._places(question, list(fused))
        best_of_session: dict[str, float] = {}
        for key, place in places.items():
            session_id = place["session_id"]
            best_of_session[session_id] = max(best_of_session.get(session_id, 0.0), fused[key])
        leading = sorted(places, key=lambda key: (-fused[key], key))[:_CONTEXT_CANDIDATES]
        around = await self._neighbours(question, leading, places)
        unlisted = profile.vector_weight * max(0.0, arms.vector_floor / vector_top if vector_top > 0 else 0.0)
        scored: dict[uuid.UUID, tuple[float, dict[str, float]]] = {}
        for key, session_id in {**{k: p["session_id"] for k, p in places.items()}, **around.sessions}.items():
            own = fused.get(key, unlisted)
            near = max((fused.get(other, unlisted) for other in around.of.get(key, ())), default=0.0)
            session = max(best_of_session[session_id], own)
            total = own + profile.neighbour * near + profile.session * session
            scored[key] = (
                total / (1.0 + profile.neighbour + profile.session),
                {"fused": own, "neighbours": near, "session": session},
            )
        wanted = sorted(scored, key=lambda key: (-scored[key][0], key))
        best = [next(iter(arm)) for arm in (arms.vector, arms.keyword) if arm]
        shown = dict.fromkeys([*wanted[: question.limit + _CONTEXT_CANDIDATES], *best])
        statement = queries.by_ids(self._tables, question.user_id, list(shown), view)
        hits = [
            self._message_hit(row, scored[row["message_id"]], arms, view)
            for row in (await self._session.execute(statement)).mappings()
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.message.message_id)), [str(key) for key in best]

    async def _places(self, question: RecallQuestion, ids: list[uuid.UUID]) -> dict[uuid.UUID, Row]:
        statement = queries.places(self._tables, question.user_id, ids, question.view)
        return {row["message_id"]: row for row in (await self._session.execute(statement)).mappings()}

    async def _neighbours(
        self, question: RecallQuestion, leading: list[uuid.UUID], places: Mapping[uuid.UUID, Any]
    ) -> "_Around":
        """Who stands next to the leading messages; with a filter, only those that passed it."""
        of: dict[uuid.UUID, list[uuid.UUID]] = {}
        sessions: dict[uuid.UUID, str] = {}
        statement = queries.neighbours(self._tables, question.user_id, leading, question.view)
        for row in await self._session.execute(statement):
            for other in (row.previous, row.following):
                if other is None or (question.where is not None and other not in places):
                    continue
                of.setdefault(row.message_id, []).append(other)
                of.setdefault(other, []).append(row.message_id)
                sessions[other] = row.session_id
        return _Around(of, sessions)

    def _message_hit(
        self, row: Row, scored: tuple[float, dict[str, float]], arms: Arms[uuid.UUID], view: View
    ) -> MessageHit:
        profile, key = self._ranking, row["message_id"]
        days = max(0.0, (view.now - row["event_at"]).total_seconds() / 86_400)
        recency = _floored(profile.recency_floor, math.exp(-days / profile.decay_rate))
        importance = _floored(profile.importance_floor, DEFAULT_IMPORTANCE / 10)
        score, parts = scored
        explanation = Explanation(
            vector_rank=_rank(arms.vector, key),
            vector_score=arms.vector.get(key),
            keyword_rank=_rank(arms.keyword, key),
            keyword_score=arms.keyword.get(key),
            parts={**parts, "recency": recency, "importance": importance},
            notes=() if key in arms.vector or key in arms.keyword else ("found beside a turn that matches",),
        )
        return MessageHit(rows.message(row, view), score * recency * importance, explanation)


@dataclass(frozen=True)
class _Around:
    """The neighbours of messages, and the sessions of the messages that came in as neighbours."""

    of: Mapping[uuid.UUID, Sequence[uuid.UUID]]
    sessions: Mapping[uuid.UUID, str]


def _merge(memories: Sequence[Hit], messages: Sequence[MessageHit]) -> list[MergedHit]:
    """One ranking; a content that several sources hold appears once, with the best score and all its sources."""
    entries = [_from_memory(hit) for hit in memories] + [_from_message(hit) for hit in messages]
    entries.sort(key=lambda entry: (-entry.score, entry.id))
    seen: dict[str, MergedHit] = {}
    for entry in entries:
        key = fold(entry.content)
        first = seen.setdefault(key, entry)
        if first is not entry and entry.source not in first.sources:
            seen[key] = _with(first, sources=(*first.sources, entry.source))
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


def _bare_merged(hit: MergedHit) -> MergedHit:
    return _with(hit, explanation=None)


def _with(hit: MergedHit, **changes: Any) -> MergedHit:
    from dataclasses import replace

    return replace(hit, **changes)


def _rank(arm: Mapping[uuid.UUID, float], key: uuid.UUID) -> int | None:
    if key not in arm:
        return None
    return 1 + sum(1 for other in arm.values() if other > arm[key])


def _floored(floor: float, value: float) -> float:
    return floor + (1.0 - floor) * value
