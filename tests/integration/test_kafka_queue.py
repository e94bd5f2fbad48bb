"""The change queue in Kafka: nothing is lost, whoever joins, leaves, fails or dies."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from dev.servers.kafka import KafkaServer

from memground.errors import InvalidInputError, UnavailableError
from omnimem.storage.base import Change
from omnimem.storage.kafka import KafkaQueue
from omnimem.storage.settings.kafka import KafkaSettings
from support.kafka import Worker, changes, drained, in_order, opened, repeated, settings

ONE = Change("put", "m", "m@0")
TESTS = Path(__file__).parents[1]


@pytest.fixture
def mine(kafka: KafkaServer) -> KafkaSettings:
    return settings(kafka.bootstrap)


async def claimed(queue: KafkaQueue, count: int, seconds: float = 30) -> list[Change]:
    """Claims and finishes until so many came."""
    found: list[Change] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            claim = await queue.claim()
            found += await queue.finish(None, claim, claim.changes)
            if not claim.changes:
                await asyncio.sleep(0.02)
    return found


async def failed(queue: KafkaQueue, error: str = "no luck") -> None:
    """Fails what is due until nothing is."""
    while (claim := await queue.claim()).changes:
        await queue.fail(claim, claim.changes, error)


async def test_a_status_needs_no_worker_and_makes_the_topics(mine: KafkaSettings) -> None:
    async with opened(mine, 2) as (one, other):
        status = await one.status()
        assert (status.waiting, status.failed, status.oldest, status.last_error) == (0, 0, None, None)
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        await one.record(None, changes(25))
        status = await other.status()
        assert status.waiting == 25
        assert status.oldest is not None
        assert before <= status.oldest <= datetime.now(UTC)


async def test_the_first_claim_waits_for_the_group_and_gets_what_is_there(mine: KafkaSettings) -> None:
    wanted = changes(30)
    async with opened(mine, 2, batch=64) as (one, other):
        await one.record(None, wanted)
        claim = await other.claim()
        assert list(claim.changes) == wanted, "all partitions, in the order in which they were recorded"


async def test_what_is_recorded_twice_in_a_claim_is_worked_on_once(mine: KafkaSettings) -> None:
    async with opened(mine) as (queue,):
        await queue.record(None, [ONE, ONE])
        await queue.record(None, [ONE])
        claim = await queue.claim()
        assert list(claim.changes) == [ONE]
        assert await queue.finish(None, claim, [ONE]) == [ONE]
        assert (await queue.status()).waiting == 0


async def test_parts_of_a_claim_end_apart(mine: KafkaSettings) -> None:
    wanted = changes(40, memories=3)
    async with opened(mine, 2, batch=40, backoff=0, attempts=9) as (queue, other):
        await queue.record(None, wanted)
        claim = await queue.claim()
        assert await queue.finish(None, claim, wanted[20:30]) == wanted[20:30]
        await queue.fail(claim, wanted[5:10], "no luck")
        assert (await queue.status()).waiting >= 30
        await queue.release(claim)
        rest = [change for change in wanted if change not in wanted[20:30]]
        assert sorted(await claimed(queue, 30), key=str) == sorted(rest, key=str)
        assert (await other.status()).waiting == 0


async def test_a_claim_whose_lease_ended_is_handed_out_again(mine: KafkaSettings) -> None:
    async with opened(mine, lease=0.2) as (queue,):
        await queue.record(None, [ONE])
        stale = await queue.claim()
        await asyncio.sleep(0.25)
        again = await queue.claim()
        assert list(again.changes) == [ONE]
        assert await queue.finish(None, stale, [ONE]) == []
        for _ in range(4):
            await asyncio.sleep(0.1)
            await queue.extend(again)
        assert not (await queue.claim()).changes
        assert await queue.finish(None, again, [ONE]) == [ONE]


async def test_a_retry_waits_without_holding_up_others(mine: KafkaSettings) -> None:
    async with opened(mine, 2, backoff=1.0) as (queue, other):
        await queue.record(None, [ONE])
        claim = await queue.claim()
        await queue.fail(claim, [ONE], "not now")
        assert not (await queue.claim()).changes
        status = await other.status()
        assert (status.waiting, status.failed, status.last_error) == (1, 0, "not now")
        await queue.record(None, changes(200))
        assert len(await claimed(queue, 200, seconds=5)) == 200
        assert (await other.status()).waiting == 1
        assert await claimed(queue, 1, seconds=5) == [ONE]
        assert (await other.status()).waiting == 0


async def test_a_retry_is_taken_over_by_another_worker(mine: KafkaSettings) -> None:
    async with opened(mine, 2, backoff=0.5) as (queue, other):
        await queue.record(None, [ONE, *changes(20)])
        claim = await queue.claim()
        await queue.fail(claim, claim.changes[:5], "not now")
        await queue.finish(None, claim, claim.changes[5:])
        await queue.close()
        assert len(await claimed(other, 5)) == 5
        assert (await other.status()).waiting == 0


async def test_dead_letters_are_listed_and_replayed_once(mine: KafkaSettings) -> None:
    poison = changes(7)
    async with opened(mine, 2, attempts=3, backoff=0) as (queue, other):
        await queue.record(None, poison)
        await failed(queue)
        status = await other.status()
        assert (status.waiting, status.failed, status.last_error) == (0, 7, "no luck")
        letters = await other.failed(100)
        assert {letter.change for letter in letters} == set(poison)
        assert {(letter.error, letter.attempts) for letter in letters} == {("no luck", 3)}
        assert len(await other.failed(3)) == 3
        assert await other.retry_failed() == 7
        assert await other.failed(100) == []
        assert await other.retry_failed() == 0
        status = await other.status()
        assert (status.waiting, status.failed) == (7, 0)
        assert sorted(await claimed(queue, 7), key=str) == sorted(poison, key=str)
        assert not (await queue.claim()).changes
        assert (await other.status()).waiting == 0


async def test_what_was_replayed_may_die_again(mine: KafkaSettings) -> None:
    async with opened(mine, attempts=2, backoff=0) as (queue,):
        await queue.record(None, [ONE])
        for error in ("first", "second", "third"):
            await failed(queue, error)
            assert [(letter.change, letter.error, letter.attempts) for letter in await queue.failed(9)] == [
                (ONE, error, 2)
            ]
            assert (await queue.status()).last_error == error
            assert await queue.retry_failed() == 1


async def test_replays_at_the_same_time_replay_each_once(mine: KafkaSettings) -> None:
    poison = changes(300)
    async with opened(mine, 4, attempts=1, batch=100) as queues:
        await queues[0].record(None, poison)
        await failed(queues[0])
        counts = await asyncio.gather(*(queue.retry_failed() for queue in queues), return_exceptions=True)
        assert {type(count) for count in counts} <= {int, UnavailableError}
        again = 0
        while (await queues[0].status()).failed:
            again += await queues[0].retry_failed()
        assert sum(count for count in counts if isinstance(count, int)) + again <= 300
        assert (await queues[0].status()).waiting == 300
        assert sorted(await claimed(queues[0], 300), key=str) == sorted(poison, key=str)


async def test_a_poison_change_does_not_hold_up_others(mine: KafkaSettings) -> None:
    poison, good = Change("put", "m3", "poison"), changes(500, memories=20)
    async with opened(mine, attempts=3, backoff=0.05, batch=32) as (queue,):
        await queue.record(None, [*good[:50], poison, *good[50:]])
        done: list[Change] = []
        async with asyncio.timeout(30):
            while not (await queue.status()).failed or len(done) < 500:
                claim = await queue.claim()
                fine = [change for change in claim.changes if change != poison]
                done += await queue.finish(None, claim, fine)
                if poison in claim.changes:
                    await queue.fail(claim, [poison], "ValueError: poison")
        assert sorted(done, key=str) == sorted(good, key=str)
        letters = await queue.failed(10)
        assert [(letter.change, letter.attempts) for letter in letters] == [(poison, 3)]
        assert (await queue.status()).waiting == 0


async def test_what_is_no_change_is_left_out(mine: KafkaSettings, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(mine) as (queue,):
        await queue.status()
        producer = Producer(mine.client())
        for value in (b"not json", b"[]", b'{"kind": "put"}', b'{"kind":"sing","memory_id":"m","recorded":1}'):
            producer.produce(mine.changes_topic, key=b"m", value=value)
        producer.produce(mine.dead_letters_topic, key=b"m", value=b"not json")
        producer.flush(5)
        await queue.record(None, [ONE])
        assert await claimed(queue, 1) == [ONE]
        assert "is left out" in caplog.text
        assert (await queue.status()).failed == 0


async def test_workers_come_and_go_while_changes_flow(mine: KafkaSettings) -> None:
    wanted = changes(10_000, memories=200)
    async with opened(mine, 4, batch=64) as (source, *queues):
        workers = [Worker(queues[0])]
        for number in range(100):
            await source.record(None, wanted[number * 100 : (number + 1) * 100])
            await asyncio.sleep(0.08)
            if number in (20, 40):
                workers.append(Worker(queues[len(workers)]))
            if number in (60, 80):
                await workers[1 if number == 60 else 0].stop()
        await drained(source)
        for worker in workers:
            await worker.stop()
    handed = {change for worker in workers for change in worker.handed}
    assert handed == set(wanted)
    assert all(len(worker.handed) > 100 for worker in workers), "all had their share"
    assert all(in_order(worker.handed) for worker in workers)
    finished = Counter(change for worker in workers for change in worker.finished)
    interrupted = {change for worker in workers for change in worker.interrupted}
    assert set(wanted) - interrupted <= set(finished) <= set(wanted)
    assert len(interrupted) <= 4 * 64
    assert repeated(workers) < 2_000, "only what was under way is handed out twice"


async def test_what_is_here_is_bounded_whatever_waits(mine: KafkaSettings) -> None:
    """Messages that come while a commit's answer is listened for are kept; a topic of which much is here is paused."""
    wanted = changes(12_000)
    most, done = 0, list[Change]()
    async with opened(mine, batch=50) as (queue,):
        await queue.record(None, wanted)
        while len(done) < len(wanted):
            claim = await queue.claim(wait=1)
            done += await queue.finish(None, claim, claim.changes)
            most = max(most, queue._member._count())
    assert set(done) == set(wanted)
    assert in_order(done)
    assert most < 3_000


async def test_a_worker_killed_in_the_middle_loses_nothing(mine: KafkaSettings) -> None:
    wanted = changes(200)
    async with opened(mine) as (queue,):
        await queue.record(None, wanted)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "support.kafka", mine.servers, mine.prefix,
            cwd=TESTS, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(TESTS)},
        )  # fmt: skip
        assert child.stdout is not None
        held = json.loads(await asyncio.wait_for(child.stdout.readline(), 30))
        assert len(held) == 50
        child.send_signal(signal.SIGKILL)
        await child.wait()
        assert (await queue.status()).waiting == 200
        found = await claimed(queue, 200, seconds=40)
        assert sorted(found, key=str) == sorted(wanted, key=str)
        assert (await queue.status()).waiting == 0


async def test_catching_up_takes_little_memory(mine: KafkaSettings) -> None:
    psutil = pytest.importorskip("psutil")
    async with opened(mine, 2, batch=256) as (source, queue):
        for start in range(0, 100_000, 10_000):
            await source.record(None, changes(10_000, memories=5_000, start=start))
        assert (await source.status()).waiting == 100_000
        await queue.status()
        process, most = psutil.Process(), 0
        before, done = process.memory_info().rss, 0
        while claim := await queue.claim():
            done += len(await queue.finish(None, claim, claim.changes))
            most = max(most, process.memory_info().rss)
            if not claim.changes:
                break
        assert done == 100_000
        assert most - before < 64 * 2**20


async def test_nothing_is_left_behind(mine: KafkaSettings) -> None:
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    async with opened(mine, attempts=1) as (queue,):
        await queue.record(None, [ONE])
        await failed(queue)
        await queue.retry_failed()
        start = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start < 1
    await asyncio.sleep(0.1)
    # One of an earlier test may have ended meanwhile.
    assert set(threading.enumerate()) <= threads
    assert asyncio.all_tasks() <= tasks


async def test_a_broker_that_is_not_there_is_named() -> None:
    nowhere = settings("127.0.0.1:9", timeout=0.5)
    async with opened(nowhere) as (queue,):
        for call in (queue.record(None, [ONE]), queue.claim(), queue.status(), queue.failed(1), queue.retry_failed()):
            start = asyncio.get_running_loop().time()
            with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
                await call
            assert asyncio.get_running_loop().time() - start < 3


def test_settings_say_what_is_wrong_and_keep_secrets() -> None:
    for given in (
        {"prefix": "a b"}, {"prefix": ""}, {"partitions": 0}, {"servers": "user:secret@host:9092"}, {"timeout": 0},
        {"session_timeout": 1}, {"mechanism": "GSSAPI"}, {"mechanism": "PLAIN"}, {"ca_file": "ca.pem"},
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            KafkaSettings(**given)  # type: ignore[arg-type]
    secret = KafkaSettings(
        tls=True, mechanism="SCRAM-SHA-512", username="ann", password="hunter2", key_file="k", key_password="hunter2"
    )
    assert "hunter2" not in repr(secret) + str(secret) + json.dumps(secret.to_dict())
    assert secret.client()["sasl.password"] == "hunter2"
