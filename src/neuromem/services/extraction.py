"""What is extracted from conversations becomes memories, relations and a profile, in one transaction."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, tzinfo
from typing import Any

from memground.clock import Stamp
from memground.embedding import EmbeddingProvider
from memground.postgres.arms import Scan
from memground.postgres.versioned import lock_name
from memground.view import View
from neuromem.db import Session
from neuromem.extraction.asking import Asked, Turn, extraction_messages
from neuromem.extraction.items import Extracted, Extraction
from neuromem.extraction.parsing import parse_extraction
from neuromem.extraction.policy import ExtractionPolicy, HygieneRules
from neuromem.extraction.privacy import without_inferences
from neuromem.extraction.schema import EXTRACTION_SCHEMA
from neuromem.providers.llm import LLMProvider
from neuromem.queries import extraction as queries
from neuromem.queries.messages import EXTRACTION
from neuromem.queries.scope import Scope
from neuromem.relations import GraphRules
from neuromem.services.edge_plan import Ending
from neuromem.services.graph_memory import GraphMemoryService, ToldTriples
from neuromem.services.hygiene import Derived, HygieneService, Link, Outcome
from neuromem.services.kv import KVService, Told
from neuromem.services.memories import MemoryService, source_link
from neuromem.services.search import SearchService, memory_row
from neuromem.types import (
    DEFAULT_IMPORTANCE,
    NOTHING_STORED,
    PROFILE_NAMESPACE,
    Dropped,
    Episode,
    ExtractionResult,
    Fact,
    MemoryType,
    NewMemory,
    Source,
    StoredTriples,
    Value,
)

type Vectors = list[list[float]]


class MemoryExtractionService:
    """From what was found in conversations to what is remembered.

    Models are asked before the first statement, so no transaction waits for them. Without `graph_enabled` relations are
    dropped.
    """

    def __init__(
        self,
        session: Session,
        embedding: EmbeddingProvider,
        llm: LLMProvider | None = None,
        *,
        rules: HygieneRules | None = None,
        graph_enabled: bool = True,
        timezone: tzinfo = UTC,
    ) -> None:
        self._session = session
        self._tables = session.tables
        self._embedding = embedding
        self._llm = llm
        self._rules = rules or HygieneRules()
        self._graph_enabled = graph_enabled
        self._timezone = timezone

    async def read(
        self, user_id: str, session_id: str, policy: ExtractionPolicy, *, limit: int, only: Sequence[str] = ()
    ) -> Asked | None:
        """The turns of a session that wait, at most `limit` (or those of certain messages), and what was said before.

        None when none waits any more.
        """
        execute, tables = self._session.execute, self._tables
        if only:
            named = [uuid.UUID(message_id) for message_id in only]
            rows = (await execute(queries.among(tables, user_id, named))).all()
        else:
            rows = (await execute(queries.unread(tables, user_id, session_id, limit))).all()
        if not rows:
            return None
        earlier: Sequence[Any] = ()
        if policy.context:
            before = queries.before(tables, user_id, session_id, rows[0].seq, policy.context)
            earlier = (await execute(before)).all()[::-1]
        return Asked(turns=tuple(map(_turn, rows)), earlier=tuple(map(_turn, earlier)), timezone=self._timezone)

    async def _classify_messages(self, asked: Asked, policy: ExtractionPolicy) -> Extraction:
        """What the language model finds in the turns: one call. Raises ProviderError, UnavailableError."""
        assert self._llm is not None, "extraction without a language model"
        answer = await self._llm.chat_json(
            extraction_messages(asked, policy),
            schema=EXTRACTION_SCHEMA,
            temperature=policy.temperature,
            max_tokens=policy.max_tokens,
        )
        return self.sound(parse_extraction(answer, asked, self._rules, model=self._llm.model_id))

    async def apply(
        self, user_id: str, extraction: Extraction, *, sources: Sequence[Source], origin: str
    ) -> ExtractionResult:
        """Stores an extraction made elsewhere from `sources`; see the facade."""
        stamp = self._session.stamp(origin)
        kept = without_inferences(self.sound(extraction), ())
        vectors = await self.embed(kept)
        return await self.store(user_id, kept, vectors, stamp, sources=sources, at_once=True)

    def sound(self, extraction: Extraction) -> Extraction:
        """The extraction without what the rules drop, which is counted in `dropped`."""
        dropped: list[Dropped] = list(extraction.dropped)
        triples = extraction.triples
        if triples and not self._graph_enabled:
            dropped.append(Dropped("triple", "no graph", len(triples)))
            triples = ()
        return Extraction(
            facts=self._kept("fact", extraction.facts, dropped),
            episodes=self._kept("episode", extraction.episodes, dropped),
            triples=self._kept("triple", triples, dropped),
            profile_updates=extraction.profile_updates,
            dropped=tuple(dropped),
        )

    async def embed(self, extraction: Extraction) -> Vectors:
        """The vectors of facts and episodes, in this order: one batch."""
        texts = [item.item.content for item in (*extraction.facts, *extraction.episodes)]
        return await SearchService(self._session, self._embedding).embed(texts) if texts else []

    async def hold(self, user_id: str) -> None:
        """One extraction of a user at a time: two at once would not see what the other adds."""
        await self._session.hold(user_id)
        await lock_name(self._session, f"{self._tables.schema}/{user_id}/extraction")

    async def waits(self, user_id: str, asked: Asked) -> bool:
        """Whether all of the turns still wait. The caller holds the user's extraction."""
        ids = [uuid.UUID(turn.id) for turn in asked.turns]
        found = await self._session.execute(queries.among(self._tables, user_id, ids))
        return len(found.all()) == len(ids)

    async def store(
        self,
        user_id: str,
        extraction: Extraction,
        vectors: Vectors,
        stamp: Stamp,
        *,
        sources: Sequence[Source],
        at_once: bool = False,
    ) -> ExtractionResult:
        """Stores everything in the session's transaction, each item as known since the last of its sources.

        `sources`: all it was made from. Messages count as extracted since they were known themselves, so that nobody
        sees how late a worker came, and with which others it took them; `at_once`: since the last source was known.
        Raises NotFoundError for a source that is not the user's.
        """
        await self.hold(user_id)
        known = await self._known_since(user_id, extraction, sources)
        run = _Run(self._session, user_id, stamp, self._rules, known)
        scan = await SearchService(self._session, self._embedding).scan(Scope(user_id, View(now=stamp.at)))
        endings = await run.relate(extraction)
        await run.remember(extraction, vectors, endings, scan=scan)
        await run.set_profile(extraction)
        last = known.of([source.id for source in sources], stamp)
        messages = [source.id for source in sources if source.kind == "message"]
        await run.mark({key: last if at_once else known.since[key] for key in messages})
        return ExtractionResult(
            origin=stamp.origin,
            at=stamp.at,
            added=tuple(run.memories.get("added", ())),
            enriched=tuple(run.memories.get("enriched", ())),
            restated=tuple(run.memories.get("restated", ())),
            ended=tuple(run.ended),
            profile=tuple(run.profile),
            triples=run.triples,
            dropped=extraction.dropped,
        )

    def _kept[T: Value](
        self, kind: Any, items: Sequence[Extracted[T]], dropped: list[Dropped]
    ) -> tuple[Extracted[T], ...]:
        sure = [item for item in items if getattr(item.item, "confidence", 1.0) >= self._rules.min_confidence]
        kept = sure[: self._rules.max_items]
        for reason, count in (("unsure", len(items) - len(sure)), ("too many", len(sure) - len(kept))):
            if count:
                dropped.append(Dropped(kind, reason, count))  # pyright: ignore[reportArgumentType]
        return tuple(kept)

    async def _known_since(self, user_id: str, extraction: Extraction, sources: Sequence[Source]) -> "_Known":
        named = {source.id: source for source in sources}
        for items in (extraction.facts, extraction.episodes, extraction.triples, extraction.profile_updates):
            for item in items:  # what explains a turn may be named, too
                named |= {key: Source("message", key) for key in item.sources if key not in named}
        links = {uuid.UUID(key): [source] for key, source in named.items()}
        since = await MemoryService(self._session).sources_known_since(user_id, links)
        # What was taken back stays as it was: read again, a message counts from then on.
        for row in await self._session.execute(queries.taken_back(self._tables, user_id, list(links))):
            since[row.source_id] = max(since[row.source_id], row.moment)
        return _Known({str(key): moment for key, moment in since.items()}, named)


@dataclass(frozen=True)
class _Known:
    """Since when sources are known, and what they are, by id."""

    since: Mapping[str, datetime]
    named: Mapping[str, Source]

    def sources(self, ids: Sequence[str]) -> list[Source]:
        return [self.named[key] for key in ids]

    def of(self, sources: Sequence[str], stamp: Stamp) -> datetime:
        """Since when something is known that comes from them."""
        return max((self.since[source] for source in sources), default=stamp.at)

    def groups[T: Value](
        self, items: Sequence[Extracted[T]], stamp: Stamp
    ) -> list[tuple[datetime, tuple[str, ...], list[T]]]:
        """The items by their sources, those known first first."""
        groups: dict[tuple[str, ...], list[T]] = {}
        for item in items:
            groups.setdefault(item.sources, []).append(item.item)
        timed = [(self.of(sources, stamp), sources, group) for sources, group in groups.items()]
        return sorted(timed, key=lambda group: group[0])


@dataclass
class _Run:
    """One extraction on its way into the database, and what it has changed so far."""

    session: Session
    user_id: str
    stamp: Stamp
    rules: HygieneRules
    known: _Known
    memories: dict[Outcome, list[str]] = field(default_factory=dict[Outcome, list[str]])
    profile: dict[str, None] = field(default_factory=dict[str, None])
    triples: StoredTriples = NOTHING_STORED
    ended: Sequence[str] = ()

    async def remember(
        self, extraction: Extraction, vectors: Vectors, endings: Sequence[Ending], *, scan: Scan
    ) -> None:
        """Facts and episodes, those known first first, and facts that end with relations."""
        items = [(_fact(item.item), item.sources) for item in extraction.facts]
        items += [(_episode(item.item), item.sources) for item in extraction.episodes]
        derived: list[Derived] = []
        for (memory, sources), vector in zip(items, vectors, strict=True):
            row = {**memory_row(self.user_id, memory, self.stamp), self.session.tables.vector_column: vector}
            derived.append(Derived(row, self.known.sources(sources), self.known.of(sources, self.stamp)))
        hygiene = HygieneService(self.session, self.user_id, self.stamp, self.rules, scan=scan)
        derived.sort(key=lambda item: item.known_from)
        for memory_id, outcome in await hygiene.remember(derived, endings):
            self.memories.setdefault(outcome, []).append(memory_id)
        self.ended = hygiene.ended

    async def set_profile(self, extraction: Extraction) -> None:
        groups = self.known.groups(extraction.profile_updates, self.stamp)
        said = [(Told(item.key, item.value, moment), sources) for moment, sources, items in groups for item in items]
        learned = await KVService(self.session).learn(
            PROFILE_NAMESPACE, self.user_id, [told for told, _ in said], self.stamp
        )
        links: list[Link] = []
        for (told, sources), done in zip(said, learned, strict=True):
            if told.value is not None:
                links.append(Link("kv", done.entry_id, self.known.sources(sources), told.known_from))
            if done.changed:
                self.profile[told.key] = None
        await HygieneService(self.session, self.user_id, self.stamp, self.rules).link(links)

    async def relate(self, extraction: Extraction) -> list[Ending]:
        """Relations; what endings of edges were written with them."""
        graph = GraphMemoryService(self.session, GraphRules(self.rules.single_valued))
        groups = self.known.groups(extraction.triples, self.stamp)
        told = [ToldTriples(items, self.known.sources(sources), moment) for moment, sources, items in groups]
        done, endings = await graph.store_told(self.user_id, told, stamp=self.stamp)
        self.triples = StoredTriples(
            *(tuple(edge for one in done for edge in getattr(one, field.name)) for field in fields(StoredTriples))
        )
        return endings

    async def mark(self, read: Mapping[str, datetime]) -> None:
        """Each message is a source of this run, which by itself says nothing."""
        run = uuid.uuid4()
        links = [
            source_link(
                self.user_id, EXTRACTION, run, Source("message", message_id), known_from=moment, stamp=self.stamp
            )
            for message_id, moment in read.items()
        ]
        await MemoryService(self.session).store_links(links)


def _turn(row: Any) -> Turn:
    return Turn(str(row.message_id), row.role, row.content, row.event_at, row.speaker)


def _fact(fact: Fact) -> NewMemory:
    return NewMemory(
        fact.content,
        MemoryType.FACT,
        _metadata(fact),
        DEFAULT_IMPORTANCE if fact.importance is None else fact.importance,
        fact.valid_from,
        fact.valid_to,
    )


def _episode(episode: Episode) -> NewMemory:
    importance = DEFAULT_IMPORTANCE if episode.importance is None else episode.importance
    return NewMemory(episode.content, MemoryType.EPISODIC, _metadata(episode), importance, episode.happened_at)


def _metadata(item: Fact | Episode) -> dict[str, Any]:
    metadata: dict[str, Any] = {"category": item.category, "confidence": item.confidence}
    if item.emotion is not None:
        emotion = {"valence": item.emotion.valence, "arousal": item.emotion.arousal, "label": item.emotion.label}
        metadata["emotion"] = {name: value for name, value in emotion.items() if value is not None}
    if item.entities:
        metadata["entities"] = list(item.entities)
    return metadata
