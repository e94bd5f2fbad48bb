"""How much is known about a user."""

from memground.postgres.queue import JobQueue
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import stats as queries
from neuromem.queries.scope import Scope
from neuromem.types import MemoryType, Stats


class StatsService:
    """Counts, as a view sees them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.tables

    async def stats(self, user_id: str, view: View) -> Stats:
        """One statement counts. Background work is the present's, so a view of the past has none."""
        checks.name(user_id, "user_id")
        tables, jobs = self._tables, self._tables.jobs
        scope = Scope(user_id, View(view.now, view.known_at))
        (row,) = await self._session.fetch(queries.counts(tables, scope.shape), scope.values())
        background = None
        if view.known_at is None:
            background = await JobQueue(jobs).status(self._session, jobs.c.owner == user_id)
        memories: dict[str, int] = row["memories"] or {}
        return Stats(
            user_id=user_id,
            memories=dict(sorted(memories.items(), key=lambda item: (-item[1], item[0]))),
            memory_versions=row["memory_versions"],
            messages=row["messages"],
            sessions=row["sessions"],
            key_values=row["key_values"],
            first_known=row["first"],
            last_known=row["last"],
            background=background,
            graph_nodes=row["graph_nodes"],
            graph_edges=row["graph_edges"],
            documents=row["documents"],
            insights=memories.get(MemoryType.INSIGHT, 0),
            emotions=row["emotions"],
            without_vector=row["without_vector"],
        )
