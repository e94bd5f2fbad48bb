"""Durable jobs with leases, in the same database as the data they are about.

A job is recorded in the transaction that makes it necessary. A worker claims it in a short transaction by taking a
lease, works with no transaction open, and stores the result in a transaction that first finishes the job: if the lease
was lost meanwhile, the job is not finished and the result must not be stored. So work may be repeated after a kill, its
result is stored once.

Leases and pauses are measured by the server's clock, the only one all workers share.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    UUID,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Float,
    Identity,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, Insert, insert

from memground.jobs import JobPolicy, QueueStatus
from memground.postgres.bulk import insertion, lists
from memground.postgres.engine import Executor

__all__ = ["FailedJob", "Job", "JobPolicy", "JobQueue", "Lease", "NewJob", "QueueStatus", "enqueuing", "jobs_table"]

_ERROR_LENGTH = 2_000


@dataclass(frozen=True)
class NewJob:
    """Work to be done: a `kind`, what it is about (`ref`, unique per kind), for whom (`owner`)."""

    kind: str
    ref: str
    owner: str
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Job:
    """A claimed job."""

    id: int
    kind: str
    ref: str
    owner: str
    payload: Mapping[str, Any]
    attempts: int


@dataclass(frozen=True)
class FailedJob:
    """A job that failed for good at some time, and the last error."""

    job: Job
    time: datetime
    error: str


@dataclass(frozen=True)
class Lease:
    """The jobs one claim got, and the token that proves it."""

    token: uuid.UUID
    jobs: list[Job]


def jobs_table(metadata: MetaData, name: str = "jobs") -> Table:
    """The table a queue works on."""
    time = DateTime(timezone=True)
    table = Table(
        name,
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("kind", String(50), nullable=False),
        Column("ref", String(255), nullable=False),
        Column("owner", String(255), nullable=False),
        Column("payload", JSONB, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("run_after", time, nullable=False),
        Column("lease_until", time),
        Column("lease_token", UUID),
        Column("failed_at", time),
        Column("last_error", Text),
        Column("created_at", time, nullable=False),
    )
    Index(f"uq_{name}_ref", table.c.kind, table.c.ref, unique=True)
    Index(f"ix_{name}_ready", table.c.kind, table.c.run_after, postgresql_where=table.c.failed_at.is_(None))
    Index(f"ix_{name}_owner", table.c.owner)
    return table


_GATHERED = "gathered"
_JOB = ("id", "kind", "ref", "owner", "payload", "attempts")
_GIVEN = ("kind", "ref", "owner", "payload", "attempts")


@lru_cache
def _enqueue(table: Table) -> Insert:
    new = insertion(table, _GIVEN, now=("run_after", "created_at"))
    return new.on_conflict_do_nothing(index_elements=["kind", "ref"])


def enqueuing(table: Table, kind: str, ref: ColumnElement[str], owner: ColumnElement[str]) -> Insert:
    """An insert of a job for each row that `ref` and `owner` are columns of, to be part of a larger statement."""
    payload, attempts, now = literal_column("'{}'::jsonb", JSONB), literal_column("0", Integer), func.clock_timestamp()
    jobs = select(literal(kind), ref, owner, payload, attempts, now, now)
    new = insert(table).from_select([*_GIVEN, "run_after", "created_at"], jobs)
    return new.on_conflict_do_nothing(index_elements=["kind", "ref"])


@lru_cache
def _gather(table: Table) -> Insert:
    kind, ref, owner = (bindparam(f"job_{name}", type_=String) for name in ("kind", "ref", "owner"))
    gathered, enough = bindparam("gathered", type_=Integer), bindparam("enough", type_=Integer)
    now, idle = func.clock_timestamp(), func.make_interval(0, 0, 0, 0, 0, 0, bindparam("idle", type_=Float))
    new = insert(table).values(
        kind=kind,
        ref=ref,
        owner=owner,
        payload=bindparam("job_payload", type_=JSONB),
        attempts=0,
        run_after=case((gathered >= enough, now), else_=now + idle),
        created_at=now,
    )
    before = cast(func.jsonb_extract_path_text(table.c.payload, _GATHERED), Integer)
    total = func.coalesce(before, 0) + gathered
    failed = table.c.failed_at.is_not(None)
    tried = and_(~failed, table.c.attempts > 0)
    return new.on_conflict_do_update(
        index_elements=["kind", "ref"],
        set_={
            "payload": new.excluded.payload.op("||")(func.jsonb_build_object(_GATHERED, total)),
            "run_after": case((tried, table.c.run_after), (total >= enough, now), else_=now + idle),
            "attempts": case((failed, 0), else_=table.c.attempts),
            "failed_at": null(),
        },
    )


def _shown(error: str) -> str:
    return error.replace("\x00", "")[:_ERROR_LENGTH]


class JobQueue:
    """The queue over one jobs table. Every method runs in the caller's transaction."""

    def __init__(self, table: Table, policy: JobPolicy | None = None) -> None:
        self.table = table
        self.policy = policy or JobPolicy()

    async def enqueue(self, connection: Executor, jobs: Sequence[NewJob]) -> None:
        """Records jobs; one that is already there (same kind and ref) stays as it is."""
        if not jobs:
            return
        rows = [
            {"kind": j.kind, "ref": j.ref, "owner": j.owner, "payload": dict(j.payload), "attempts": 0} for j in jobs
        ]
        await connection.execute(_enqueue(self.table), lists(self.table, _GIVEN, rows))

    async def gather(
        self, connection: Executor, jobs: Iterable[tuple[NewJob, int]], *, enough: int, idle: float
    ) -> None:
        """Records work that gathers: one job per kind and ref, whose counts add up.

        It is due when `enough` have gathered, else `idle` seconds after the last. One that is being tried keeps its
        time; one that failed gets another round with what is new. In the order of refs, so that two writers of the
        same jobs wait for instead of block each other. The job stays locked until the transaction ends: whoever
        finishes it sees what it was recorded for.
        """
        t = self.table
        for job, count in sorted(jobs, key=lambda item: item[0].ref):
            await connection.execute(
                _gather(t),
                {
                    "job_kind": job.kind,
                    "job_ref": job.ref,
                    "job_owner": job.owner,
                    "job_payload": {**job.payload, _GATHERED: count},
                    "gathered": count,
                    "enough": enough,
                    "idle": float(idle),
                },
            )

    async def hurry(self, connection: Executor, *where: ColumnElement[bool], note: Mapping[str, Any]) -> int:
        """Makes jobs due that wait for their time, not those that wait after an error; returns how many.

        `note` is added to the payload, also of those that are being worked on: see `payload`.
        """
        t, now = self.table, func.clock_timestamp()
        waits = and_(t.c.attempts == 0, t.c.run_after > now)
        unnoted = ~t.c.payload.op("@>", is_comparison=True)(literal(dict(note), JSONB))
        hurried = update(t).where(self._locked(t.c.failed_at.is_(None), or_(waits, unnoted), *where))
        payload = t.c.payload.op("||")(literal(dict(note), JSONB))
        run_after = case((waits, now), else_=t.c.run_after)
        result = await connection.execute(hurried.values(run_after=run_after, payload=payload).returning(t.c.id))
        return len(result.all())

    async def payload(self, connection: Executor, lease: Lease, ref: str) -> Mapping[str, Any] | None:
        """A claimed job's payload as it is now, and the job locked; None where the lease was lost."""
        statement = select(self.table.c.payload).where(self._held(lease, [ref])).with_for_update()
        return (await connection.execute(statement)).scalar()

    async def set_aside(self, connection: Executor, lease: Lease, ref: str, job: NewJob, error: str) -> bool:
        """Puts a failed job in the place of one whose last try failed, so that later work can go on without it.

        Whether the lease still held; if not, nothing was done.
        """
        if not await self.finish(connection, lease, [ref]):
            return False
        now = func.clock_timestamp()
        values = {"kind": job.kind, "ref": job.ref, "owner": job.owner, "payload": dict(job.payload)}
        failed = insert(self.table).values(
            **values, attempts=self.policy.attempts, run_after=now, created_at=now, failed_at=now,
            last_error=_shown(error),
        )  # fmt: skip
        await connection.execute(failed.on_conflict_do_nothing(index_elements=["kind", "ref"]))
        return True

    async def claim(self, connection: Executor, kinds: Sequence[str]) -> Lease:
        """Takes a lease on up to `policy.batch` jobs that are due, oldest first, of one kind."""
        t, now = self.table, func.clock_timestamp()
        due = and_(
            t.c.kind.in_(kinds),
            t.c.failed_at.is_(None),
            t.c.run_after <= now,
            or_(t.c.lease_until.is_(None), t.c.lease_until < now),
        )
        ready = select(t.c.id).where(due).order_by(t.c.id).limit(self.policy.batch).with_for_update(skip_locked=True)
        token = uuid.uuid4()
        result = await connection.execute(
            update(t)
            .where(self._among(ready))
            .values(lease_until=now + self._seconds(self.policy.lease), lease_token=token, attempts=t.c.attempts + 1)
            .returning(t.c.id, t.c.kind, t.c.ref, t.c.owner, t.c.payload, t.c.attempts)
        )
        jobs = [Job(*row) for row in result]
        return Lease(token, sorted(jobs, key=lambda job: job.id))

    async def take(self, connection: Executor, job: NewJob) -> Lease | None:
        """Takes a lease on this job, due or not, recording it where it is not; None while another has one."""
        t, now, token = self.table, func.clock_timestamp(), uuid.uuid4()
        leased = {"lease_until": now + self._seconds(self.policy.lease), "lease_token": token, "failed_at": null()}
        values = {"kind": job.kind, "ref": job.ref, "owner": job.owner, "payload": dict(job.payload)}
        new = insert(t).values(**values, **leased, attempts=1, run_after=now, created_at=now)
        free = or_(t.c.lease_until.is_(None), t.c.lease_until < now)
        taken = new.on_conflict_do_update(
            index_elements=["kind", "ref"], set_=leased | {"attempts": t.c.attempts + 1}, where=free
        ).returning(t.c.id, t.c.kind, t.c.ref, t.c.owner, t.c.payload, t.c.attempts)
        row = (await connection.execute(taken)).first()
        return None if row is None else Lease(token, [Job(*row)])

    async def extend(self, connection: Executor, lease: Lease) -> None:
        """Renews the lease, for work that takes longer than one."""
        until = func.clock_timestamp() + self._seconds(self.policy.lease)
        await connection.execute(update(self.table).where(self._locked(self._held(lease))).values(lease_until=until))

    async def finish(self, connection: Executor, lease: Lease, refs: Iterable[str]) -> set[str]:
        """Removes jobs that are done and returns the refs of those still held: only their results may be stored."""
        statement = delete(self.table).where(self._locked(self._held(lease, refs))).returning(self.table.c.ref)
        return set((await connection.execute(statement)).scalars())

    async def release(self, connection: Executor, lease: Lease) -> None:
        """Gives unfinished jobs back without counting the try (a worker that is told to stop)."""
        t = self.table
        await connection.execute(
            update(t)
            .where(self._locked(self._held(lease)))
            .values(lease_until=None, lease_token=None, attempts=func.greatest(0, t.c.attempts - 1))
        )

    async def fail(self, connection: Executor, lease: Lease, refs: Iterable[str], error: str) -> None:
        """Gives jobs back after an error, to be tried again after a pause; the last try makes them failed."""
        t, now, p = self.table, func.clock_timestamp(), self.policy
        doublings = func.least(t.c.attempts - 1, 60)  # enough for any pause, too few to overflow
        wait = self._seconds(func.least(p.backoff_max, p.backoff * func.power(2.0, doublings)))
        await connection.execute(
            update(t)
            .where(self._locked(self._held(lease, refs)))
            .values(
                lease_until=None,
                lease_token=None,
                last_error=_shown(error),
                run_after=now + wait,
                failed_at=case((t.c.attempts >= p.attempts, now)),
            )
        )

    async def retry_failed(self, connection: Executor, *where: ColumnElement[bool]) -> int:
        """Makes failed jobs due again; returns how many."""
        t = self.table
        result = await connection.execute(
            update(t)
            .where(self._locked(t.c.failed_at.is_not(None), *where))
            .values(failed_at=None, last_error=None, attempts=0, run_after=func.clock_timestamp())
            .returning(t.c.id)
        )
        return len(result.all())

    async def cancel(self, connection: Executor, *where: ColumnElement[bool]) -> int:
        """Removes jobs, claimed ones too: their results will not be stored; returns how many."""
        result = await connection.execute(delete(self.table).where(self._locked(*where)).returning(self.table.c.id))
        return len(result.all())

    async def revoke(self, connection: Executor, *where: ColumnElement[bool]) -> int:
        """Takes jobs from whoever works on them, whose results will not be stored; they begin anew, those that failed
        too, and what is told of errors goes. Returns how many."""
        t, now = self.table, func.clock_timestamp()
        begun = or_(t.c.lease_token.is_not(None), t.c.attempts > 0)
        anew = update(t).where(self._locked(*where)).values(
            lease_until=None, lease_token=None, failed_at=None, last_error=None, attempts=0,
            run_after=case((begun, now), else_=t.c.run_after),
        )  # fmt: skip
        return len((await connection.execute(anew.returning(t.c.id))).all())

    async def status(self, connection: Executor, *where: ColumnElement[bool]) -> QueueStatus:
        """How much waits and how much failed."""
        t = self.table
        failed = t.c.failed_at.is_not(None)
        row = (
            await connection.execute(
                select(
                    func.count().filter(~failed),
                    func.count().filter(failed),
                    func.min(t.c.created_at).filter(~failed),
                    func.max(t.c.last_error),
                ).where(*where)
            )
        ).one()
        return QueueStatus(*row)

    async def failed(self, connection: Executor, limit: int, *where: ColumnElement[bool]) -> list[FailedJob]:
        """Some of what failed for good, latest first."""
        t = self.table
        query = select(t).where(t.c.failed_at.is_not(None), *where).order_by(t.c.failed_at.desc(), t.c.id.desc())
        found = (await connection.execute(query.limit(limit))).mappings()
        return [
            FailedJob(Job(**{name: row[name] for name in _JOB}), row["failed_at"], row["last_error"] or "")
            for row in found
        ]

    def _held(self, lease: Lease, refs: Iterable[str] | None = None) -> ColumnElement[bool]:
        t = self.table
        held = and_(t.c.lease_token == lease.token, t.c.lease_until > func.clock_timestamp())
        return held if refs is None else and_(held, t.c.ref == any_(literal(list(refs), ARRAY(String))))

    def _locked(self, *where: ColumnElement[bool]) -> ColumnElement[bool]:
        """The jobs of a condition, locked in one order: statements that change many wait for, not block, each other."""
        t = self.table
        return self._among(select(t.c.id).where(*where).order_by(t.c.id).with_for_update())

    def _among(self, jobs: Select[tuple[int]]) -> ColumnElement[bool]:
        # Materialized: a plan that ran it once per row would lock other rows each time, and change them all.
        chosen = jobs.cte("chosen").prefix_with("MATERIALIZED")
        return self.table.c.id.in_(select(chosen.c.id))

    @staticmethod
    def _seconds(value: Any) -> ColumnElement[timedelta]:
        return func.make_interval(0, 0, 0, 0, 0, 0, literal(value) if isinstance(value, float | int) else value)
