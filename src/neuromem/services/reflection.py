"""What many memories show together becomes insights and an emotion profile, in one transaction."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any

from sqlalchemy import insert

from memground.clock import Stamp
from memground.embedding import EmbeddingProvider
from memground.errors import ConflictError
from memground.postgres import versioned
from memground.postgres.engine import Row, plan_anew
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.extraction import fields
from neuromem.extraction.policy import HygieneRules
from neuromem.extraction.reflecting import (
    DIGEST_SCHEMA,
    EMOTION_SCHEMA,
    MAX_ANSWER_TOKENS,
    Feelings,
    Insight,
    Insights,
    Remembered,
    digest_messages,
    emotion_messages,
    parse_feelings,
    parse_insights,
)
from neuromem.providers.llm import LLMProvider
from neuromem.queries import digest as queries
from neuromem.queries import emotion as emotions
from neuromem.queries.emotion import WORDS
from neuromem.queries.scope import Scope
from neuromem.services.emotion import LATELY, EmotionService
from neuromem.services.hygiene import Derived, HygieneService, Outcome
from neuromem.services.memories import MemoryService, source_link
from neuromem.services.search import SearchService, memory_row
from neuromem.types import DEFAULT_IMPORTANCE, DigestResult, EmotionProfile, Memory, MemoryType, NewMemory, Source

_INSIGHTS_SHOWN = 100
"""So many of the latest insights the model is told of, so that it does not find them again."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a digest is about, as one snapshot had it.

    `memories`: the latest of the news. `known`: insights there are. `feelings`: the latest memories that tell of an
    emotion, where one of the news does. `news`: how many there are in all; `ids` of their version rows, 16 bytes each.
    """

    view: View
    memories: tuple[Remembered, ...]
    known: tuple[str, ...]
    feelings: tuple[Remembered, ...]
    news: int
    ids: bytes

    @property
    def record_ids(self) -> list[uuid.UUID]:
        """The version rows that the model is shown."""
        return list({uuid.UUID(memory.record_id): None for memory in (*self.memories, *self.feelings)})


@dataclass(frozen=True, slots=True)
class Reflected:
    """What the models made of it. `feelings` is None where there was nothing new to say of emotions."""

    insights: Insights
    vectors: list[list[float]]
    feelings: Feelings | None
    llm_calls: int


class ReflectionService:
    """From memories to insights and an emotion profile.

    ::

        material = await service.read("anna", limit=50)      # None: no news
        reflected = await service.reflect(material)          # asks the models; no statement
        await service.store("anna", material, reflected)

    Models are asked by `reflect` alone, which needs no transaction; `nm.digest` gives each step a session of its own.
    """

    def __init__(
        self,
        session: Session,
        embedding: EmbeddingProvider,
        llm: LLMProvider | None = None,
        *,
        rules: HygieneRules | None = None,
        timezone: tzinfo = UTC,
    ) -> None:
        self._session = session
        self._tables = session.tables
        self._embedding = embedding
        self._llm = llm
        self._rules = rules or HygieneRules()
        self._timezone = timezone

    async def read(self, user_id: str, *, limit: int) -> Material | None:
        """What there is to reflect on; None where nothing is news."""
        view = View(now=self._session.clock.now())
        scope = Scope(checks.name(user_id, "user_id"), view)
        shape, values = scope.shape, scope.values(limit=checks.limit(limit))
        fetch, tables = self._session.fetch, self._tables
        await plan_anew(self._session)
        (all_news,) = await fetch(queries.all_news(tables, shape), values)
        if not all_news["count"]:
            return None
        memories = await fetch(queries.news(tables, shape), values)
        known = await fetch(queries.insights(tables, shape), scope.values(limit=_INSIGHTS_SHOWN))
        feelings = await fetch(emotions.newest(tables, shape), values) if all_news["felt"] else []
        return Material(
            view=view,
            memories=tuple(map(_remembered, memories)),
            known=tuple(row["content"] for row in known),
            feelings=tuple(map(_remembered, feelings)),
            news=all_news["count"],
            ids=all_news["ids"],
        )

    async def count_news(self, user_id: str) -> int:
        """How many memories no digest has read."""
        scope = Scope(user_id, View(now=self._session.clock.now()))
        await plan_anew(self._session)
        found = await self._session.fetch(queries.all_news(self._tables, scope.shape), scope.values())
        return found[0]["count"]

    async def has_news(self, user_id: str) -> bool:
        """Whether there is a memory no digest has read."""
        scope = Scope(user_id, View(now=self._session.clock.now()))
        await plan_anew(self._session)
        return bool(await self._session.fetch(queries.first_news(self._tables, scope.shape), scope.values()))

    async def reflect(self, material: Material) -> Reflected:
        """Asks the language model, once or, where the news tells of emotions, twice; then one batch of vectors."""
        insights = await self._generate_insights(material)
        feelings = await self._update_emotion_profile(material) if material.feelings else None
        texts = [insight.content for insight in insights.found]
        vectors = await SearchService(self._session, self._embedding).embed(texts) if texts else []
        return Reflected(insights, vectors, feelings, 1 if feelings is None else 2)

    async def _generate_insights(self, material: Material) -> Insights:
        """What the language model sees in the memories: one call. Raises ProviderError, UnavailableError."""
        assert self._llm is not None, "reflection without a language model"
        answer = await self._llm.chat_json(
            digest_messages(material.memories, material.known, self._timezone),
            schema=DIGEST_SCHEMA,
            max_tokens=MAX_ANSWER_TOKENS,
        )
        return parse_insights(answer, material.memories, self._rules, model=self._llm.model_id)

    async def _update_emotion_profile(self, material: Material) -> Feelings:
        """How the user feels, in the language model's words: one call. Raises ProviderError, UnavailableError."""
        assert self._llm is not None, "reflection without a language model"
        answer = await self._llm.chat_json(
            emotion_messages(material.feelings, material.view.now - LATELY, self._timezone),
            schema=EMOTION_SCHEMA,
            max_tokens=MAX_ANSWER_TOKENS,
        )
        return parse_feelings(answer, model=self._llm.model_id)

    async def stands(self, user_id: str, material: Material) -> bool:
        """Whether the memories that were read are still as they were."""
        shown = material.record_ids
        return await self._session.scalar(queries.current_among(self._tables, user_id, shown)) == len(shown)

    async def store(self, user_id: str, material: Material, reflected: Reflected) -> DigestResult:
        """Stores all of it in the session's transaction, known from now on, and marks the news as read.

        Raises ConflictError where a memory it rests on was changed or forgotten since it was read.
        """
        await self._session.hold(user_id)
        await plan_anew(self._session)
        if not await self.stands(user_id, material):
            raise ConflictError("memories that a digest has read were changed or forgotten meanwhile")
        run = uuid.uuid4()
        stamp = self._session.stamp(f"digest-{run.hex[:12]}")
        added, restated = await self._remember(user_id, reflected, stamp)
        await self._mark(user_id, material, run, stamp)
        emotion = await self._store_profile(user_id, material, reflected.feelings, stamp)
        feelings = reflected.feelings
        return DigestResult(
            origin=stamp.origin,
            at=stamp.at,
            insights=added,
            restated=restated,
            emotion=emotion if emotion.annotated else None,
            read=len(material.memories),
            unread=material.news - len(material.memories),
            llm_calls=reflected.llm_calls,
            dropped=reflected.insights.dropped + (() if feelings is None else feelings.dropped),
        )

    async def _remember(
        self, user_id: str, reflected: Reflected, stamp: Stamp
    ) -> tuple[tuple[Memory, ...], tuple[Memory, ...]]:
        """Stores insights as memories: those that are new, and those that were known and rest on more now."""
        view = View(now=stamp.at)
        scan = await SearchService(self._session, self._embedding).scan(Scope(user_id, view))
        hygiene = HygieneService(self._session, user_id, stamp, self._rules, scan=scan)
        derived: list[Derived] = []
        for insight, vector in zip(reflected.insights.found, reflected.vectors, strict=True):
            row = {**memory_row(user_id, _memory(insight), stamp), self._tables.vector_column: vector}
            sources = [Source("memory", key) for key in insight.sources]
            derived.append(Derived(row, sources, stamp.at))
        outcomes: dict[str, Outcome] = {}
        for memory_id, outcome in await hygiene.remember(derived):
            outcomes.setdefault(memory_id, outcome)
        service = MemoryService(self._session)
        found = [memory for key in outcomes if (memory := await service.get(user_id, key, view)) is not None]
        added = tuple(memory for memory in found if outcomes[memory.memory_id] == "added")
        return added, tuple(memory for memory in found if outcomes[memory.memory_id] != "added")

    async def _mark(self, user_id: str, material: Material, run: uuid.UUID, stamp: Stamp) -> None:
        """All news counts as read, whether it was shown or lay beyond the limit."""
        vt, execute = self._tables.memory_sources, self._session.execute
        outdated = list((await execute(queries.outdated_marks(self._tables, user_id, material.ids))).scalars())
        await versioned.close_rows(self._session, vt, outdated, stamp, where=vt.table.c.user_id == user_id)
        await execute(queries.mark(self._tables, user_id, material.ids, run, stamp))

    async def _store_profile(
        self, user_id: str, material: Material, feelings: Feelings | None, stamp: Stamp
    ) -> EmotionProfile:
        """Stores numbers and, where they were made anew, words; returns the profile that is now known."""
        service, scope = EmotionService(self._session), Scope(user_id, View(now=stamp.at))
        values = await service.counts(scope)
        if values["valence_avg"] is not None:
            if feelings is not None:
                values |= {
                    "latest_state": feelings.latest_state,
                    "latest_state_updated_at": stamp.at,
                    "emotion_triggers": [trigger.to_dict() for trigger in feelings.triggers],
                }
            profile_id = await self._write_profile(user_id, values, stamp)
            if feelings is not None:
                await self._link_words(user_id, profile_id, material.feelings, stamp)
        return await service.profile(user_id, scope.view)

    async def _write_profile(self, user_id: str, values: dict[str, Any], stamp: Stamp) -> uuid.UUID:
        vt = self._tables.emotion_profiles
        mine = vt.table.c.user_id == user_id
        if found := await versioned.lock_current(self._session, vt, mine):
            await versioned.append(self._session, vt, found[0], values, stamp, where=mine)
            return found[0]["profile_id"]
        key = uuid.uuid5(uuid.NAMESPACE_OID, f"emotion/{user_id}")
        version, known_from = await versioned.next_version(self._session, vt, mine, stamp)
        empty = dict.fromkeys(vt.content) | {"profile_id": key, "user_id": user_id, **values}
        row = versioned.new_row(stamp, empty, known_from=known_from, version=version)
        await self._session.execute(insert(vt.table).values(row))
        return key

    async def _link_words(
        self, user_id: str, profile_id: uuid.UUID, memories: Sequence[Remembered], stamp: Stamp
    ) -> None:
        """The profile's words come from these memories, and no longer from those the earlier ones came from."""
        vt = self._tables.memory_sources
        mine = emotions.current_sources(self._tables, user_id)
        there: dict[str, Row] = {
            str(row["source_id"]): row for row in await versioned.lock_current(self._session, vt, mine)
        }
        wanted = dict.fromkeys(memory.memory_id for memory in memories)
        gone = [row["id"] for key, row in there.items() if key not in wanted]
        await versioned.close_rows(self._session, vt, gone, stamp, where=vt.table.c.user_id == user_id)
        new = [
            source_link(user_id, WORDS, profile_id, Source("memory", key), known_from=stamp.at, stamp=stamp)
            for key in wanted
            if key not in there
        ]
        await MemoryService(self._session).store_links(new)


def _remembered(row: Any) -> Remembered:
    metadata: Any = row["metadata_"]
    return Remembered(
        memory_id=str(row["memory_id"]),
        record_id=str(row["id"]),
        memory_type=row["memory_type"],
        content=row["content"],
        at=row["event_at"],
        emotion=fields.emotion(metadata.get("emotion")),
    )


def _memory(insight: Insight) -> NewMemory:
    metadata = {"category": insight.category, "confidence": insight.confidence}
    importance = DEFAULT_IMPORTANCE if insight.importance is None else insight.importance
    return NewMemory(insight.content, MemoryType.INSIGHT, metadata, importance)
