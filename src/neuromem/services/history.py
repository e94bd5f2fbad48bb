"""A user's whole memory through time: rollback, undo, diff. The same mechanism over every versioned table."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import UUID, ColumnElement, and_, any_, bindparam, case, select
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from memground.clock import Stamp, as_utc
from memground.errors import InvalidInputError
from memground.postgres import restoring, versioned
from memground.postgres.engine import Query, Row
from memground.postgres.erasing import with_beginnings
from memground.postgres.queue import JobQueue, NewJob
from memground.postgres.restoring import Restored
from memground.postgres.statistics import freshen_within
from memground.postgres.versioned import VersionedTable
from memground.text import check_text
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.models import Tables
from neuromem.queries import erasing, graph
from neuromem.queries import messages as queries
from neuromem.queries.memories import born_with_derived
from neuromem.queries.messages import EMBED_MESSAGE
from neuromem.services import rows
from neuromem.services.digesting import DigestJobs
from neuromem.services.extraction_jobs import ExtractionJobs
from neuromem.services.graph import node_values
from neuromem.types import Change, Diff, Kind, Reversal


@dataclass(frozen=True)
class _Owned:
    """A versioned table, what its rows are called, and which column says whose they are."""

    vt: VersionedTable
    kind: str
    owner: str = "user_id"

    def of(self, user_id: str) -> ColumnElement[bool]:
        return self.vt.table.c[self.owner] == user_id


def _owned(tables: Tables) -> list[_Owned]:
    """Every versioned table: what is missing here would survive a rollback. (Vectors of messages follow these.)"""
    return [
        _Owned(tables.embeddings, "memory"),
        _Owned(tables.memory_sources, "source"),
        _Owned(tables.key_values, "kv", "scope_id"),
        _Owned(tables.conversations, "message"),
        _Owned(tables.documents, "document"),
        _Owned(tables.graph_nodes, "graph_node"),
        _Owned(tables.graph_edges, "graph_edge"),
        _Owned(tables.emotion_profiles, "emotion_profile"),
    ]


_SHOWN: dict[Kind, Callable[[Row, View], Any]] = {
    "memory": rows.memory,
    "message": rows.message,
    "kv": rows.key_value,
    "document": rows.document,
    "graph_node": rows.graph_node,
    "graph_edge": rows.graph_edge,
}


class HistoryService:
    """Goes back, takes back and compares. Everything it does appends, so it can itself be undone."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.tables

    async def rollback(self, user_id: str, to_time: datetime) -> Reversal:
        """Makes the present equal to what was known at `to_time`."""
        checks.name(user_id, "user_id")
        moment = as_utc(to_time, "to_time")
        await self._session.hold(user_id, alone=True)
        stamp = self._session.stamp(_new_origin("rollback"))
        await self._check_horizon(user_id, moment)
        if moment > stamp.at:
            raise InvalidInputError(f"to_time={moment.isoformat()} lies in the future; pass a moment that has been")
        return await self._reverse(user_id, stamp, lambda vt, where: restoring.state_at(vt, where, moment))

    async def undo(
        self, user_id: str, *, origin: str | None = None, recorded_since: datetime | None = None
    ) -> Reversal:
        """Takes back what one writer wrote (`origin`), what was recorded since a time, or both together.

        What others changed on top since then stays as they left it. A node at which others have written edges since
        stays, by its name alone.
        """
        checks.name(user_id, "user_id")
        if origin is None and recorded_since is None:
            raise InvalidInputError("undo needs origin=, recorded_since= or both; to go back in time use rollback")
        if origin is not None:
            check_text(origin, "origin", limit=255)
        since = checks.moment(recorded_since, "recorded_since")

        def without(vt: VersionedTable, where: ColumnElement[bool]) -> Query:
            if vt is self._tables.memory_sources:
                where = and_(where, ~born_with_derived(self._tables))
            target = restoring.state_without(vt, where, origin=origin, recorded_since=since)
            target = with_beginnings(vt, where, target)
            if vt is not nodes.vt:
                return target
            return graph.unneeded(self._tables, user_id, target, without(edges.vt, edges.of(user_id)))

        nodes = _Owned(self._tables.graph_nodes, "graph_node")
        edges = _Owned(self._tables.graph_edges, "graph_edge")
        await self._session.hold(user_id, alone=True)
        stamp = self._session.stamp(_new_origin("undo"))
        done = await self._reverse(user_id, stamp, without)
        mine = nodes.of(user_id)
        unwritten = restoring.state_without(nodes.vt, mine, origin=origin, recorded_since=since)
        # Two questions: what was written just now is not counted yet, and one would be asked anew for every node.
        gone = (await self._session.execute(graph.ending(unwritten))).scalars().all()
        kept = graph.current_among(self._tables, user_id, gone)
        for row in (await self._session.execute(kept)).mappings().all() if gone else ():
            named = {key: value for key, value in row["properties"].items() if key == "name"}
            values = node_values(user_id, row["node_type"], row["node_id"], named)
            await versioned.append(self._session, nodes.vt, row, values, stamp, where=mine)
        return done

    async def diff(self, user_id: str, t1: datetime, t2: datetime, view: View) -> Diff:
        """What was learned, changed and forgotten from `t1` to `t2`, in the order it happened."""
        checks.name(user_id, "user_id")
        earlier, later = as_utc(t1, "t1"), as_utc(t2, "t2")
        if later < earlier:
            raise InvalidInputError(f"t2={later.isoformat()} lies before t1={earlier.isoformat()}; swap them")
        # A view of the past knows nothing later than itself.
        earlier, later = min(earlier, view.now), min(later, view.now)
        found: list[Change] = []
        for owned in _owned(self._tables):
            if owned.kind in _SHOWN:
                found += await self._changes(owned, user_id, earlier, later)
        return Diff(
            learned=tuple(change for change in found if change.before is None),
            changed=tuple(change for change in found if change.before is not None and change.after is not None),
            forgotten=tuple(change for change in found if change.after is None),
        )

    async def _check_horizon(self, user_id: str, moment: datetime) -> None:
        horizon: datetime | None = await self._session.scalar(erasing.horizon(self._tables, user_id))
        if horizon is not None and moment < horizon:
            raise InvalidInputError(
                f"to_time={moment.isoformat()} lies before {horizon.isoformat()}, and the history before that was "
                "erased by purge_history; pass that moment or a later one"
            )

    async def _changes(self, owned: _Owned, user_id: str, earlier: datetime, later: datetime) -> list[Change]:
        statement = versioned.changes(owned.vt, owned.of(user_id), earlier, later)
        pairs: list[tuple[uuid.UUID, uuid.UUID | None, uuid.UUID | None]] = [
            (row.key, row.before, row.after) for row in await self._session.execute(statement)
        ]
        ids = {row_id for pair in pairs for row_id in pair[1:] if row_id is not None}
        found = await versioned.fetch_rows(self._session, owned.vt, ids, where=owned.of(user_id))
        kind: Kind = owned.kind  # pyright: ignore[reportAssignmentType]  # only the kinds of _SHOWN come here
        show = _SHOWN[kind]
        read: dict[datetime, set[uuid.UUID]] = {earlier: set(), later: set()}
        if kind == "message" and pairs:
            for moment, keys in read.items():
                statement = queries.extracted_among(self._tables, user_id, [key for key, _, _ in pairs], moment)
                keys.update((await self._session.execute(statement)).scalars())

        def state(row_id: uuid.UUID | None, moment: datetime) -> Any:
            if row_id is None:
                return None
            row = found[row_id]
            if kind == "message":  # whether it was extracted is told by its links, not in its row
                row = {**row, "extracted": row["message_id"] in read[moment]}
            return show(row, View(now=moment, known_at=moment))

        return [Change(kind, str(key), state(before, earlier), state(after, later)) for key, before, after in pairs]

    async def _reverse(
        self,
        user_id: str,
        stamp: Stamp,
        target: Callable[[VersionedTable, ColumnElement[bool]], Query],
    ) -> Reversal:
        done: dict[str, Restored] = {}
        # With what the server guesses of tables that grew just now, it compares each row with each other.
        await freshen_within(self._session, self._tables.schema)
        # Nodes first: which stay is told by the edges as they were written, and those that come back are written anew.
        for owned in sorted(_owned(self._tables), key=lambda owned: owned.kind != "graph_node"):
            where = owned.of(user_id)
            done[owned.kind] = await restoring.restore(self._session, owned.vt, target(owned.vt, where), where, stamp)
        await self._vectors_follow(user_id, done["message"], stamp)
        # A message that came back may have left before its vector was made.
        unembedded = (await self._session.execute(queries.unembedded(self._tables, user_id))).scalars()
        jobs = [NewJob(EMBED_MESSAGE, str(key), user_id) for key in unembedded]
        await JobQueue(self._tables.jobs).enqueue(self._session, jobs)
        await ExtractionJobs(self._session).restart(user_id)
        await DigestJobs(self._session).restart(user_id)
        return Reversal(
            origin=stamp.origin,
            at=stamp.at,
            restored={kind: len(r.restored) for kind, r in done.items() if r.restored and kind not in _INTERNAL},
            ended={kind: len(r.ended) for kind, r in done.items() if r.ended and kind not in _INTERNAL},
        )

    async def _vectors_follow(self, user_id: str, messages: Restored, stamp: Stamp) -> None:
        """The vectors of messages come and go with them."""
        vt = self._tables.conversation_embeddings
        key, row_id = vt.key_column, vt.table.c.id
        where = and_(vt.table.c.user_id == user_id, _among(key, [*messages.restored, *messages.ended]))
        newest = (
            select(key, case((_among(key, messages.restored), row_id)))
            .where(where)
            .ext(distinct_on(key))
            .order_by(key, vt.table.c.version.desc())
        )
        await restoring.restore(self._session, vt, newest, where, stamp)


_INTERNAL = frozenset({"source"})


def _new_origin(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex[:12]}"


def _among(column: ColumnElement[uuid.UUID], ids: list[uuid.UUID]) -> ColumnElement[bool]:
    return column == any_(bindparam("ids", ids, type_=ARRAY(UUID), unique=True))
