"""How fast the change queue in Kafka is: `python -m benchmarks.kafka [--changes 50000] [--clients]`.

Against a broker of its own: changes recorded per second in batches of 500, claimed and finished per second by batch,
and from recording to finishing at 100 and 1,000 changes a second, each recorded alone. Nothing is done with a change.

`--clients` compares the Kafka clients instead, each as it is used in an asyncio program (needs aiokafka as well).
"""

import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from dev.servers.kafka import KafkaServer

from benchmarks import measuring
from benchmarks.results_file import save
from memground.jobs import JobPolicy
from omnimem.storage.base import Change
from omnimem.storage.kafka import KafkaQueue
from omnimem.storage.settings.kafka import KafkaSettings

BATCH = 500
SECONDS = 10

type Message = tuple[bytes, bytes]


def changes(count: int) -> list[Change]:
    return [Change("put", f"mem_{n % 5_000:028}", f"rec_{n:028}") for n in range(count)]


def settings(server: KafkaServer) -> KafkaSettings:
    return KafkaSettings(server.bootstrap, prefix=f"bench-{uuid.uuid4().hex[:8]}")


async def applied(queue: KafkaQueue, count: int) -> None:
    """Claims and finishes until so many are done."""
    while count > 0:
        claim = await queue.claim(wait=0.1)
        count -= len(await queue.finish(None, claim, claim.changes))


async def rates(server: KafkaServer, count: int, batch: int) -> dict[str, float]:
    kafka, wanted = settings(server), changes(count)
    source, worker = KafkaQueue(kafka, JobPolicy()), KafkaQueue(kafka, JobPolicy(batch=batch))
    await source.record(None, wanted[:1])
    await applied(worker, 1)  # the group is joined
    start, cpu = time.perf_counter(), time.process_time()
    for at in range(0, count, BATCH):
        await source.record(None, wanted[at : at + BATCH])
    published, cpu_published = time.perf_counter() - start, time.process_time() - cpu
    start, cpu = time.perf_counter(), time.process_time()
    await applied(worker, count)
    worked, cpu_worked = time.perf_counter() - start, time.process_time() - cpu
    await source.close()
    await worker.close()
    return {
        "published_per_second": round(count / published),
        "published_cpu_us": round(cpu_published / count * 1e6, 1),
        "worked_off_per_second": round(count / worked),
        "worked_off_cpu_us": round(cpu_worked / count * 1e6, 1),
    }


async def lag(server: KafkaServer, rate: int) -> measuring.Quantiles:
    """From recording to finishing, changes recorded one by one."""
    kafka, wanted = settings(server), changes(rate * SECONDS)
    source, worker = KafkaQueue(kafka, JobPolicy()), KafkaQueue(kafka, JobPolicy(batch=256))
    warm = Change("delete", "warm")
    await source.record(None, [warm])
    await applied(worker, 1)
    begun: dict[Change, float] = {}
    taken: list[float] = []

    async def work() -> None:
        while len(taken) < len(wanted):
            claim = await worker.claim(wait=1.0)
            done = await worker.finish(None, claim, claim.changes)
            taken.extend(time.perf_counter() - begun[change] for change in done)

    working, start = asyncio.create_task(work()), time.perf_counter()
    async with asyncio.TaskGroup() as recording:
        for number, change in enumerate(wanted):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            begun[change] = time.perf_counter()
            recording.create_task(source.record(None, [change]))
    await asyncio.wait_for(working, 60)
    await source.close()
    await worker.close()
    return measuring.quantiles(taken)


async def measure(server: KafkaServer, count: int) -> dict[str, Any]:
    by_batch = {str(batch): await rates(server, count, batch) for batch in (64, 256, 1_000)}
    lags = {str(rate): await lag(server, rate) for rate in (100, 1_000)}
    return {"changes": count, "by_batch": by_batch, "lag_ms_by_rate": lags}


# ---------------------------------------------------------------- the clients beside one another


class AioKafka:
    """aiokafka."""

    def __init__(self, server: str) -> None:
        self.server = server

    async def open(self, topic: str) -> None:
        from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

        self.topic = topic
        self.producer = AIOKafkaProducer(bootstrap_servers=self.server, enable_idempotence=True, acks="all")
        self.consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=self.server, group_id=topic, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await self.producer.start()

    async def publish(self, messages: Sequence[Message]) -> None:
        await asyncio.gather(*[await self.producer.send(self.topic, value, key=key) for key, value in messages])

    async def join(self) -> None:
        await self.consumer.start()

    async def consume(self) -> int:
        found = await self.consumer.getmany(timeout_ms=500, max_records=BATCH)
        await self.consumer.commit()
        return sum(len(messages) for messages in found.values())

    async def close(self) -> None:
        await self.consumer.stop()
        await self.producer.stop()


def producing(server: str) -> dict[str, Any]:
    return {"bootstrap.servers": server, "enable.idempotence": True, "acks": "all", "linger.ms": 0}


def consuming(server: str, topic: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": server, "group.id": topic, "enable.auto.commit": False, "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
    }  # fmt: skip


class ConfluentAio(AioKafka):
    """confluent-kafka by its asyncio API."""

    async def open(self, topic: str) -> None:
        from confluent_kafka.aio import AIOConsumer, AIOProducer

        self.topic = topic
        self.producer = AIOProducer(producing(self.server), max_workers=2, batch_size=BATCH)
        self.consumer = AIOConsumer(consuming(self.server, topic), max_workers=2)

    async def publish(self, messages: Sequence[Message]) -> None:
        await asyncio.gather(*[await self.producer.produce(self.topic, value, key) for key, value in messages])

    async def join(self) -> None:
        await self.consumer.subscribe([self.topic])

    async def consume(self) -> int:
        found = len(await self.consumer.consume(BATCH, 0.5))
        if found:
            await self.consumer.commit(asynchronous=False)
        return found

    async def close(self) -> None:
        await self.consumer.close()
        await self.producer.close()


class ConfluentThreads(AioKafka):
    """confluent-kafka's blocking classes on threads."""

    async def open(self, topic: str) -> None:
        self.topic = topic
        self.producer = Producer(producing(self.server))
        self.consumer = Consumer(consuming(self.server, topic))

    async def publish(self, messages: Sequence[Message]) -> None:
        def publish() -> None:
            answers: list[Any] = []
            for key, value in messages:
                self.producer.produce(self.topic, value, key, on_delivery=lambda error, _: answers.append(error))
            while len(answers) < len(messages):
                self.producer.poll(0.1)
            assert not any(answers)

        await asyncio.to_thread(publish)

    async def join(self) -> None:
        self.consumer.subscribe([self.topic])

    async def consume(self) -> int:
        def consume() -> int:
            found = len(self.consumer.consume(BATCH, 0.5))
            if found:
                self.consumer.commit(asynchronous=False)
            return found

        return await asyncio.to_thread(consume)

    async def close(self) -> None:
        await asyncio.to_thread(self.consumer.close)
        await asyncio.to_thread(self.producer.flush)


async def compared(server: str, kind: Callable[[str], AioKafka], count: int) -> dict[str, float]:
    topic = f"clients-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": server})
    admin.create_topics([NewTopic(topic, 6, 1)])[topic].result()
    client = kind(server)
    await client.open(topic)
    value = {"kind": "put", "record_id": "r" * 32}
    messages = [
        (key.encode(), json.dumps({"memory_id": key, **value}).encode())
        for key in (f"mem_{n % 5_000:028}" for n in range(count))
    ]
    await client.publish(messages[:10])
    start, cpu = time.perf_counter(), time.process_time()
    for at in range(0, count, BATCH):
        await client.publish(messages[at : at + BATCH])
    published, cpu_published = time.perf_counter() - start, time.process_time() - cpu
    single = await measuring.times(lambda number: client.publish(messages[number : number + 1]), 200, warm=5)
    start = time.perf_counter()
    await client.join()
    found = 0
    while not found:
        found = await client.consume()
    joined = time.perf_counter() - start
    start, cpu, first = time.perf_counter(), time.process_time(), found
    while found < count:
        found += await client.consume()
    consumed, cpu_consumed = time.perf_counter() - start, time.process_time() - cpu
    await client.close()
    return {
        "published_per_second": count / published,
        "published_cpu_us": cpu_published / count * 1e6,
        **{f"one_{name}_ms": value for name, value in measuring.quantiles(single).items()},
        "joined_seconds": joined,
        "consumed_per_second": (found - first) / consumed,
        "consumed_cpu_us": cpu_consumed / (found - first) * 1e6,
    }


async def clients(server: KafkaServer, count: int) -> dict[str, Any]:
    """Medians of three rounds, the clients in turn."""
    kinds = {"aiokafka": AioKafka, "confluent, asyncio": ConfluentAio, "confluent, threads": ConfluentThreads}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for _ in range(3):
        for name, kind in kinds.items():
            rounds[name].append(await compared(server.bootstrap, kind, count))
    return {
        name: {key: round(statistics.median(each[key] for each in found), 2) for key in found[0]}
        for name, found in rounds.items()
    }


def main() -> None:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--changes", type=int, default=50_000)
    parser.add_argument("--clients", action="store_true", help="compare the clients instead")
    chosen = parser.parse_args()
    work: Callable[[KafkaServer, int], Coroutine[Any, Any, dict[str, Any]]] = clients if chosen.clients else measure
    with KafkaServer() as server:
        figures = asyncio.run(work(server, chosen.changes))
    print(json.dumps(figures, indent=2))
    save("kafka-clients" if chosen.clients else "kafka", figures, chosen)


if __name__ == "__main__":
    main()
