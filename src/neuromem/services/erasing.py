"""Erasing: what goes is absent at every moment, and nothing brings it back."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Table, and_, or_, update

from memground.clock import as_utc
from memground.errors import InvalidInputError, NotFoundError
from memground.postgres import erasing
from memground.postgres.erasing import among, closed_until
from memground.postgres.queue import JobQueue, NewJob
from memground.postgres.versioned import VersionedTable
from neuromem import checks
from neuromem.db import Session
from neuromem.extraction.policy import DigestPolicy, ExtractionPolicy
from neuromem.queries import emotion as emotions
from neuromem.queries import erasing as queries
from neuromem.queries.messages import EMBED_MESSAGE
from neuromem.services.digesting import DigestJobs
from neuromem.services.emotion import EmotionService
from neuromem.services.erasure_plan import ErasurePlan, Plan
from neuromem.services.extraction_jobs import ExtractionJobs
from neuromem.services.stored_objects import REMOVE_OBJECT, StoredObjects
from neuromem.types import Erased, ErasurePreview, MemoryRef


@dataclass(frozen=True)
class Target:
    """What is to be erased: all of a user, one thing with what was derived from it, or the history before a moment."""

    user_id: str
    what: Erased
    key: uuid.UUID | None = None
    before: datetime | None = None

    @classmethod
    def of(
        cls,
        user_id: str,
        *,
        memory_id: MemoryRef | None = None,
        message_id: MemoryRef | None = None,
        document_id: MemoryRef | None = None,
        before: datetime | None = None,
    ) -> "Target":
        """The one thing named, all of the user where none is. Raises InvalidInputError."""
        checks.name(user_id, "user_id")
        given: list[tuple[Erased, MemoryRef | None]] = [
            ("memory", memory_id),
            ("message", message_id),
            ("document", document_id),
        ]
        targets = [cls.thing(user_id, what, thing_id) for what, thing_id in given if thing_id is not None]
        if before is not None:
            targets.append(cls.history(user_id, before))
        if len(targets) > 1:
            named = " and ".join("before" if target.key is None else f"{target.what}_id" for target in targets)
            raise InvalidInputError(f"{named} were given; name one thing to erase")
        return targets[0] if targets else cls(user_id, "user")

    @classmethod
    def thing(cls, user_id: str, what: Erased, thing_id: MemoryRef) -> "Target":
        """A memory, message or document. Raises InvalidInputError."""
        return cls(checks.name(user_id, "user_id"), what, checks.identifier(thing_id, f"{what}_id"))

    @classmethod
    def history(cls, user_id: str, before: datetime) -> "Target":
        """The history before a moment. Raises InvalidInputError."""
        return cls(checks.name(user_id, "user_id"), "history", before=as_utc(before, "before"))


@dataclass(frozen=True)
class Done:
    """What a transaction erased.

    `transaction`: which one, `gone`: the conditions by table that hold for what went, to be counted afterwards.
    `objects`: keys that no row names any more.
    """

    rows: Mapping[str, int]
    at: datetime
    transaction: str
    gone: Mapping[Table, ColumnElement[bool]]
    objects: tuple[str, ...] = ()
    read_again: int = 0


@dataclass
class _Erasing:
    """What one erasure has removed so far."""

    rows: dict[str, int] = field(default_factory=dict[str, int])
    gone: dict[Table, ColumnElement[bool]] = field(default_factory=dict[Table, ColumnElement[bool]])


class ErasureService:
    """Erases for good, in the session's transaction; the caller commits it and then sees to what lies outside."""

    def __init__(
        self, session: Session, *, extraction: ExtractionPolicy | None = None, digest: DigestPolicy | None = None
    ) -> None:
        self._session = session
        self._tables = session.tables
        self._extraction = extraction
        self._digest = digest

    async def preview(self, target: Target) -> ErasurePreview:
        """What `erase` would remove. Raises NotFoundError, InvalidInputError."""
        plan: Plan | None = None
        if target.key is not None:
            plan = await self._plan(target)
            rows = {name: len(ids) for name, ids in plan.rows.items()} | await self._of_messages(target, plan)
            objects = len(plan.objects)
        else:
            conditions = self._conditions(target)
            rows = {table.name: await self._count(table, where) for table, where in conditions.items()}
            objects = len(await self._objects(conditions))
        return ErasurePreview(
            user_id=target.user_id,
            what=target.what,
            id=None if target.key is None else str(target.key),
            before=target.before,
            rows={name: rows[name] for name in sorted(rows) if rows[name]},
            objects=objects,
            read_again=len(plan.unread) if plan is not None else 0,
        )

    async def erase(self, target: Target) -> Done:
        """Removes it. Raises NotFoundError, InvalidInputError.

        Alone with the user's rows: who writes waits, and what is being worked on in the background is not stored.
        """
        await self._session.hold(target.user_id, alone=True)
        at = self._session.clock.now()
        transaction: str = await self._session.scalar(erasing.transaction())
        done = _Erasing()
        objects: set[str] = set()
        unread = 0
        if target.key is None:
            conditions = self._conditions(target)
            objects = await self._objects(conditions)
            if target.what == "user":
                await StoredObjects(self._session).withdraw(target.user_id)
            for table, where in conditions.items():
                await self._remove(done, table, where)
            if target.before is not None:
                note = queries.set_horizon(self._tables, target.user_id, target.before, at)
                await self._session.execute(note)
        else:
            plan = await self._plan(target)
            objects, unread = plan.objects, len(plan.unread)
            await self._carry_out(done, target.user_id, plan)
        await StoredObjects(self._session).discard(objects)
        return Done(
            rows={name: count for name, count in sorted(done.rows.items()) if count},
            at=at,
            transaction=transaction,
            gone=done.gone,
            objects=tuple(sorted(objects)),
            read_again=unread,
        )

    async def left(self, done: Done) -> dict[str, int]:
        """How many rows there are, by table, of what an erasure that was committed had to remove.

        What was written since by later transactions is new, and not counted.
        """
        return {
            table.name: await self._session.scalar(erasing.left(table, where, done.transaction))
            for table, where in done.gone.items()
        }

    # ------------------------------------------------------------ all of a user, and history

    def _conditions(self, target: Target) -> dict[Table, ColumnElement[bool]]:
        """What goes of each table."""
        tables, user_id = self._tables, target.user_id
        if target.before is None:
            return {table: queries.owned(tables, table, user_id) for table in queries.owners(tables)}
        now = self._session.clock.now()
        if target.before > now:
            raise InvalidInputError(
                f"before={target.before.isoformat()} lies in the future (it is {now.isoformat()}); "
                "pass a moment that has been"
            )
        ended = {vt.table: closed_until(vt.table, target.before) for vt in queries.versioned_tables(tables)}
        links, memories = tables.memory_sources.table, tables.embeddings.table
        ended[links] = or_(ended[links], queries.marks_of_nothing(tables, ended[memories]))
        return {table: and_(queries.owned(tables, table, user_id), where) for table, where in ended.items()}

    async def _objects(self, conditions: Mapping[Table, ColumnElement[bool]]) -> set[str]:
        """The keys of stored files that no row names any more once these rows are gone."""
        where = conditions[self._tables.documents.table]
        keys = set((await self._session.execute(queries.objects(self._tables, where))).scalars())
        if keys:
            kept = and_(or_(~where, where.is_(None)), self._tables.documents.table.c.object_key.in_(keys))
            keys -= set((await self._session.execute(queries.objects(self._tables, kept))).scalars())
        return keys

    # ------------------------------------------------------------ one thing

    async def _plan(self, target: Target) -> Plan:
        assert target.key is not None
        tables = self._tables
        vt: VersionedTable = {
            "memory": tables.embeddings,
            "message": tables.conversations,
            "document": tables.documents,
        }[target.what]
        plan = await ErasurePlan(self._session, target.user_id).of(vt, target.key)
        if plan is None:
            raise NotFoundError(f"user {target.user_id!r} has no {target.what} {target.key}")
        where = queries.owned(tables, tables.documents.table, target.user_id)
        gone = among(tables.documents.table.c.id, plan.rows.get("documents", ()))
        kept = and_(where, ~gone, tables.documents.table.c.object_key.in_(plan.objects))
        if plan.objects:
            plan.objects -= set((await self._session.execute(queries.objects(tables, kept))).scalars())
        return plan

    async def _carry_out(self, done: _Erasing, user_id: str, plan: Plan) -> None:
        tables = self._tables
        felt_since: datetime | None = None
        if memories := plan.rows.get("embeddings"):
            felt_since = await self._session.scalar(emotions.felt_since(tables, user_id, memories))
        for vt in queries.versioned_tables(tables):
            mine = queries.owned(tables, vt.table, user_id)
            if ids := plan.rows.get(vt.table.name):
                await self._remove(done, vt.table, and_(mine, among(vt.table.c.id, ids)))
            await erasing.let_last(self._session, vt, plan.last.get(vt.table.name, {}), where=mine)
        if felt_since is not None:
            await EmotionService(self._session).count_again(user_id, felt_since)
        if plan.memories:
            documents = tables.documents.table
            named = and_(documents.c.user_id == user_id, among(documents.c.embedding_id, plan.memories))
            await self._session.execute(update(documents).where(named).values(embedding_id=None))
        await self._work_begins_anew(done, user_id, plan)

    async def _work_begins_anew(self, done: _Erasing, user_id: str, plan: Plan) -> None:
        """No result that is on its way is stored: it may have been made of what was erased."""
        jobs, queue = self._tables.jobs, JobQueue(self._tables.jobs)
        if plan.messages:
            empty = queries.sessions_left_empty(self._tables, user_id, plan.sessions, plan.messages)
            await self._remove(done, self._tables.conversation_sessions, empty)
            mine = self._jobs_of(user_id, plan)
            await self._remove(done, jobs, mine)
        await ExtractionJobs(self._session, queue).restart(user_id)
        await queue.revoke(self._session, jobs.c.owner == user_id, jobs.c.kind != REMOVE_OBJECT)
        await queue.enqueue(self._session, [NewJob(EMBED_MESSAGE, str(key), user_id) for key in sorted(plan.vectors)])
        if plan.unread and self._extraction is not None:
            turns = dict[str, int]()
            for session_id in plan.unread.values():
                turns[session_id] = turns.get(session_id, 0) + 1
            await ExtractionJobs(self._session, queue).gather(user_id, turns, self._extraction)
        if plan.undigested and self._digest is not None:
            await DigestJobs(self._session, queue).gather(user_id, len(plan.undigested), self._digest)

    def _jobs_of(self, user_id: str, plan: Plan) -> ColumnElement[bool]:
        jobs = self._tables.jobs
        named = jobs.c.ref.in_([str(key) for key in plan.messages])
        return and_(jobs.c.owner == user_id, jobs.c.kind == EMBED_MESSAGE, named)

    async def _of_messages(self, target: Target, plan: Plan) -> dict[str, int]:
        """What a preview counts of sessions and jobs."""
        if not plan.messages:
            return {}
        sessions = self._tables.conversation_sessions
        empty = queries.sessions_left_empty(self._tables, target.user_id, plan.sessions, plan.messages)
        return {
            sessions.name: await self._count(sessions, empty),
            self._tables.jobs.name: await self._count(self._tables.jobs, self._jobs_of(target.user_id, plan)),
        }

    # ------------------------------------------------------------ shared

    async def _remove(self, done: _Erasing, table: Table, where: ColumnElement[bool]) -> None:
        done.rows[table.name] = await erasing.erase(self._session, table, where)
        done.gone[table] = where

    async def _count(self, table: Table, where: ColumnElement[bool]) -> int:
        return await self._session.scalar(queries.count(table, where))
