"""recall: memories, conversations and profile in one ranking, on one snapshot."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memground.embedding import EmbeddingProvider
from memground.filters import Filter
from memground.postgres.arms import Scan, read_words
from memground.postgres.prepared import Record
from memground.text import fold
from memground.view import View
from memground.words import asked, keys
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import memories, recall
from neuromem.queries import messages as queries
from neuromem.queries.scope import Scope, Shape
from neuromem.ranking import RankingProfile, top_with_best
from neuromem.ranking.relations import (
    Told,
    boosted,
    fact_score,
    graph_context,
    own_share,
    profile_score,
    profile_text,
    with_turns,
)
from neuromem.ranking.times import TimeRange, of_the_time, time_ranges
from neuromem.ranking.turns import Asked, Floats, Turns, held, score_turns
from neuromem.services import rows
from neuromem.services.graph_memory import GraphMemoryService
from neuromem.services.kv import KVService
from neuromem.services.search import ScoredMemories, SearchService
from neuromem.types import (
    DEFAULT_IMPORTANCE,
    PROFILE_NAMESPACE,
    Explanation,
    GraphFact,
    Hit,
    MergedHit,
    MessageHit,
    RecallResult,
    Source,
)

_DAY = 86_400.0
_FACTS, _FACTS_WEIGHED = 20, 50
"""Relations of what a query names that are given, and those they are chosen from."""


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
    include_graph: bool = True
    timezone: tzinfo = UTC

    @cached_property
    def times(self) -> tuple[TimeRange, ...]:
        """The times its words name, as the clocks of the timezone count them."""
        return time_ranges(self.query, self.view.now, self.timezone)

    @cached_property
    def words(self) -> list[str]:
        """Its different words, without those that only make it a question."""
        return asked(self.query)

    def scope(self) -> Scope:
        return Scope(self.user_id, self.view, self.memory_types, self.where)

    def conversations(self) -> Scope:
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
            await self._session.begin()  # while this waits, the embedding starts
            scan_memories, scan_turns = await self._scans(question)
            begun = await self._begin(question, scope)
            profile: Sequence[Record] = ()
            if recall.PROFILE in begun.there:
                profile = await self._fetch_user_profile(question)
            facts = await self._fetch_graph_memories(question) if recall.RELATIONS in begun.there else []
            # Not before: what follows is planned anew each time.
            await self._search.widen(scan_memories, scan_turns)
            vector = await embedding
        pool = await self._pool(question, vector, begun, scan=scan_turns)
        related = [fact for fact, _, _ in facts]
        remembered = await self._fetch_vector_memories(
            question,
            vector,
            begun.memories,
            # What a relation raises may have stood below.
            limit=2 * question.limit if related else question.limit,
            scan=scan_memories,
            tops=(pool.vector_top, pool.keyword_top),
            explain=explain or bool(pool.ids),
        )
        said = await self._search_conversations(question, pool, remembered, explain=explain)
        memories = with_turns(boosted(remembered.hits, related, self._ranking.graph), said.told, self._ranking.learned)
        beside = [_from_fact(*fact) for fact in facts] + self._told_by_profile(question, profile)
        entries = [*map(_from_memory, memories), *map(_from_message, said.hits), *beside]
        best = {*remembered.best, *said.best, *(max(g, key=lambda hit: hit.score).id for g in _by_source(beside))}
        merged = self._merge(entries, best, said, question.limit)
        vector_results = top_with_best(memories, question.limit, lambda hit: hit.memory.memory_id, remembered.best)
        return RecallResult(
            merged=tuple(merged if explain else map(_unexplained, merged)),
            vector_results=tuple(hit if explain else Hit(hit.memory, hit.score) for hit in vector_results),
            conversation_results=tuple(said.hits[: question.limit]),
            graph_results=tuple(related),
            graph_context=graph_context(related),
            user_profile={entry["key"]: entry["value"] for entry in profile},
        )

    async def _fetch_vector_memories(
        self,
        question: RecallQuestion,
        vector: Sequence[float],
        keyword: Sequence[tuple[uuid.UUID, float]],
        *,
        limit: int,
        scan: Scan,
        tops: tuple[float, float],
        explain: bool,
    ) -> ScoredMemories:
        return await self._search.scored_search(
            question.scope(),
            vector,
            keyword,
            limit=limit,
            scan=scan,
            tops=tops,
            times=question.times,
            explain=explain,
        )

    async def _fetch_user_profile(self, question: RecallQuestion) -> Sequence[Record]:
        return await KVService(self._session).entries(PROFILE_NAMESPACE, question.user_id, question.view)

    def _told_by_profile(self, question: RecallQuestion, entries: Sequence[Record]) -> list[MergedHit]:
        """The entries of the profile that hold a word of the query. A filter speaks of fields they do not have."""
        if question.where is not None:
            return []
        told: list[MergedHit] = []
        for entry in entries:
            content = profile_text(entry["key"], entry["value"])
            score, why = profile_score(content, question.words, self._ranking)
            if score > 0:
                told.append(_from_profile(entry, content, score, why))
        return told

    async def _fetch_graph_memories(self, question: RecallQuestion) -> list[tuple[GraphFact, float, Explanation]]:
        """The relations of what the query names, best first. A filter speaks of fields they do not have."""
        if not question.include_graph or question.where is not None:
            return []
        scope = Scope(question.user_id, question.view)
        found = await GraphMemoryService(self._session).find_entity_facts(scope, question.query, limit=_FACTS_WEIGHED)
        scored = [(fact, *fact_score(fact, question.words, question.view, self._ranking)) for fact in found]
        scored.sort(key=lambda item: -item[1])  # equals stay as they came, which is the same for every reader
        return scored[:_FACTS]

    async def _scans(self, question: RecallQuestion) -> tuple[Scan, Scan]:
        """How the nearest are found, of memories and of turns."""
        scope, hint = question.scope(), ("scan", question.user_id, self._ranking.candidates)
        if (best := self._session.hints.get(hint)) is None:
            statement = recall.best_scans(self._tables, Shape(), self._ranking.candidates)
            row = (await self._session.fetch(statement, scope.values()))[0]
            best = Scan(row["memories"]), Scan(row["turns"])
            self._session.hints.note(hint, best)
        narrowed = self._search.narrowed_scan
        return (
            await narrowed(scope, best[0], memories.is_few),
            await narrowed(question.conversations(), best[1], queries.is_few),
        )

    async def _begin(self, question: RecallQuestion, scope: Scope) -> "_Begun":
        """What shares a word with the query, best first, and what else there is."""
        statement = recall.begun(
            self._tables, scope.shape, self._ranking.candidates, turns=question.include_conversations
        )
        values = scope.values(words=keys(question.user_id, question.words), namespace=PROFILE_NAMESPACE)
        begun = _Begun([], {}, set())
        for row in await self._session.fetch(statement, values):
            kind, key, score = row.values()
            if kind == recall.MEMORY:
                begun.memories.append((key, score))
            elif kind == recall.TURN:
                begun.turns[key] = score
            else:
                begun.there.add(kind)
        return begun

    async def _pool(self, question: RecallQuestion, vector: Sequence[float], begun: "_Begun", *, scan: Scan) -> "_Pool":
        """The turns that come into question."""
        words = begun.turns
        if not question.include_conversations or recall.TURNS not in begun.there:
            return _Pool([], words)
        scope = question.conversations()
        statement = queries.pool(self._tables, scope.shape, self._ranking.candidates, scan=scan)
        values = scope.values(vector=vector, keyword_ids=list(words), keyword_scores=list(words.values()))
        return _Pool(await self._session.fetch(statement, values), words)

    async def _search_conversations(
        self, question: RecallQuestion, pool: "_Pool", remembered: ScoredMemories, *, explain: bool
    ) -> "_Said":
        """The best turns, best first."""
        if not pool.ids:
            return _Said([], [])
        words = question.words
        asked = Asked(question.query, dict(zip(words, keys(question.user_id, words), strict=True)), question.times)
        turns = pool.turns()
        names = list(map(str, pool.ids))
        terms, held_by = held(asked, turns)
        told = Told(held=dict(zip(names, map(float, held_by), strict=True)), words=terms)
        # What was learned from the turns restates them in fewer words: it is no measure for them, unless it holds
        # nearly all that is asked for, and more than they do.
        others = [
            hit.explanation
            for hit in remembered.hits
            if hit.explanation and own_share(hit.memory, told, self._ranking.learned) >= 0.5
        ]
        vector_top = max([pool.vector_top, *(why.vector_score or 0.0 for why in others)])
        keyword_top = max([pool.keyword_top, *(why.keyword_score or 0.0 for why in others)])
        scores, parts = score_turns(
            asked,
            turns,
            self._ranking,
            vector_top=vector_top,
            keyword_share=pool.keyword_top / keyword_top if keyword_top > 0 else 1.0,
        )
        recency = pool.recency(question.view, self._ranking)
        importance = self._ranking.weight_of(DEFAULT_IMPORTANCE)
        scores = scores * recency * importance
        order = sorted(range(len(pool.ids)), key=lambda place: (-scores[place], pool.ids[place]))
        best = [pool.places[ranks[0]] for ranks in (pool.by_meaning, pool.by_words) if ranks]
        wanted = list(dict.fromkeys([*order[: question.limit], *best]))
        scope = question.conversations()
        statement = queries.by_ids(self._tables, scope.shape)
        ids = [pool.ids[place] for place in wanted]
        found = {row["message_id"]: row for row in await self._session.fetch(statement, scope.values(ids=ids))}
        hits: list[MessageHit] = []
        for place in sorted(wanted, key=order.index):
            why = None
            if explain:
                shown = {name: float(values[place]) for name, values in parts.items()}
                shown |= {"recency": float(recency[place]), "importance": importance}
                why = pool.explanation(place, shown, question.times)
            message = rows.message(found[pool.ids[place]], question.view)
            hits.append(MessageHit(message, float(scores[place]), why))
        return _Said(
            hits,
            [str(pool.ids[place]) for place in best],
            replace(told, scores=dict(zip(names, map(float, scores), strict=True))),
            dict(zip(names, pool.similarity, strict=True)),
        )

    def _merge(self, entries: Sequence[MergedHit], best: Collection[str], said: "_Said", limit: int) -> list[MergedHit]:
        """One ranking; a content that several sources hold appears once, with the best score and all its sources.

        What was learned from a turn shares its place, see `RankingProfile`, and stands there for it; an arm's best turn
        gives way only to what says as much of what is looked for, and is nearer by meaning. `best`: those of every arm,
        which are in, or what stands in their place; of what was learned, where it adds to its messages.
        """
        seen: dict[str, MergedHit] = {}
        places: dict[str, str] = {}
        standing: set[str] = set()

        def order(entry: MergedHit) -> tuple[float, int]:
            if entry.source == "vector" and said.speaks_for_its_turn(entry):
                return -entry.score, 0
            return -entry.score, 1 if entry.id in said.best else 2 if entry.source == "vector" else 3

        for entry in sorted(entries, key=order):
            key = fold(entry.content)
            place = said.told.place(entry.came_from) if entry.source in ("vector", "conversation") else None
            if key in seen:
                seen[key] = _joined(seen[key], entry)
            elif place is not None and place in places:
                seen[key] = replace(entry, score=entry.score * self._ranking.repeated)
            else:
                seen[key] = entry
            if place is not None:
                places.setdefault(place, seen[key].id)
            if entry.id in best and (entry.id in said.best or said.told.adds(entry.content, entry.came_from)):
                standing.add(seen[key].id if place is None else places[place])
        merged = sorted(seen.values(), key=_first)
        return top_with_best(merged, limit, lambda hit: hit.id, list(standing))


@dataclass(frozen=True)
class _Begun:
    """Scores of the keyword arms, best first: memories by version row, turns by message. `there`: what else there is,
    of `recall.TURNS`, `RELATIONS` and `PROFILE`."""

    memories: list[tuple[uuid.UUID, float]]
    turns: dict[uuid.UUID, float]
    there: set[int]


@dataclass(frozen=True)
class _Said:
    """The best turns, best first; ids of each arm's best; what all turns say that came into question, and how near they
    are by meaning."""

    hits: list[MessageHit]
    best: list[str]
    told: Told = field(default_factory=Told)
    similarity: Mapping[str, float | None] = field(default_factory=dict[str, float | None])

    def speaks_for_its_turn(self, learned: MergedHit) -> bool:
        """Whether something learned is nearer to the query than its turn, and holds as many words to look for."""
        turn = self.told.place(learned.came_from)
        if turn is None or learned.explanation is None:
            return False
        nearer = (learned.explanation.vector_score or 0.0) > (self.similarity.get(turn) or 0.0)
        return nearer and self.told.says_as_much(learned.content, turn)


class _Pool:
    """The turns that come into question, as rows of `queries.pool`, and what the keyword arm says of them."""

    def __init__(self, rows: Sequence[Record], words: Mapping[uuid.UUID, float]) -> None:
        self._columns: Sequence[Sequence[Any]] = list(zip(*(row.values() for row in rows), strict=True)) or [()] * 9
        self._words = words
        self.ids: Sequence[uuid.UUID] = self._columns[0]
        self.similarity: Sequence[float | None] = self._columns[1]
        self.places = {key: place for place, key in enumerate(self.ids)}
        near = [(-score, key) for key, score in zip(self.ids, self.similarity, strict=True) if score is not None]
        self.by_meaning = [key for _, key in sorted(near)]
        self.by_words = [key for key in words if key in self.places]
        self.vector_top = max((-score for score, _ in near), default=0.0)
        self.keyword_top = max(words.values(), default=0.0)

    def turns(self) -> Turns:
        """What the ranking needs of them, as arrays."""
        _, _, earlier, later, session, question_share, speaker, seconds, sent = self._columns
        numbers: dict[str, int] = {}
        words, lengths = read_words(sent)
        return Turns(
            similarity=np.array(self.similarity, dtype=np.float64),
            keyword=np.array([self._words.get(key) for key in self.ids], dtype=np.float64),
            words=words,
            lengths=lengths,
            before=self._before(earlier, later),
            session=np.array([numbers.setdefault(name, len(numbers)) for name in session], dtype=np.intp),
            question_share=np.array(question_share, dtype=np.float64),
            speaker=speaker,
            said=np.array(seconds, dtype=np.float64),
        )

    def recency(self, view: View, profile: RankingProfile) -> Floats:
        """What the age of each leaves of its score."""
        days = np.maximum(view.now.timestamp() - np.array(self._columns[7]), 0.0) / _DAY
        return profile.recency_floor + (1.0 - profile.recency_floor) * np.exp(-days / profile.decay_rate)

    def explanation(self, place: int, parts: dict[str, float], times: Sequence[TimeRange]) -> Explanation:
        key = self.ids[place]
        similarity, words = self.similarity[place], self._words.get(key)
        notes = ["found beside a turn that matches"] if similarity is None and words is None else []
        if times and parts.get("time") == 1.0:
            notes.append(of_the_time(times))
        return Explanation(
            vector_rank=None if similarity is None else self.by_meaning.index(key) + 1,
            vector_score=similarity,
            keyword_rank=None if words is None else self.by_words.index(key) + 1,
            keyword_score=words,
            parts=parts,
            notes=tuple(notes),
        )

    def _before(
        self, earlier: Sequence[Sequence[uuid.UUID] | None], later: Sequence[Sequence[uuid.UUID] | None]
    ) -> NDArray[np.intp]:
        """Place of the turn just before each, as far as it was read what stands around them."""
        before = np.full(len(self.ids), -1, dtype=np.intp)
        for key, gone, coming in zip(self.ids, earlier, later, strict=True):
            if gone is None or coming is None:
                continue
            for first, second in pairwise([*reversed(gone), key, *coming]):
                if second in self.places:
                    before[self.places[second]] = self.places.get(first, -1)
        return before


def _first(entry: MergedHit) -> tuple[float, bool, str]:
    """The order of the ranking: of equals, what was learned stands before what it was learned from."""
    return -entry.score, entry.source != "vector", entry.id


def _joined(entry: MergedHit, other: MergedHit) -> MergedHit:
    """The entry, with where the other one, of the same content, comes from."""
    return replace(
        entry,
        sources=tuple(dict.fromkeys((*entry.sources, other.source))),
        came_from=(*entry.came_from, *(source for source in other.came_from if source not in entry.came_from)),
    )


def _unexplained(entry: MergedHit) -> MergedHit:
    return replace(entry, explanation=None) if entry.explanation else entry


def _by_source(entries: Sequence[MergedHit]) -> list[list[MergedHit]]:
    """The entries of each source that has any."""
    groups: dict[str, list[MergedHit]] = {}
    for entry in entries:
        groups.setdefault(entry.source, []).append(entry)
    return list(groups.values())


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
        came_from=m.sources,
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
        came_from=(Source("message", m.message_id),),
        explanation=hit.explanation,
    )


def _from_fact(fact: GraphFact, score: float, why: Explanation) -> MergedHit:
    return MergedHit(
        content=fact.content,
        score=score,
        source="graph",
        sources=("graph",),
        id=fact.edge_id,
        metadata={},
        at=fact.valid_from or fact.known_from,
        known_from=fact.known_from,
        valid_from=fact.valid_from,
        valid_to=fact.valid_to,
        came_from=fact.sources,
        explanation=why,
    )


def _from_profile(entry: Record, content: str, score: float, why: Explanation) -> MergedHit:
    return MergedHit(
        content=content,
        score=score,
        source="profile",
        sources=("profile",),
        id=str(entry["entry_id"]),
        metadata={},
        at=entry["known_from"],
        known_from=entry["known_from"],
        explanation=why,
    )
