"""What a client must do over any storage, in both modes."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from memground.embedding import EmbeddingProvider
from memground.errors import ConflictError, NotFoundError
from memground.filters import F, Filter, matches
from omnimem.client import OmniMemClient
from omnimem.models import Content, Memory, NewMemory, Scope
from omnimem.testing.conformance.common import refused


class LetterEmbedding(EmbeddingProvider):
    """Vectors of 26 numbers: how often each letter occurs. Texts of the same letters are near; no model is needed."""

    @property
    def dims(self) -> int:
        return 26

    async def embed(self, text: str) -> list[float]:
        counts = [text.lower().count(chr(97 + number)) + 0.01 for number in range(26)]
        length = sum(count * count for count in counts) ** 0.5
        return [count / length for count in counts]


class ClientConformance:
    """A client's calls. The file that inherits gives a fixture `client`: unbound, opened with LetterEmbedding, over an
    empty storage."""

    async def test_the_life_of_a_memory(self, client: OmniMemClient) -> None:
        memory = await client.create("alpha", metadata={"n": 1})
        changed = await client.update(memory.memory_id, content="beta", expected_version=memory.version)
        assert changed.version > memory.version
        await refused(client.update(memory.memory_id, content="x", expected_version=memory.version), ConflictError)
        back = await client.revert(memory.memory_id, memory.record_id)
        assert (back.content, back.metadata) == (memory.content, memory.metadata)
        assert await client.get(memory.memory_id) == back
        history = await client.history(memory.memory_id)
        assert [m.record_id for m in history] == [back.record_id, changed.record_id, memory.record_id]
        then = await client.at_time(memory.memory_id, changed.created_time)
        assert then is not None
        assert then.record_id == changed.record_id
        assert await client.delete(memory.memory_id) == 3
        assert await client.get(memory.memory_id) is None
        assert await client.at_time(memory.memory_id, changed.created_time) is None
        await refused(client.update(memory.memory_id, content="x"), NotFoundError)
        await self._settled(client)

    async def test_what_is_found_is_what_was_known(self, client: OmniMemClient) -> None:
        one, two = await client.create_many(["red apple", "green pear"])
        moment = two.created_time
        await client.update(one.memory_id, content="blue plum")
        await self._settled(client)
        assert self._ids(await client.search("plum", mode="keyword")) == {one.memory_id}
        assert self._ids(await client.search("apple", mode="keyword")) == set()
        then = await client.search("apple", mode="keyword", as_of=moment)
        assert [hit.memory.text for hit in then] == ["red apple"]
        nearest = await client.search("red apple", mode="semantic", as_of=moment, limit=1)
        assert [hit.memory.text for hit in nearest] == ["red apple"]
        assert (await client.search("plum blue", limit=1))[0].memory.memory_id == one.memory_id
        assert (await client.verify()).count == 0

    async def test_filters_mean_what_the_predicate_means(self, client: OmniMemClient) -> None:
        values: list[Any] = [1, 2.0, "2", None, [1, 5], {"deep": 2}, True, []]
        stored = await client.create_many(
            [NewMemory(Content("alpha", {"n": value} if value is not None else {}), metadata={"i": number})
             for number, value in enumerate(values)]
        )  # fmt: skip
        await self._settled(client)
        same: Sequence[Filter] = [
            F("data.n") == 2, F("data.n") >= 1, F("data.n").exists(), F("data.n").in_([1, "2"]), F("data.n.deep") == 2,
            (F("metadata.i") < 3) | (F("data.n") == True),  # noqa: E712
        ]  # fmt: skip
        for condition in [*same, *(~each for each in same)]:
            expected = {memory.memory_id for memory in stored if matches(condition, memory.document)}
            assert {m.memory_id for m in await client.list(filters=condition)} == expected
            assert await client.count(filters=condition) == len(expected)
            assert self._ids(await client.search(None, filters=condition)) == expected
            for mode in ("semantic", "keyword"):
                found = await client.search("alpha", mode=mode, filters=condition)
                assert self._ids(found) == expected, (mode, condition)

    async def test_a_bound_client_sees_and_touches_nothing_else(self, client: OmniMemClient) -> None:
        mine = client.within(Scope(tenant_id="mine"))
        theirs = client.within(Scope(tenant_id="theirs"))
        memory = await mine.create("alpha")
        await self._settled(client)
        key = memory.memory_id
        assert await theirs.get(key) is None
        assert await theirs.at_time(key, memory.created_time) is None
        assert not await theirs.history(key)
        assert not await theirs.list()
        assert await theirs.count() == 0
        assert not await theirs.search("alpha")
        assert not await theirs.search(None)
        for call in (
            theirs.update(key, content="x"), theirs.delete(key), theirs.revert(key, memory.record_id),
        ):  # fmt: skip
            await refused(call, NotFoundError)
        assert [record async for record in self._exported(theirs)] == []
        assert await mine.get(key) == memory

    async def test_writers_at_once_leave_one_line_of_records(self, client: OmniMemClient) -> None:
        memory = await client.create("alpha")
        await asyncio.gather(*(client.update(memory.memory_id, content=f"alpha {n}") for n in range(16)))
        history = [*await client.history(memory.memory_id, limit=100)]
        assert len(history) == 17
        assert [m.version for m in history] == sorted({m.version for m in history}, reverse=True)
        assert [m.is_latest for m in history] == [True] + [False] * 16
        await self._settled(client)
        assert (await client.verify()).count == 0

    async def test_an_export_is_the_same_elsewhere(self, client: OmniMemClient) -> None:
        mine = client.within(Scope(tenant_id=f"t{uuid.uuid4().hex[:6]}"))
        memory = await mine.create("alpha", metadata={"n": 1})
        await mine.update(memory.memory_id, content="beta")
        records = [record async for record in self._exported(mine)]
        assert records[0]["record_id"] == memory.record_id
        assert [Memory.from_dict(record).text for record in records] == ["alpha", "beta"]
        assert await mine.import_records(records, skip_existing=True) == 0
        await refused(mine.import_records(records), ConflictError)

    async def _settled(self, client: OmniMemClient) -> None:
        await client.wait_idle(60)

    def _ids(self, found: Any) -> set[str]:
        return {hit.memory.memory_id for hit in found}

    def _exported(self, client: OmniMemClient) -> AsyncIterator[dict[str, Any]]:
        return client.export()
