"""Durable jobs with leases, in the same database as the data they are about.

A job is recorded in the transaction that makes it necessary. A worker claims it in a short transaction by taking a
lease, works with no transaction open, and stores the result in a transaction that first finishes the job: if the lease
was lost meanwhile, the job is not finished and the result must not be stored. So work may be repeated after a kill, its
result is stored once.

Leases and pauses are measured by the server's clock, the only one all workers share.
"""

import math
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
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    any_,
    case,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, Insert, insert

from memground.errors import InvalidInputError
from memground.postgres.bulk import insertion, lists
from memground.postgres.engine import Executor

_ERROR_LENGTH = 2_000


@dataclass(frozen=True)
class JobPolicy:
    """How jobs are worked off.

    `lease`: seconds a claim lasts unless extended. `batch`: jobs claimed at once. `poll`: seconds between looks for
    jobs of other processes. `attempts`: tries before a job counts as failed; the pause before try n+1 is
    `backoff`·2ⁿ⁻¹ seconds, at most `backoff_max`.
    """

    lease: float = 30.0
    batch: int = 64
    poll: float = 1.0
    attempts: int = 6
    backoff: float = 1.0
    backoff_max: float = 300.0

    def __post_init__(self) -> None:
        for name in ("batch", "attempts"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is not accepted; pass a whole number above 0")
        for name in ("lease", "poll"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is not accepted; pass seconds above 0")
        for name in ("backoff", "backoff_max"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is not accepted; pass seconds, 0 or more")


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
class Lease:
    """The jobs one claim got, and the token that proves it."""

    token: uuid.UUID
    jobs: list[Job]


@dataclass(frozen=True)
class QueueStatus:
    """`waiting` jobs (claimed ones included), `failed` ones that need a person, since when the oldest waits, and one of
    the errors met."""

    waiting: int
    failed: int
    oldest: datetime | None
    last_error: str | None


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
        # Materialized: a plan that ran it once per row would lock other rows each time, and claim them all.
        chosen = ready.cte("ready").prefix_with("MATERIALIZED")
        token = uuid.uuid4()
        result = await connection.execute(
            update(t)
            .where(t.c.id.in_(select(chosen.c.id)))
            .values(lease_until=now + self._seconds(self.policy.lease), lease_token=token, attempts=t.c.attempts + 1)
            .returning(t.c.id, t.c.kind, t.c.ref, t.c.owner, t.c.payload, t.c.attempts)
        )
        jobs = [Job(*row) for row in result]
        return Lease(token, sorted(jobs, key=lambda job: job.id))

    async def extend(self, connection: Executor, lease: Lease) -> None:
        """Renews the lease, for work that takes longer than one."""
        until = func.clock_timestamp() + self._seconds(self.policy.lease)
        await connection.execute(update(self.table).where(self._held(lease)).values(lease_until=until))

    async def finish(self, connection: Executor, lease: Lease, refs: Iterable[str]) -> set[str]:
        """Removes jobs that are done and returns the refs of those still held: only their results may be stored."""
        statement = delete(self.table).where(self._held(lease, refs)).returning(self.table.c.ref)
        return set((await connection.execute(statement)).scalars())

    async def release(self, connection: Executor, lease: Lease) -> None:
        """Gives unfinished jobs back without counting the try (a worker that is told to stop)."""
        t = self.table
        await connection.execute(
            update(t)
            .where(self._held(lease))
            .values(lease_until=None, lease_token=None, attempts=func.greatest(0, t.c.attempts - 1))
        )

    async def fail(self, connection: Executor, lease: Lease, refs: Iterable[str], error: str) -> None:
        """Gives jobs back after an error, to be tried again after a pause; the last try makes them failed."""
        t, now, p = self.table, func.clock_timestamp(), self.policy
        doublings = func.least(t.c.attempts - 1, 60)  # enough for any pause, too few to overflow
        wait = self._seconds(func.least(p.backoff_max, p.backoff * func.power(2.0, doublings)))
        await connection.execute(
            update(t)
            .where(self._held(lease, refs))
            .values(
                lease_until=None,
                lease_token=None,
                last_error=error.replace("\x00", "")[:_ERROR_LENGTH],
                run_after=now + wait,
                failed_at=case((t.c.attempts >= p.attempts, now)),
            )
        )

    async def retry_failed(self, connection: Executor, *where: ColumnElement[bool]) -> int:
        """Makes failed jobs due again; returns how many."""
        t = self.table
        result = await connection.execute(
            update(t)
            .where(t.c.failed_at.is_not(None), *where)
            .values(failed_at=None, attempts=0, run_after=func.clock_timestamp())
            .returning(t.c.id)
        )
        return len(result.all())

    async def cancel(self, connection: Executor, *where: ColumnElement[bool]) -> int:
        """Removes jobs, claimed ones too: their results will not be stored; returns how many."""
        result = await connection.execute(delete(self.table).where(*where).returning(self.table.c.id))
        return len(result.all())

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

    def _held(self, lease: Lease, refs: Iterable[str] | None = None) -> ColumnElement[bool]:
        t = self.table
        held = and_(t.c.lease_token == lease.token, t.c.lease_until > func.clock_timestamp())
        return held if refs is None else and_(held, t.c.ref == any_(literal(list(refs), ARRAY(String))))

    @staticmethod
    def _seconds(value: Any) -> ColumnElement[timedelta]:
        return func.make_interval(0, 0, 0, 0, 0, 0, literal(value) if isinstance(value, float | int) else value)
