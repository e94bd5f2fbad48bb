"""How a user feels: numbers counted from memories at any moment, words of the last digest known then."""

from datetime import datetime, timedelta, tzinfo
from typing import Any, cast

from memground.postgres.prepared import Record
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.extraction.privacy import inferred_in_text
from neuromem.queries import emotion as queries
from neuromem.queries.scope import Scope
from neuromem.ranking.calendar import Granularity
from neuromem.services.memories import MemoryService
from neuromem.services.temporal import check_granularity, period_end
from neuromem.types import DominantEmotion, EmotionPeriod, EmotionProfile, EmotionTrigger, Source

LATELY = timedelta(days=14)
"""How long the recent state reaches back."""


class EmotionService:
    """Reads what was felt."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.tables

    async def profile(self, user_id: str, view: View) -> EmotionProfile:
        """The three layers in one; see `EmotionProfile`."""
        checks.name(user_id, "user_id")
        scope = Scope(user_id, View(view.now, view.known_at))
        counted = await self.numbers(scope)
        dominant = await self.dominant(scope)
        row = (await self._session.execute(queries.profile(self._tables, user_id, view))).mappings().first()
        words: dict[str, Any] = {}
        sources: list[Source] = []
        if row is not None:
            words = {name: row[name] for name in ("latest_state", "latest_state_updated_at", "emotion_triggers")}
            found = await MemoryService(self._session).sources(scope, [row["profile_id"]])
            sources = found.get(row["profile_id"], [])
        return EmotionProfile(
            user_id=user_id,
            latest_state=words.get("latest_state"),
            latest_state_valence=counted["recent_valence"],
            latest_state_arousal=counted["recent_arousal"],
            latest_state_updated_at=words.get("latest_state_updated_at"),
            valence_avg=counted["valence"],
            arousal_avg=counted["arousal"],
            dominant_emotions=dominant,
            emotion_triggers=_triggers(words.get("emotion_triggers")),
            annotated=counted["annotated"],
            recent=counted["recent"],
            sources=tuple(sources),
        )

    async def numbers(self, scope: Scope) -> Record:
        """Counts and means; see `queries.numbers`."""
        statement = queries.numbers(self._tables, scope.shape)
        return (await self._session.fetch(statement, scope.values(since=scope.view.now - LATELY)))[0]

    async def dominant(self, scope: Scope) -> tuple[DominantEmotion, ...]:
        """The most frequent words for emotions; what names a personality is none."""
        found = await self._session.fetch(queries.dominant(self._tables, scope.shape), scope.values())
        return tuple(
            DominantEmotion(row["label"], row["count"], row["count"] / row["total"])
            for row in found
            if inferred_in_text(row["label"]) is None
        )

    async def count_again(self, user_id: str, since: datetime) -> None:
        """Counts anew what each version of the profile known from then on says, as of its own time: memories were
        erased."""
        stored = await self._session.execute(queries.profiles(self._tables, user_id, since))
        for row in stored.mappings().all():
            values = await self.counts(Scope(user_id, View(row["known_from"], row["known_from"])))
            if any(row[name] != value for name, value in values.items()):
                await self._session.execute(queries.set_counts(self._tables, user_id, row["id"], values))

    async def counts(self, scope: Scope) -> dict[str, Any]:
        """What the profile stores of `numbers` and `dominant`, by column."""
        counted = await self.numbers(scope)
        return {
            "latest_state_valence": counted["recent_valence"],
            "latest_state_arousal": counted["recent_arousal"],
            "valence_avg": counted["valence"],
            "arousal_avg": counted["arousal"],
            "dominant_emotions": [label.to_dict() for label in await self.dominant(scope)],
        }

    async def timeline(
        self,
        user_id: str,
        view: View,
        granularity: Granularity,
        timezone: tzinfo,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[EmotionPeriod]:
        """What was felt in each day, week, month or year in which something was, in order."""
        checks.name(user_id, "user_id")
        check_granularity(granularity)
        first, last = checks.span(start, end)
        scope = Scope(user_id, View(view.now, view.known_at))
        statement = queries.timeline(self._tables, scope.shape, granularity)
        values = scope.values(start=first, end=last, timezone=str(timezone))
        return [
            EmotionPeriod(
                row["start"],
                period_end(row["start"], granularity, timezone),
                row["valence"],
                row["arousal"],
                row["count"],
            )
            for row in await self._session.fetch(statement, values)
        ]


def _triggers(stored: Any) -> tuple[EmotionTrigger, ...]:
    given = cast("list[dict[str, Any]]", stored or [])
    return tuple(EmotionTrigger(item["trigger"], item.get("emotion")) for item in given)
