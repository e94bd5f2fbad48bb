"""Memories by when they are about."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import get_args

from memground.errors import InvalidInputError
from memground.postgres.prepared import Record
from memground.text import show
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import times as queries
from neuromem.queries.scope import Scope
from neuromem.ranking.calendar import Granularity, later
from neuromem.ranking.times import TimeRange, time_ranges
from neuromem.services import rows
from neuromem.services.memories import MemoryService
from neuromem.types import Memory, Period

_INSTANT = timedelta(microseconds=1)


class TemporalService:
    """Reads along the time that memories are about, and what questions say of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.tables

    @staticmethod
    def times(query: str, view: View, timezone: tzinfo = UTC) -> tuple[TimeRange, ...]:
        """The times a question names, asked at the moment of the view, by the clocks of a time zone."""
        return time_ranges(checks.query(query), view.now, timezone)

    async def by_time_range(
        self, scope: Scope, start: datetime | None, end: datetime | None, *, limit: int
    ) -> list[Memory]:
        """Memories of [start, end), the earliest first."""
        first, last = checks.span(start, end)
        return await self._between(scope, first, last, limit=limit, newest_first=False)

    async def recent(self, scope: Scope, *, days: int, limit: int) -> list[Memory]:
        """Memories of the last so many days, the latest first."""
        length = timedelta(days=checks.whole(days, "days", 1, checks.MAX_DAYS))
        first, last = checks.ALWAYS
        start, end = max(scope.view.now, first + length) - length, min(scope.view.now, last - _INSTANT) + _INSTANT
        return await self._between(scope, start, end, limit=limit, newest_first=True)

    async def timeline(
        self,
        scope: Scope,
        granularity: Granularity,
        timezone: tzinfo,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[Period]:
        """How many memories are of each day, week, month or year that has any, in order."""
        checks.name(scope.user_id, "user_id")
        check_granularity(granularity)
        first, last = checks.span(start, end)
        statement = queries.timeline(self._tables, scope.shape, granularity)
        values = scope.values(start=first, end=last, timezone=str(timezone))
        counts: dict[datetime, dict[str, int]] = {}
        for row in await self._session.fetch(statement, values):
            counts.setdefault(row["start"], {})[row["memory_type"]] = row["count"]
        return [
            Period(begun, period_end(begun, granularity, timezone), sum(by_type.values()), by_type)
            for begun, by_type in counts.items()
        ]

    async def _between(
        self, scope: Scope, start: datetime, end: datetime, *, limit: int, newest_first: bool
    ) -> list[Memory]:
        checks.name(scope.user_id, "user_id")
        checks.limit(limit)
        statement = queries.between(self._tables, scope.shape, newest_first=newest_first)
        found = await self._session.fetch(statement, scope.values(start=start, end=end, limit=limit))
        return await self._memories(scope, found)

    async def _memories(self, scope: Scope, found: Sequence[Record]) -> list[Memory]:
        sources = await MemoryService(self._session).sources(scope, [row["memory_id"] for row in found])
        return [rows.memory(row, scope.view, sources.get(row["memory_id"], ())) for row in found]


def check_granularity(given: object) -> None:
    """Raises InvalidInputError where it is none."""
    if given not in get_args(Granularity.__value__):
        raise InvalidInputError(f"granularity={show(given)} is not accepted; pass 'day', 'week', 'month' or 'year'")


def period_end(start: datetime, granularity: Granularity, timezone: tzinfo) -> datetime:
    """When the next one begins, by the clocks of the zone."""
    try:
        here = later(start.astimezone(timezone).replace(tzinfo=None), granularity, 1)
        return here.replace(tzinfo=timezone).astimezone(UTC)
    except (ValueError, OverflowError):  # the last there is
        return checks.ALWAYS[1]
