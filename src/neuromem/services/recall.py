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
from memground.words import asked, keys
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import messages as queries
from neuromem.queries.scope import Scope, Shape
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

    def scope(self) -> Scope:
        return Scope(self.user_id, self.view, self.memory_types, self.where)

    def conversation_scope(self) -> Scope:
        """The scope of messages, which have no type and no validity."""
        return Scope(self.user_id, View(self.view.now, self.view.known_at), where=self.where)


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
            exact = await self._search.exact(scope)
            profile = await self._fetch_user_profile(question)
            vector = await embedding
        messages = await self._candidate_messages(question, vector, message_words)
        tops = (max(messages.arms.vector.values(), default=0.0), max(message_words.values(), default=0.0))
        memories = await self._fetch_vector_memories(question, vector, memory_words, exact=exact, tops=tops)
        tops = (max(memories.vector_top, tops[0]), max(memories.keyword_top, tops[1]))
        said, best_said = await self._search_conversations(question, messages, tops)
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
        vector: Sequence[float],
        keyword: Sequence[tuple[uuid.UUID, float]],
        *,
        exact: bool,
        tops: tuple[float, float],
    ) -> ScoredMemories:
        return await self._search.scored_search(
            question.scope(), vector, keyword, limit=question.limit, exact=exact, tops=tops
        )

    async def _fetch_user_profile(self, question: RecallQuestion) -> dict[str, Any]:
        return await KVService(self._session).all(PROFILE_NAMESPACE, question.user_id, question.view)

    async def _keyword_messages(self, question: RecallQuestion) -> dict[uuid.UUID, float]:
        words = keys(question.user_id, asked(question.query))
        if not (words and question.include_conversations):
            return {}
        scope = question.conversation_scope()
        statement = queries.keyword_arm(self._tables, scope.shape, self._ranking.candidates)
        return {row.id: row.score for row in await self._session.execute(statement, scope.values(words=words))}

    async def _candidate_messages(
        self, question: RecallQuestion, vector: Sequence[float], words: dict[uuid.UUID, float]
    ) -> "_Candidates":
        """What both arms say of messages, and where those messages stand."""
        if not question.include_conversations:
            return _Candidates(Arms({}, {}), {})
        scope = question.conversation_scope()
        exact = await self._search.compares_all(scope, queries.exact_is_cheaper, queries.is_few)
        statement = queries.candidates(self._tables, scope.shape, self._ranking.candidates, exact=exact)
        values = scope.values(vector=vector, keyword_ids=list(words))
        found = (await self._session.execute(statement, values)).all()
        near = [(row.message_id, row.vector_score) for row in found if row.vector_score is not None]
        near.sort(key=lambda pair: (-pair[1], pair[0]))
        turns = {row.message_id: _Turn(row.session_id, row.question_share) for row in found}
        return _Candidates(Arms(dict(near), words), turns)

    async def _search_conversations(
        self, question: RecallQuestion, candidates: "_Candidates", tops: tuple[float, float]
    ) -> tuple[list[MessageHit], list[str]]:
        """Messages ranked with their surroundings, best first, and the ids of each arm's best."""
        profile, view, arms, turns = self._ranking, question.view, candidates.arms, candidates.turns
        fused = arms.fused(profile, vector_top=tops[0], keyword_top=tops[1])
        if not fused:
            return [], []
        unlisted = arms.unlisted(profile, vector_top=tops[0])
        best_of_session: dict[str, float] = {}
        for key, turn in turns.items():
            best_of_session[turn.session_id] = max(best_of_session.get(turn.session_id, 0.0), fused[key])

        def scored(key: uuid.UUID, turn: _Turn, near: float) -> tuple[float, dict[str, float]]:
            own = fused.get(key, unlisted)
            session = max(best_of_session.get(turn.session_id, 0.0), own)
            parts = {"fused": own, "neighbours": near, "session": session}
            return profile.in_context(**parts, question_share=turn.question_share), parts

        alone = {key: scored(key, turn, 0.0)[0] for key, turn in turns.items()}
        leading = sorted(turns, key=lambda key: (-alone[key], key))[: question.limit + _CONTEXT_CANDIDATES]
        best = [next(iter(arm)) for arm in (arms.vector, arms.keyword) if arm]
        wanted = list(dict.fromkeys([*leading, *best]))
        found, beside = await self._with_neighbours(question, wanted, turns)
        ranks = tuple({key: rank for rank, key in enumerate(arm, 1)} for arm in (arms.vector, arms.keyword))
        hits: list[MessageHit] = []
        for key, row in found.items():
            near = max((weight * fused.get(other, unlisted) for other, weight in beside.get(key, ())), default=0.0)
            turn = _Turn(row["session_id"], row["question_share"])
            hits.append(self._message_hit(row, scored(key, turn, near), arms, ranks, view))
        return sorted(hits, key=lambda hit: (-hit.score, hit.message.message_id)), [str(key) for key in best]

    async def _with_neighbours(
        self, question: RecallQuestion, ids: list[uuid.UUID], turns: Mapping[uuid.UUID, "_Turn"]
    ) -> tuple[dict[uuid.UUID, Row], dict[uuid.UUID, list[tuple[uuid.UUID, float]]]]:
        """The messages and those beside them as rows, and who stands next to whom, and how much that counts.

        An answer owes more to the question before it. With a filter, only neighbours that passed it count.
        """
        scope = question.conversation_scope()
        statement = queries.with_neighbours(self._tables, Shape(past=scope.shape.past))
        found: dict[uuid.UUID, Row] = {}
        pairs: list[tuple[Row, uuid.UUID]] = []
        for row in (await self._session.execute(statement, scope.values(ids=ids))).mappings():
            if row["beside"] is None:
                found[row["message_id"]] = row
            elif question.where is None or row["message_id"] in turns:
                pairs.append((row, row["beside"]))
        beside: dict[uuid.UUID, list[tuple[uuid.UUID, float]]] = {}
        for row, key in pairs:
            other = row["message_id"]
            found.setdefault(other, row)
            before, after = (other, key) if row["before"] else (key, other)
            weight = 1.0 + self._ranking.answer * found[before]["question_share"]
            beside.setdefault(after, []).append((before, weight))
            beside.setdefault(before, []).append((after, 1.0))
        return found, beside

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


@dataclass(frozen=True)
class _Candidates:
    """The messages the arms found."""

    arms: Arms[uuid.UUID]
    turns: Mapping[uuid.UUID, _Turn]


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
