"""A life of a record beside a dictionary: whatever is done, both answer the same, now and about every moment."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memground.clock import ManualClock
from omnimem import (
    ConflictError,
    F,
    JobPolicy,
    Memory,
    NotFoundError,
    OmniMemClient,
    Scope,
)
from support.deployments import Servers
from support.embeddings import HashEmbedding

WORDS = ["apple", "river", "stone", "cloud", "tiger", "piano", "bread", "chair", "lemon", "eagle", "paper", "wheel"]
TENANTS = ["a", "b"]
SOME_WORDS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)


@dataclass
class Life:
    """What the dictionary knows of a memory: its records, oldest first."""

    tenant: str
    records: list[Memory] = field(default_factory=list)

    def at(self, moment: datetime) -> Memory | None:
        return next((r for r in reversed(self.records) if r.created_time <= moment), None)


class RecordMachine(RuleBasedStateMachine):
    """Two clients of one storage, `workers` more that only work, one clock, and a dictionary.

    `servers`, `deployment` and `sync` are set by the test.
    """

    servers: Servers
    deployment = "postgres"
    sync = "inline"
    workers = 0
    operations = 0

    def __init__(self) -> None:
        super().__init__()
        self.lives: dict[str, Life] = {}
        self.gone: list[str] = []
        self.moments: list[datetime] = []
        self.chance = random.Random(0)
        self.runner = asyncio.Runner()
        self.clients: list[OmniMemClient] = []
        self.opened: list[OmniMemClient] = []

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        settings = self.servers.settings(self.deployment, sync=self.sync, jobs=JobPolicy(poll=0.02), pool_size=4)

        async def connect() -> None:
            for _ in range(2 + self.workers):
                client = OmniMemClient.connect(settings, embedding=HashEmbedding(8), clock=self.clock)
                await client.open()
                self.opened.append(client)
            self.clients = self.opened[:2]

        self.runner.run(connect())

    def teardown(self) -> None:
        async def close() -> None:
            try:
                if self.clients:
                    await self.clients[0].wait_idle(60)
                    report = await self.clients[0].verify()
                    assert report.differences == ()
                    assert report.records == sum(len(life.records) for life in self.lives.values())
            finally:
                await asyncio.gather(*(client.close() for client in self.opened))

        self.runner.run(close())
        self.runner.close()

    def run(self, call: Any) -> Any:
        type(self).operations += 1
        return self.runner.run(call)

    @property
    def client(self) -> OmniMemClient:
        return self.chance.choice(self.clients)

    def bound(self, life: Life) -> OmniMemClient:
        """A client that may see the memory."""
        return self.client.within(Scope(tenant_id=life.tenant)) if self.chance.random() < 0.5 else self.client

    def some(self) -> tuple[str, Life]:
        return self.chance.choice(list(self.lives.items()))

    def settled(self) -> None:
        if self.sync == "async":
            self.runner.run(self.clients[0].wait_idle(60))

    # ---------------------------------------------------------------- writes

    @rule(seconds=st.integers(0, 3))
    def time_passes(self, seconds: int) -> None:
        self.moments.append(self.clock.now())
        self.clock.advance(timedelta(seconds=seconds))

    @rule(text=SOME_WORDS, tenant=st.sampled_from(TENANTS), n=st.integers(0, 5))
    def create(self, text: str, tenant: str, n: int) -> None:
        async def create() -> Memory:
            return await self.client.create(text, scope=Scope(tenant_id=tenant), metadata={"n": n})

        memory = self.run(create())
        self.lives[memory.memory_id] = Life(tenant, [memory])

    @precondition(lambda self: self.lives)
    @rule(text=SOME_WORDS, expect=st.sampled_from([None, True, False]))
    def update(self, text: str, expect: bool | None) -> None:
        key, life = self.some()
        latest = life.records[-1]
        version = None if expect is None else latest.version if expect else latest.version - 1
        try:
            memory = self.run(self.bound(life).update(key, content=text, expected_version=version))
        except ConflictError:
            assert expect is False
            return
        assert expect is not False
        assert memory.version > latest.version
        life.records.append(memory)

    @precondition(lambda self: self.lives)
    @rule(texts=st.lists(SOME_WORDS, min_size=2, max_size=5))
    def update_at_once(self, texts: list[str]) -> None:
        key, life = self.some()

        async def all_of_them() -> list[Memory]:
            return await asyncio.gather(*(self.client.update(key, content=text) for text in texts))

        changed = sorted(self.run(all_of_them()), key=lambda memory: memory.version)
        assert len({memory.version for memory in changed}) == len(texts)
        assert changed[0].version > life.records[-1].version
        life.records += changed

    @precondition(lambda self: self.lives)
    @rule()
    def revert(self) -> None:
        key, life = self.some()
        earlier = self.chance.choice(life.records)
        memory = self.run(self.bound(life).revert(key, earlier.record_id))
        assert (memory.content, memory.metadata) == (earlier.content, earlier.metadata)
        life.records.append(memory)

    @precondition(lambda self: len(self.lives) > 2)
    @rule()
    def delete(self) -> None:
        key, life = self.some()
        assert self.run(self.bound(life).delete(key)) == len(life.records)
        del self.lives[key]
        self.gone.append(key)

    # ---------------------------------------------------------------- reads

    @precondition(lambda self: self.lives)
    @rule()
    def read(self) -> None:
        key, life = self.some()
        client = self.bound(life)
        assert self.run(client.get(key)) == life.records[-1]
        one = self.chance.choice(life.records)
        found = self.run(client.get(key, version=one.version))
        assert (found.record_id, found.content) == (one.record_id, one.content)
        history = self.run(client.history(key, limit=1_000))
        assert [m.record_id for m in history] == [m.record_id for m in reversed(life.records)]
        other = self.client.within(Scope(tenant_id="a" if life.tenant == "b" else "b"))
        assert self.run(other.get(key)) is None

    @precondition(lambda self: self.gone)
    @rule()
    def what_is_gone_stays_gone(self) -> None:
        key = self.chance.choice(self.gone)
        assert self.run(self.client.get(key)) is None
        for call in (self.client.update(key, content="x"), self.client.delete(key)):
            try:
                self.run(call)
            except NotFoundError:
                continue
            raise AssertionError("a deleted memory was changed")

    @rule(
        word=st.sampled_from(WORDS), n=st.integers(0, 5), past=st.booleans(), tenant=st.sampled_from([None, *TENANTS])
    )
    def ask(self, word: str, n: int, past: bool, tenant: str | None) -> None:
        self.settled()
        moment = self.chance.choice(self.moments) if past and self.moments else None
        when = moment or self.clock.now()
        lives = [life for life in self.lives.values() if tenant in (None, life.tenant)]
        there = {m.record_id: m for life in lives if (m := life.at(when) if moment else life.records[-1]) is not None}
        client = self.client.within(Scope(tenant_id=tenant))
        listed = self.run(client.list(limit=1_000, as_of=moment))
        assert {m.record_id for m in listed} == set(there)
        assert [m.version for m in listed] == sorted((m.version for m in there.values()), reverse=True)
        assert self.run(client.count(as_of=moment)) == len(there)
        filtered = {key for key, m in there.items() if m.metadata["n"] >= n}
        found = self.run(client.search(None, filters=F("metadata.n") >= n, limit=1_000, as_of=moment))
        assert {hit.memory.record_id for hit in found} == filtered
        having = {key for key, m in there.items() if word in str(m.text).split()}
        found = self.run(client.search(word, mode="keyword", limit=1_000, as_of=moment))
        assert {hit.memory.record_id for hit in found} == having
        found = self.run(client.search(word, mode="semantic", limit=1_000, as_of=moment))
        assert {hit.memory.record_id for hit in found} == set(there)

    @precondition(lambda self: self.lives and self.moments)
    @rule()
    def look_back(self) -> None:
        key, life = self.some()
        moment = self.chance.choice(self.moments)
        found, expected = self.run(self.bound(life).at_time(key, moment)), life.at(moment)
        assert (found and found.record_id) == (expected and expected.record_id)

    @invariant()
    def one_record_is_the_latest(self) -> None:
        if self.lives:
            key, _ = self.some()
            history = self.run(self.client.history(key, limit=1_000))
            assert [m.is_latest for m in history].count(True) == 1
            assert history[0].is_latest
