"""The job queue: every job is done, each result is stored once, whoever dies or dawdles."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import MetaData, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from memground.postgres.queue import Job, JobPolicy, JobQueue, Lease, NewJob, QueueStatus, jobs_table
from support.toys import toy_tables

table = jobs_table(MetaData(), "toy_jobs")
patient = JobQueue(table, JobPolicy(lease=30, batch=10))
hasty = JobQueue(table, JobPolicy(lease=0.1, batch=10))


@pytest.fixture(scope="module")
async def made(pg_url: str) -> AsyncIterator[AsyncEngine]:
    async with toy_tables(pg_url, table.metadata, pool_size=20) as engine:
        yield engine


@pytest.fixture
async def engine(made: AsyncEngine) -> AsyncEngine:
    async with made.begin() as connection:
        await connection.execute(table.delete())
    return made


def jobs(count: int, kind: str = "embed", owner: str = "anna") -> list[NewJob]:
    return [NewJob(kind, f"{kind}-{n}", owner, {"n": n}) for n in range(count)]


def refs(found: Sequence[Job]) -> list[str]:
    return [job.ref for job in found]


def refs_of(count: int) -> list[str]:
    return [job.ref for job in jobs(count)]


async def enqueue(engine: AsyncEngine, new: Sequence[NewJob]) -> None:
    async with engine.begin() as connection:
        await patient.enqueue(connection, new)


async def claim(engine: AsyncEngine, queue: JobQueue = patient, kind: str = "embed") -> Lease:
    async with engine.begin() as connection:
        return await queue.claim(connection, [kind])


async def finish(engine: AsyncEngine, lease: Lease) -> set[str]:
    async with engine.begin() as connection:
        return await patient.finish(connection, lease, refs(lease.jobs))


async def fail(engine: AsyncEngine, queue: JobQueue, lease: Lease, error: str = "no") -> None:
    async with engine.begin() as connection:
        await queue.fail(connection, lease, refs(lease.jobs), error)


async def status(engine: AsyncEngine, *where: object) -> QueueStatus:
    async with engine.begin() as connection:
        return await patient.status(connection, *where)  # type: ignore[arg-type]


async def test_enqueuing_again_changes_nothing(engine: AsyncEngine) -> None:
    await enqueue(engine, [])
    await enqueue(engine, jobs(3))
    lease = await claim(engine)
    await enqueue(engine, [NewJob("embed", "embed-1", "bob", {"n": 99}), NewJob("embed", "embed-3", "bob")])
    assert (await status(engine)).waiting == 4
    assert await finish(engine, lease) == {"embed-0", "embed-1", "embed-2"}  # the claim was not disturbed
    (left,) = (await claim(engine)).jobs
    assert (left.ref, left.owner, left.payload, left.attempts) == ("embed-3", "bob", {}, 1)


async def test_a_job_exists_only_if_its_transaction_committed(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await patient.enqueue(connection, jobs(1))
        await connection.rollback()
    assert (await claim(engine)).jobs == []


async def test_workers_share_the_jobs_and_each_gets_one_worker(engine: AsyncEngine) -> None:
    await enqueue(engine, jobs(500))
    queue = JobQueue(table, JobPolicy(batch=7))

    async def work() -> list[list[str]]:
        done: list[list[str]] = []
        while (lease := await claim(engine, queue)).jobs:
            done.append(refs(lease.jobs))
            await asyncio.sleep(0)
            assert await finish(engine, lease) == set(refs(lease.jobs))
        return done

    claims = [part for worker in await asyncio.gather(*(work() for _ in range(8))) for part in worker]
    assert max(map(len, claims)) == 7
    assert sorted(ref for part in claims for ref in part) == sorted(refs_of(500))
    assert all(part == sorted(part, key=refs_of(500).index) for part in claims)


async def test_a_claim_passes_over_what_another_is_claiming(engine: AsyncEngine) -> None:
    await enqueue(engine, jobs(15))
    async with engine.begin() as first, engine.begin() as second:
        one = await patient.claim(first, ["embed"])
        other = await patient.claim(second, ["embed"])
    assert refs(one.jobs) == refs_of(10)
    assert refs(other.jobs) == refs_of(15)[10:]


async def test_a_claim_is_never_larger_than_its_batch(engine: AsyncEngine) -> None:
    """A plan that runs the locking subquery once per row would claim everything."""
    await enqueue(engine, jobs(100))
    async with engine.begin() as connection:
        for node in ("hashagg", "hashjoin", "mergejoin", "sort", "material"):
            await connection.execute(text(f"set local enable_{node} = off"))
        lease = await patient.claim(connection, ["embed"])
    assert refs(lease.jobs) == refs_of(10)
    assert (await status(engine)).waiting == 100


async def test_only_the_kinds_asked_for(engine: AsyncEngine) -> None:
    await enqueue(engine, [*jobs(2), *jobs(2, "extract"), *jobs(2, "digest")])
    async with engine.begin() as connection:
        lease = await patient.claim(connection, ["digest", "extract"])
    assert {job.kind for job in lease.jobs} == {"extract", "digest"}
    assert (await claim(engine, kind="unknown")).jobs == []


async def test_the_same_ref_under_two_kinds_is_two_jobs(engine: AsyncEngine) -> None:
    await enqueue(engine, [NewJob("embed", "m1", "anna"), NewJob("extract", "m1", "anna")])
    assert await finish(engine, await claim(engine)) == {"m1"}
    assert refs((await claim(engine, kind="extract")).jobs) == ["m1"]


async def test_a_lost_lease_stores_nothing(engine: AsyncEngine) -> None:
    await enqueue(engine, jobs(3))
    slow = await claim(engine, hasty)
    assert (await claim(engine)).jobs == []  # while the lease holds, nobody else gets them
    await asyncio.sleep(0.15)
    assert await finish(engine, slow) == set()  # late, even before anybody took over
    second = await claim(engine)
    assert [job.attempts for job in second.jobs] == [2, 2, 2]
    assert await finish(engine, slow) == set()
    await fail(engine, patient, slow)
    async with engine.begin() as connection:
        await patient.release(connection, slow)
        await patient.extend(connection, slow)
    assert await finish(engine, second) == {"embed-0", "embed-1", "embed-2"}
    assert await status(engine) == QueueStatus(0, 0, None, None)


async def test_an_extended_lease_holds(engine: AsyncEngine) -> None:
    queue = JobQueue(table, JobPolicy(lease=2, batch=10))
    await enqueue(engine, jobs(2))
    lease = await claim(engine, queue)
    for _ in range(3):
        await asyncio.sleep(0.8)
        async with engine.begin() as connection:
            await queue.extend(connection, lease)
    assert (await claim(engine)).jobs == []
    assert await finish(engine, lease) == {"embed-0", "embed-1"}


async def test_finishing_is_undone_with_its_transaction(engine: AsyncEngine) -> None:
    await enqueue(engine, jobs(2))
    lease = await claim(engine)
    async with engine.connect() as connection:
        assert await patient.finish(connection, lease, ["embed-0"]) == {"embed-0"}
        await connection.rollback()
    assert await finish(engine, lease) == {"embed-0", "embed-1"}


async def test_finishing_twice_and_what_was_not_claimed(engine: AsyncEngine) -> None:
    await enqueue(engine, jobs(12))
    lease = await claim(engine)
    async with engine.begin() as connection:
        assert await patient.finish(connection, lease, []) == set()
        assert await patient.finish(connection, lease, ["embed-3", "embed-11", "embed-99"]) == {"embed-3"}
        assert await patient.finish(connection, lease, ["embed-3"]) == set()


async def test_released_jobs_are_due_at_once_and_the_try_does_not_count(engine: AsyncEngine) -> None:
    await enqueue(engine, jobs(2))
    lease = await claim(engine)
    async with engine.begin() as connection:
        assert await patient.finish(connection, lease, ["embed-0"]) == {"embed-0"}
        await patient.release(connection, lease)
    assert await finish(engine, lease) == set()
    (again,) = (await claim(engine)).jobs
    assert (again.ref, again.attempts) == ("embed-1", 1)


async def test_failures_pause_longer_and_longer_and_then_need_a_person(engine: AsyncEngine) -> None:
    queue = JobQueue(table, JobPolicy(attempts=4, backoff=10, backoff_max=25))
    await enqueue(engine, jobs(1))
    pauses = []
    for attempt in range(1, 5):
        async with engine.begin() as connection:
            await connection.execute(table.update().values(run_after=func.now()))
        lease = await claim(engine, queue)
        assert [job.attempts for job in lease.jobs] == [attempt]
        async with engine.begin() as connection:
            before = await connection.scalar(select(func.clock_timestamp()))
        await fail(engine, queue, lease, f"boom \x00{attempt}" + "x" * 5_000)
        assert (await claim(engine, queue)).jobs == []
        async with engine.begin() as connection:
            row = (await connection.execute(select(table, func.clock_timestamp().label("now")))).one()
        # Between two looks at the clock, however long they lie apart on a busy machine.
        pauses.append((row.run_after - row.now, row.run_after - before))
        assert (row.failed_at is not None) == (attempt == 4)
        assert row.last_error == f"boom {attempt}" + "x" * 1_994
    for (least, most), seconds in zip(pauses, [10, 20, 25, 25], strict=True):
        assert least < timedelta(seconds=seconds) < most
    found = await status(engine)
    assert (found.waiting, found.failed, found.oldest) == (0, 1, None)
    assert found.last_error is not None
    assert found.last_error.startswith("boom 4")


async def test_a_short_pause_ends(engine: AsyncEngine) -> None:
    queue = JobQueue(table, JobPolicy(backoff=0.05))
    await enqueue(engine, jobs(1))
    await fail(engine, queue, await claim(engine, queue))
    assert (await claim(engine, queue)).jobs == []
    await asyncio.sleep(0.1)
    assert [job.attempts for job in (await claim(engine, queue)).jobs] == [2]


async def test_a_job_claimed_thousands_of_times_can_still_fail(engine: AsyncEngine) -> None:
    """Its workers were killed each time; the pause must not overflow."""
    await enqueue(engine, jobs(1))
    async with engine.begin() as connection:
        await connection.execute(table.update().values(attempts=5_000))
    await fail(engine, patient, await claim(engine))
    assert (await status(engine)).failed == 1


async def test_retrying_what_failed(engine: AsyncEngine) -> None:
    once = JobQueue(table, JobPolicy(attempts=1, backoff=300))
    await enqueue(engine, [*jobs(2), NewJob("embed", "bobs", "bob")])
    await fail(engine, once, await claim(engine, once))
    assert (await status(engine)).failed == 3
    assert (await status(engine, table.c.owner == "bob")).failed == 1
    async with engine.begin() as connection:
        assert await patient.retry_failed(connection, table.c.owner == "bob") == 1
        assert await patient.retry_failed(connection, table.c.owner == "bob") == 0
    (job,) = (await claim(engine)).jobs
    assert (job.ref, job.attempts) == ("bobs", 1)
    async with engine.begin() as connection:
        assert await patient.retry_failed(connection) == 2
    assert refs((await claim(engine)).jobs) == ["embed-0", "embed-1"]


async def test_a_cancelled_job_stores_no_result(engine: AsyncEngine) -> None:
    await enqueue(engine, [*jobs(2), NewJob("embed", "bobs", "bob")])
    lease = await claim(engine)
    async with engine.begin() as connection:
        assert await patient.cancel(connection, table.c.owner == "anna") == 2
    assert await finish(engine, lease) == {"bobs"}


async def test_cancelling_waits_for_a_result_that_is_being_stored(engine: AsyncEngine) -> None:
    """Either the result is stored and there is nothing to cancel, or it is cancelled and not stored; never half."""
    await enqueue(engine, jobs(1))
    lease = await claim(engine)
    async with engine.connect() as storing:
        assert await patient.finish(storing, lease, ["embed-0"]) == {"embed-0"}

        async def cancel() -> int:
            async with engine.begin() as connection:
                return await patient.cancel(connection, table.c.owner == "anna")

        cancelling = asyncio.create_task(cancel())
        await asyncio.sleep(0.05)
        assert not cancelling.done()
        await storing.commit()
        assert await cancelling == 0


async def test_status_counts(engine: AsyncEngine) -> None:
    assert await status(engine) == QueueStatus(0, 0, None, None)
    await enqueue(engine, jobs(12))
    async with engine.begin() as connection:
        before = await connection.scalar(select(func.min(table.c.created_at)))
    lease = await claim(engine)
    found = await status(engine)
    assert (found.waiting, found.failed, found.oldest, found.last_error) == (12, 0, before, None)
    await finish(engine, lease)
    assert (await status(engine)).waiting == 2
    assert (await status(engine, table.c.owner == "nobody")) == QueueStatus(0, 0, None, None)


async def test_renewing_and_finishing_at_once_do_not_block_each_other_for_good(engine: AsyncEngine) -> None:
    """A worker's keeper renews the lease while the result is being stored."""
    await enqueue(engine, jobs(300))
    queue = JobQueue(table, JobPolicy(batch=300))
    lease = await claim(engine, queue)

    async def renew() -> None:
        for _ in range(20):
            async with engine.begin() as connection:
                await queue.extend(connection, lease)

    async def store() -> set[str]:
        done: set[str] = set()
        for start in range(0, 300, 30):
            async with engine.begin() as connection:
                done |= await queue.finish(connection, lease, refs(lease.jobs)[::-1][start : start + 30])
        return done

    _, done = await asyncio.gather(renew(), store())
    assert done == set(refs_of(300))


# ---------------------------------------------------------------- work that gathers


async def gather(engine: AsyncEngine, count: int, *, enough: int = 3, idle: float = 3600, ref: str = "s1") -> None:
    async with engine.begin() as connection:
        await patient.gather(connection, [(NewJob("embed", ref, "anna", {"of": ref}), count)], enough=enough, idle=idle)


async def test_work_gathers_until_there_is_enough(engine: AsyncEngine) -> None:
    await gather(engine, 1)
    await gather(engine, 1)
    assert (await claim(engine)).jobs == []
    await gather(engine, 1)
    (job,) = (await claim(engine)).jobs
    assert job.payload == {"of": "s1", "gathered": 3}


async def test_or_until_nothing_was_added_for_a_while(engine: AsyncEngine) -> None:
    await gather(engine, 1, idle=2)
    await asyncio.sleep(1.2)
    await gather(engine, 1, idle=2)
    await asyncio.sleep(1.2)
    assert (await claim(engine)).jobs == []
    await asyncio.sleep(1)
    assert len((await claim(engine)).jobs) == 1


async def test_or_until_somebody_is_in_a_hurry(engine: AsyncEngine) -> None:
    await gather(engine, 1)
    await gather(engine, 1, ref="s2")
    async with engine.begin() as connection:
        assert await patient.hurry(connection, table.c.ref == "s2", note={"all": True}) == 1
    (job,) = (await claim(engine)).jobs
    assert job.payload == {"of": "s2", "gathered": 1, "all": True}


async def test_what_is_added_while_it_is_worked_on_waits_for_who_finishes_it(engine: AsyncEngine) -> None:
    """The adding transaction holds the job; the one that finishes it then sees what was added."""
    await gather(engine, 3)
    lease = await claim(engine)
    async with engine.connect() as adding, engine.connect() as finishing:
        await patient.gather(adding, [(NewJob("embed", "s1", "anna"), 1)], enough=3, idle=0)
        done = asyncio.create_task(patient.finish(finishing, lease, ["s1"]))
        await asyncio.sleep(0.1)
        assert not done.done()
        await adding.commit()
        assert await done == {"s1"}
        await finishing.commit()


async def test_adding_does_not_shorten_the_pause_after_an_error(engine: AsyncEngine) -> None:
    await gather(engine, 3)
    await fail(engine, JobQueue(table, JobPolicy(backoff=3600, backoff_max=3600)), await claim(engine))
    await gather(engine, 3, idle=0)
    async with engine.begin() as connection:
        assert await patient.hurry(connection, note={}) == 0
    assert (await claim(engine)).jobs == []


async def test_adding_gives_failed_work_another_round(engine: AsyncEngine) -> None:
    await gather(engine, 3)
    await fail(engine, JobQueue(table, JobPolicy(attempts=1)), await claim(engine))
    assert (await status(engine)).failed == 1
    await gather(engine, 1)
    (job,) = (await claim(engine)).jobs
    assert (job.attempts, (await status(engine)).failed) == (1, 0)


async def test_what_fails_is_set_aside_so_that_others_go_on(engine: AsyncEngine) -> None:
    await gather(engine, 3)
    lease = await claim(engine)
    aside = NewJob("embed", "s1/7", "anna", {"only": 7})
    async with engine.begin() as connection:
        assert await patient.set_aside(connection, lease, "s1", aside, "no\x00")
        assert not await patient.set_aside(connection, lease, "s1", aside, "no")
    assert (await claim(engine)).jobs == []
    found = await status(engine)
    assert (found.waiting, found.failed, found.last_error) == (0, 1, "no")
    async with engine.begin() as connection:
        assert await patient.retry_failed(connection) == 1
    (job,) = (await claim(engine)).jobs
    assert (job.ref, job.payload) == ("s1/7", {"only": 7})
