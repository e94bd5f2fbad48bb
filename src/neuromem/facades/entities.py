"""What is known about one thing."""

from datetime import datetime

from neuromem.facades.context import Context
from neuromem.queries.scope import Scope
from neuromem.services.entities import EntityService
from neuromem.types import EntityProfile


class Profiling:
    """Profiles of things; a part of every reader."""

    _context: Context

    async def entity_profile(
        self,
        user_id: str,
        entity: str,
        *,
        as_of: datetime | None = None,
        valid_at: datetime | None = None,
        limit: int = 20,
    ) -> EntityProfile:
        """All that is known about whatever goes by the name `entity`: in the graph, in memories and in conversations.

        At most `limit` of relations, memories and messages each are given, the latest; they are counted beyond that.
        `as_of`: as known at that moment; `valid_at`: only relations and memories true in the world then. What nobody
        ever named gives a profile that is false. Raises InvalidInputError.
        """
        scope = Scope(user_id, self._context.view(as_of, valid_at))
        async with self._context.source.read() as session:
            return await EntityService(session).profile(scope, entity, limit=limit)
