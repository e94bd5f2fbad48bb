"""The calls of a mind itself that read how a user feels."""

from datetime import datetime

from neuromem.facades.context import Context
from neuromem.ranking.calendar import Granularity
from neuromem.services.emotion import EmotionService
from neuromem.types import EmotionPeriod, EmotionProfile


class Feeling:
    """Reads emotions."""

    _context: Context

    async def emotion_profile(self, user_id: str, *, as_of: datetime | None = None) -> EmotionProfile:
        """How the user has felt lately and over time, now or at a moment of the past.

        Numbers are counted from the memories known then, words are those of the last digest known then.
        """
        view = self._context.view(as_of)
        async with self._context.source.read() as session:
            return await EmotionService(session).profile(user_id, view)

    async def emotion_timeline(
        self,
        user_id: str,
        *,
        granularity: Granularity = "week",
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | None = None,
        timezone: str | None = None,
    ) -> list[EmotionPeriod]:
        """Mean valence and arousal of each day, week (from Monday), month or year in which something was felt.

        By the time memories are about (`event_at`), of what lies in [start, end). Days begin at midnight in `timezone`
        (an IANA name; default: the mind's).
        """
        view, zone = self._context.view(as_of), self._context.zone(timezone)
        async with self._context.source.read() as session:
            return await EmotionService(session).timeline(user_id, view, granularity, zone, start=start, end=end)
