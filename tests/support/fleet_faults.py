"""Servers of a fleet that stop, die and freeze while clients write, search and read; then a look at what is left.

What was acknowledged is there, what was deleted stays deleted, each memory has one current record, and the indexes are
as the truth without a repair. All the while a memory is read by its id whenever MongoDB runs.
"""

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Literal

from dev.servers.elasticsearch import ElasticsearchServer
from dev.servers.fleet import close_all, start_all
from dev.servers.kafka import KafkaServer
from dev.servers.mongodb import MongoServer
from dev.servers.postgres import PostgresServer
from dev.servers.server import Server

from omnimem import JobPolicy, MemoryStoreError, OmniMemClient, Settings, UnavailableError
from support.deployments import Servers
from support.embeddings import HashEmbedding

type Name = Literal["mongodb", "elasticsearch", "kafka", "postgres"]
type Fault = Literal["stop", "kill", "freeze"]
NAMES: tuple[Name, ...] = ("mongodb", "elasticsearch", "kafka", "postgres")
_SETTLING = 8.0
"""Seconds a driver may need to find a server again."""


class Breakable:
    """The four servers, private to a test that breaks them."""

    def __init__(self) -> None:
        self.servers: dict[Name, Server] = {
            "mongodb": MongoServer(),
            "elasticsearch": ElasticsearchServer(),
            "kafka": KafkaServer(),
            "postgres": PostgresServer(),
        }

    def __enter__(self) -> "Breakable":
        start_all(list(self.servers.values()))
        return self

    def __exit__(self, *_: object) -> None:
        close_all(list(self.servers.values()))

    @property
    def addresses(self) -> Servers:
        found = {key: value for server in self.servers.values() for key, value in server.settings().items()}
        return Servers(
            found["POSTGRES_URL"], found["MONGODB_URL"], found["ELASTICSEARCH_URL"], found["KAFKA_BOOTSTRAP"]
        )

    async def suffer(self, names: tuple[Name, ...], fault: Fault, seconds: float) -> None:
        """Breaks servers, all at once, and mends them after some seconds."""
        begin = {"stop": lambda s: s.stop(), "kill": lambda s: s.kill(), "freeze": lambda s: s.freeze()}[fault]
        end = {"freeze": lambda s: s.thaw()}.get(fault, lambda s: s.start())
        await asyncio.gather(*(asyncio.to_thread(begin, self.servers[name]) for name in names))
        await asyncio.sleep(seconds)
        await asyncio.gather(*(asyncio.to_thread(end, self.servers[name]) for name in names))


@dataclass
class Told:
    """What clients were told, and what went wrong that must not."""

    records: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    unsure: set[str] = field(default_factory=set[str])
    deleted: set[str] = field(default_factory=set[str])
    operations: int = 0
    refused: int = 0
    reads: int = 0
    searches: int = 0
    partly: int = 0
    wrong: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Outcome:
    """What was left after the faults; all but the first five must be 0."""

    operations: int
    refused: int
    reads: int
    searches: int
    partly: int
    lost: int
    resurrected: int
    not_one_current: int
    differences: int
    failed: int
    wrong: tuple[str, ...]

    @property
    def losses(self) -> int:
        return self.lost + self.resurrected + self.not_one_current + self.differences + self.failed + len(self.wrong)


class Stream:
    """Clients that write, search and read all the time; `pause`: by how much less often than they could."""

    def __init__(self, settings: Settings, seed: int, pause: float = 1.0) -> None:
        self.told = Told()
        self._pause = pause
        self._settings = settings
        self._chance = random.Random(seed)
        self._stop = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()

    async def run(self, breakable: Breakable, faults: list[tuple[tuple[Name, ...], Fault, float]]) -> None:
        async with (
            OmniMemClient.connect(self._settings, embedding=HashEmbedding(8)) as one,
            OmniMemClient.connect(self._settings, embedding=HashEmbedding(8)) as two,
        ):
            await self._create(one)
            async with asyncio.TaskGroup() as tasks:
                for client in (one, two):
                    tasks.create_task(self._write(client))
                    tasks.create_task(self._search(client))
                    tasks.create_task(self._read(client))
                for names, fault, seconds in faults:
                    await asyncio.sleep(self._chance.uniform(0.5, 1.5))
                    if "mongodb" in names:
                        self._readable.clear()
                    await breakable.suffer(names, fault, seconds)
                    if "mongodb" in names:
                        await asyncio.sleep(_SETTLING)
                        self._readable.set()
                await asyncio.sleep(1)
                self._stop.set()

    async def _write(self, client: OmniMemClient) -> None:
        while not self._stop.is_set():
            await self._expecting(self._change(client), "a write")
            await asyncio.sleep(0.01 * self._pause)

    async def _change(self, client: OmniMemClient) -> None:
        told, chance = self.told, self._chance
        self.told.operations += 1
        known = [key for key in told.records if key not in told.unsure]
        if chance.random() < 0.4 or len(known) < 5:
            await self._create(client)
            return
        key = chance.choice(known)
        if chance.random() < 0.7:
            memory = await client.update(key, content=self._text())
            told.records[key].append(memory.record_id)
            return
        told.unsure.add(key)  # until it is acknowledged; nobody else picks it any more
        await client.delete(key)
        told.deleted.add(key)

    async def _create(self, client: OmniMemClient) -> None:
        memory = await client.create(self._text())
        self.told.records[memory.memory_id] = [memory.record_id]

    async def _search(self, client: OmniMemClient) -> None:
        while not self._stop.is_set():
            await self._expecting(self._ask(client), "a search")
            await asyncio.sleep(0.05 * self._pause)

    async def _ask(self, client: OmniMemClient) -> None:
        found = await client.search(f"w{self._chance.randrange(50)}")
        self.told.searches += 1
        self.told.partly += any("could not be asked" in warning for warning in found.warnings)

    async def _read(self, client: OmniMemClient) -> None:
        """Reads by id; while MongoDB runs that must succeed, soon, or when the same one is asked for again."""
        failed: str | None = None
        while not self._stop.is_set():
            key = failed or self._chance.choice([key for key in self.told.records if key not in self.told.unsure])
            could = self._readable.is_set()
            try:
                async with asyncio.timeout(5):
                    memory = await client.get(key)
            except (MemoryStoreError, TimeoutError) as error:
                if could and self._readable.is_set():
                    if failed:
                        self.told.wrong.append(f"reading {key}, twice: {type(error).__name__}: {error}")
                    failed = key
            else:
                failed = None
                self.told.reads += 1
                if memory is None and key not in self.told.unsure:
                    self.told.wrong.append(f"{key} was not there")
            await asyncio.sleep(0.02 * self._pause)

    async def _expecting(self, call: Awaitable[None], what: str) -> None:
        """A call that may be refused by a server that is away, and by nothing else."""
        try:
            await call
        except UnavailableError:
            self.told.refused += 1
        except MemoryStoreError as error:
            # Another client deletes what this one is about to change: what it does is for this test beside the point.
            if "there is no memory" not in str(error):
                self.told.wrong.append(f"{what}: {type(error).__name__}: {error}")

    def _text(self) -> str:
        return f"w{self._chance.randrange(50)} w{self._chance.randrange(50)}"


async def endure(
    breakable: Breakable,
    faults: list[tuple[tuple[Name, ...], Fault, float]],
    *,
    sync: str,
    seed: int,
    pause: float = 1.0,
) -> Outcome:
    """A stream under faults, and what is left when the indexes have followed."""
    settings = breakable.addresses.settings("fleet", sync=sync, jobs=JobPolicy(lease=5, poll=0.2, batch=64))
    stream = Stream(settings, seed, pause)
    await stream.run(breakable, faults)
    told = stream.told
    async with OmniMemClient.connect(settings, embedding=HashEmbedding(8)) as client:
        await client.wait_idle(120)
        report = await client.verify()
        status = await client.status()
        lost = unsettled = 0
        for key, acknowledged in told.records.items():
            history: list[Any] = [*await client.history(key, limit=1_000)]
            if key in told.unsure:
                continue
            lost += len(set(acknowledged) - {memory.record_id for memory in history})
            unsettled += [memory.is_latest for memory in history].count(True) != 1
        resurrected = len([key for key in told.deleted if await client.get(key) is not None])
    shown = [f"{d.index}: {d.problem}" for d in report.differences[:5]]
    return Outcome(
        told.operations,
        told.refused,
        told.reads,
        told.searches,
        told.partly,
        lost,
        resurrected,
        unsettled,
        report.count,
        status.failed,
        tuple(told.wrong[:10] + shown + ([status.last_error] if status.failed and status.last_error else [])),
    )
