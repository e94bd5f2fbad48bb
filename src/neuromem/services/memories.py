"""Reading and versioning memories; what needs no embedding model."""

import base64
import binascii
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import UUID, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from memground.clock import Stamp
from memground.errors import InvalidInputError, NotFoundError
from memground.postgres import restoring, versioned
from memground.postgres.bulk import insertion, lists
from memground.postgres.engine import Row
from memground.text import show
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import memories as queries
from neuromem.queries.scope import Scope
from neuromem.services import rows
from neuromem.types import DEFAULT_ORIGIN, Memory, MemoryRef, Page, Source

type Versions = list[Memory]
type SourcesByMemory = dict[uuid.UUID, list[Source]]


class MemoryService:
    """Memories by id, by page and through their history."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.tables

    async def get(self, user_id: str, memory_id: MemoryRef, view: View) -> Memory | None:
        """The memory as the view knows it, None when it knows none of that id."""
        key = checks.identifier(memory_id, "memory_id")
        statement = queries.one(self._tables, checks.name(user_id, "user_id"), key, view)
        row = (await self._session.execute(statement)).mappings().first()
        if row is None:
            return None
        sources = await self.sources(Scope(user_id, view), [key])
        return rows.memory(row, view, sources.get(key, ()))

    async def list(self, scope: Scope, *, cursor: str | None, limit: int) -> Page[Memory]:
        """A page of memories, the last written first."""
        checks.name(scope.user_id, "user_id")
        checks.limit(limit)
        version, last = (None, None) if cursor is None else position(cursor)
        statement = queries.page(self._tables, scope.shape, after=cursor is not None)
        values = scope.values(version=version, id=last, limit=limit + 1)
        found = (await self._session.execute(statement, values)).mappings().all()
        shown = found[:limit]
        sources = await self.sources(scope, [row["memory_id"] for row in shown])
        items = tuple(rows.memory(row, scope.view, sources.get(row["memory_id"], ())) for row in shown)
        return Page(items, cursor_of(shown[-1]) if len(found) > limit else None)

    async def history(self, user_id: str, memory_id: MemoryRef, view: View) -> Versions:
        """All versions the view knows of, newest first; raises NotFoundError when there is none."""
        owned = queries.owned(self._tables, checks.name(user_id, "user_id"), checks.identifier(memory_id, "memory_id"))
        result = await self._session.execute(versioned.history(self._tables.embeddings, owned, view))
        versions = [rows.memory(row, view) for row in result.mappings()]
        if not versions:
            raise _unknown(user_id, memory_id)
        return versions

    async def find_id(self, user_id: str, prefix: str, view: View) -> str:
        """The id of the one memory, current or not, whose id begins so; see the facade."""
        first, last = checks.id_range(prefix, "prefix")
        statement = queries.ids_between(self._tables, checks.name(user_id, "user_id"), first, last, view)
        found = (await self._session.execute(statement)).scalars().all()
        if not found:
            raise NotFoundError(f"user {user_id!r} has no memory whose id begins with {prefix!r}")
        if len(found) > 1:
            raise InvalidInputError(f"prefix={prefix!r} begins several ids; pass more of it")
        return str(found[0])

    async def delete(self, user_id: str, memory_id: MemoryRef, *, origin: str = DEFAULT_ORIGIN) -> None:
        """Ends a memory: earlier moments still see it, `revert` brings it back. Raises NotFoundError."""
        row = await self.locked(user_id, memory_id)
        stamp = self._session.stamp(origin)
        owned = queries.owned(self._tables, user_id, row["memory_id"])
        await versioned.close_rows(self._session, self._tables.embeddings, [row["id"]], stamp, where=owned)
        links = self._tables.memory_sources
        own = (links.table.c.user_id == user_id) & (links.table.c.derived_id == row["memory_id"])
        current = await versioned.lock_current(self._session, links, own)
        await versioned.close_rows(self._session, links, [link["id"] for link in current], stamp, where=own)

    async def revert(self, user_id: str, memory_id: MemoryRef, version: int, *, origin: str = DEFAULT_ORIGIN) -> Memory:
        """Appends a version equal to an earlier one; also brings a deleted memory back. Raises NotFoundError."""
        key = checks.identifier(memory_id, "memory_id")
        checks.whole(version, "version", 0, checks.MAX_VERSION)
        vt = self._tables.embeddings
        owned = queries.owned(self._tables, checks.name(user_id, "user_id"), key)
        target = select(vt.key_column, vt.table.c.id).where(owned, vt.table.c.version == version)
        await self._session.hold(user_id, alone=True)
        wanted = (
            await self._session.execute(select(vt.table.c.known_from).where(owned, vt.table.c.version == version))
        ).first()
        if wanted is None:
            raise NotFoundError(
                f"user {user_id!r} has no version {version!r} of memory {memory_id}; history() shows those there are"
            )
        stamp = self._session.stamp(origin)
        await restoring.restore(self._session, vt, target, owned, stamp)
        links = self._tables.memory_sources
        own = (links.table.c.user_id == user_id) & (links.table.c.derived_id == key)
        then = restoring.state_at(links, own, wanted.known_from)
        await restoring.restore(self._session, links, then, own, stamp)
        memory = await self.get(user_id, key, View(now=stamp.at))
        assert memory is not None  # it was restored above, in this transaction
        return memory

    async def locked(self, user_id: str, memory_id: MemoryRef) -> Row:
        """The current row, locked until the transaction ends; raises NotFoundError."""
        owned = queries.owned(self._tables, checks.name(user_id, "user_id"), checks.identifier(memory_id, "memory_id"))
        await self._session.hold(user_id)
        if found := await versioned.lock_current(self._session, self._tables.embeddings, owned):
            return found[0]
        raise _unknown(user_id, memory_id)

    async def sources(self, scope: Scope, memory_ids: Sequence[uuid.UUID]) -> SourcesByMemory:
        """What memories came from, as the scope's view knows it."""
        if not memory_ids:
            return {}
        found: SourcesByMemory = {}
        links = Scope(scope.user_id, View(scope.view.now, scope.view.known_at))
        statement = queries.sources_of(self._tables, links.shape)
        for row in await self._session.execute(statement, links.values(ids=list(memory_ids))):
            memory_id, source = rows.source(row)
            found.setdefault(memory_id, []).append(source)
        return found

    async def link_sources(
        self,
        user_id: str,
        links: Mapping[uuid.UUID, Sequence[Source]],
        known_from: Mapping[uuid.UUID, datetime],
        stamp: Stamp,
        *,
        kind: str = "memory",
    ) -> None:
        """Records what new memories (or derived things of another kind) came from."""
        new = [
            source_link(user_id, kind, derived_id, source, known_from=known_from[derived_id], stamp=stamp)
            for derived_id, sources in links.items()
            for source in sources
        ]
        await self.store_links(new)

    async def store_links(self, links: Sequence[Row]) -> None:
        """Stores rows made by `source_link`."""
        if links:
            table, columns = self._tables.memory_sources.table, tuple(map(str, links[0]))
            await self._session.execute(insertion(table, columns), lists(table, columns, links))

    async def sources_known_since(
        self, user_id: str, links: Mapping[uuid.UUID, Sequence[Source]]
    ) -> dict[uuid.UUID, datetime]:
        """When the last of each memory's sources became known: nothing can be known before what it came from.

        Raises NotFoundError for a source that is not the user's.
        """
        tables = {"message": self._tables.conversations, "document": self._tables.documents}
        since: dict[str, datetime] = {}
        for kind, vt in tables.items():
            ids = sorted({uuid.UUID(s.id) for sources in links.values() for s in sources if s.kind == kind})
            if not ids:
                continue
            statement = (
                select(vt.key_column.label("key"), func.min(vt.table.c.known_from).label("since"))
                .where(vt.table.c.user_id == user_id, vt.key_column == any_(bindparam("ids", ids, type_=ARRAY(UUID))))
                .group_by(vt.key_column)
            )
            since |= {str(row.key): row.since for row in await self._session.execute(statement)}
            if missing := [str(key) for key in ids if str(key) not in since]:
                raise NotFoundError(f"user {user_id!r} has no {kind} {missing[0]}, which is named as a source")
        return {key: max(since[source.id] for source in sources) for key, sources in links.items() if sources}


def source_link(
    user_id: str, kind: str, derived_id: uuid.UUID, source: Source, *, known_from: datetime, stamp: Stamp
) -> dict[str, Any]:
    """That something derived (a "memory", an "edge" …) came from a source, as a row."""
    values = {
        "link_id": uuid.uuid4(),
        "user_id": user_id,
        "derived_kind": kind,
        "derived_id": derived_id,
        "source_kind": source.kind,
        "source_id": uuid.UUID(source.id),
        "span": source.span,
    }
    return versioned.new_row(stamp, values, known_from=known_from)


def checked_sources(sources: Sequence[Source | MemoryRef]) -> list[Source]:
    """Sources as given to `add_memory`: `Source` values, or ids of messages."""
    checked: list[Source] = []
    for source in checks.items(sources, "sources", "Source or message ids"):
        value = source if isinstance(source, Source) else Source("message", str(checks.identifier(source, "source id")))
        if value.kind not in ("message", "document"):
            raise InvalidInputError(f"source kind {show(value.kind)} is not accepted; pass 'message' or 'document'")
        span = None if value.span is None else checks.metadata(value.span)
        checked.append(Source(value.kind, str(checks.identifier(value.id, "source id")), span))
    return checked


def _unknown(user_id: str, memory_id: MemoryRef) -> NotFoundError:
    return NotFoundError(f"user {user_id!r} has no memory {memory_id}")


def cursor_of(row: Row) -> str:
    """What leads to the page after the one that ends with this row."""
    return base64.urlsafe_b64encode(json.dumps([row["version"], str(row["id"])]).encode()).decode()


def position(cursor: str) -> tuple[int, uuid.UUID]:
    """(version, id) of the row a cursor was made of."""
    try:
        version, row_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return checks.whole(version, "version", 0, checks.MAX_VERSION), uuid.UUID(row_id)
    except (ValueError, TypeError, AttributeError, binascii.Error):
        raise InvalidInputError(f"cursor={show(cursor)} is none of ours; pass the .cursor of the page before") from None
