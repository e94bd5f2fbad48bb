"""Jobs that are done unless somebody says, in time and again and again, that they need not be.

Who is about to leave something outside the database arms a guard first, in a transaction of its own: a job that removes
it. While the work goes on the guard is put off; the transaction that records what was left disarms it. Who is killed in
between says no more, and the job comes due. A guard that has come due is lost for good: nothing may be recorded any
more, because a worker may be removing it at that moment.
"""

from datetime import timedelta

from sqlalchemy import ColumnElement, Table, and_, delete, func, literal, update
from sqlalchemy.dialects.postgresql import insert

from memground.postgres.engine import Executor
from memground.postgres.queue import NewJob

NOBODY = ""
"""Owner of jobs that name no user."""


class Guards:
    """Guards in a jobs table, of `seconds` each. Every method runs in the caller's transaction."""

    def __init__(self, table: Table, seconds: float) -> None:
        self.table = table
        self.seconds = seconds

    async def arm(self, connection: Executor, job: NewJob) -> None:
        """Records a job that comes due when its time is over."""
        values = {"kind": job.kind, "ref": job.ref, "owner": job.owner, "payload": dict(job.payload), "attempts": 0}
        await connection.execute(
            insert(self.table).values(**values, run_after=self._later(), created_at=func.clock_timestamp())
        )

    async def put_off(self, connection: Executor, job: NewJob) -> bool:
        """Gives the job its time once more; False when it is too late."""
        statement = update(self.table).where(self._armed(job)).values(run_after=self._later())
        return (await connection.execute(statement.returning(self.table.c.id))).first() is not None

    async def disarm(self, connection: Executor, job: NewJob) -> bool:
        """Takes the job back; False when it is too late. Until the transaction ends nobody can claim it."""
        statement = delete(self.table).where(self._armed(job)).returning(self.table.c.id)
        return (await connection.execute(statement)).first() is not None

    async def seize(self, connection: Executor, kind: str, owner: str) -> int:
        """Takes all guards of an owner from whoever holds them: they come due in their time. Returns how many."""
        t = self.table
        mine = and_(t.c.kind == kind, t.c.owner == owner)
        return len((await connection.execute(update(t).where(mine).values(owner=NOBODY).returning(t.c.id))).all())

    def _armed(self, job: NewJob) -> ColumnElement[bool]:
        t = self.table
        untouched = and_(t.c.attempts == 0, t.c.lease_token.is_(None), t.c.failed_at.is_(None))
        return and_(
            t.c.kind == job.kind,
            t.c.ref == job.ref,
            t.c.owner == job.owner,
            untouched,
            t.c.run_after > func.clock_timestamp(),
        )

    def _later(self) -> ColumnElement[timedelta]:
        return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, literal(float(self.seconds)))
