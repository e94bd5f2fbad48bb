"""How much is known about a user."""

from memground.postgres.queue import JobQueue
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import stats as queries
from neuromem.types import Stats


class StatsService:
    """Counts, as a view sees them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.tables

    async def stats(self, user_id: str, view: View) -> Stats:
        """The counts of one user; background work is the present's, so a view of the past has none."""
        checks.name(user_id, "user_id")
        tables, jobs = self._tables, self._tables.jobs
        by_type = (await self._session.execute(queries.memories(tables, user_id, view))).all()
        said = (await self._session.execute(queries.messages(tables, user_id, view))).one()
        graph = (await self._session.execute(queries.graph(tables, user_id, view))).one()
        background = None
        if view.known_at is None:
            background = await JobQueue(jobs).status(self._session, jobs.c.owner == user_id)
        return Stats(
            user_id=user_id,
            memories={row.memory_type: row.total for row in by_type},
            memory_versions=await self._session.scalar(queries.memory_versions(tables, user_id, view)),
            messages=said.total,
            sessions=said.sessions,
            key_values=await self._session.scalar(queries.key_values(tables, user_id, view)),
            first_known=min((row.first for row in (*by_type, said) if row.first is not None), default=None),
            last_known=max((row.last for row in (*by_type, said) if row.last is not None), default=None),
            background=background,
            graph_nodes=graph.nodes,
            graph_edges=graph.edges,
        )
