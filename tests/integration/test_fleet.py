"""omnimem over MongoDB, PostgreSQL, Elasticsearch and Kafka, as its users see it."""

import asyncio
from dataclasses import replace

import pytest

from omnimem import F, InvalidInputError, OmniMemClient, Scope, Settings, UnavailableError, UnsupportedError
from omnimem.storage.elasticsearch import ElasticsearchKeywords
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings
from omnimem.storage.settings.kafka import KafkaSettings
from support.deployments import Servers
from support.embeddings import HashEmbedding

NOWHERE = "127.0.0.1:9"
"""A port where nobody listens."""


def connect(settings: Settings, *, background: bool = True) -> OmniMemClient:
    return OmniMemClient.connect(settings, embedding=HashEmbedding(8), background=background)


async def test_what_was_written_is_found_at_once(servers: Servers) -> None:
    async with connect(servers.settings("fleet")) as client:
        anna = client.within(Scope(tenant_id="acme", user_id="anna"))
        memory = await anna.create("the red zeppelin", metadata={"n": 1})
        other = await anna.create("the red car", metadata={"n": 2})
        later = await anna.update(memory.memory_id, content="the blue zeppelin")
        assert [hit.memory.record_id for hit in await anna.search("zeppelin", mode="keyword")] == [later.record_id]
        assert [hit.memory.memory_id for hit in await anna.search("red", mode="keyword")] == [other.memory_id]
        then = await anna.search("zeppelin", mode="keyword", as_of=memory.created_time)
        assert [hit.memory.text for hit in then] == ["the red zeppelin"]
        found = await anna.search("red", filters=F("metadata.n") == 1)
        assert [hit.memory.memory_id for hit in found] == [memory.memory_id]
        assert not await client.within(Scope(tenant_id="other")).search("zeppelin")
        await anna.delete(other.memory_id)
        assert not await anna.search("red", mode="keyword")
        assert (await client.verify()).count == 0
        assert set(await client.about()) >= {"address", "MongoDB", "PostgreSQL", "Elasticsearch"}


async def test_writes_are_followed_by_a_worker(servers: Servers) -> None:
    settings = servers.settings("fleet", sync="async")
    async with connect(settings, background=False) as writer:
        memory = await writer.create("a lantern")
        assert await writer.get(memory.memory_id) == memory
        assert (await writer.status()).waiting == 1
        assert not await writer.search("lantern", mode="keyword")
        async with connect(settings):
            await writer.wait_idle(30)
        assert [hit.memory for hit in await writer.search("lantern")] == [memory]


@pytest.mark.parametrize("away", ["elasticsearch", "postgres"])
async def test_an_index_that_is_away_keeps_nobody_from_the_truth(servers: Servers, away: str) -> None:
    """From the start: the client opens, writes, reads and searches by what is left; later everything is found."""
    whole = servers.settings("fleet", search_deadline=3.0)
    if away == "elasticsearch":
        broken = replace(whole, elasticsearch=ElasticsearchSettings(f"http://{NOWHERE}", timeout=2))
        left, missing = "semantic", "keyword"
    else:
        async with connect(whole):
            pass
        broken = replace(whole, database_url=f"postgresql://{NOWHERE}/none")
        left, missing = "keyword", "semantic"
    async with connect(broken, background=False) as client:
        memory = await client.create("a lamp")
        memory = await client.update(memory.memory_id, content="a lantern")
        assert await client.get(memory.memory_id) == memory
        found = await client.search("lantern")
        assert [hit.memory for hit in found] == [memory]
        assert any(f"the {missing} index could not be asked" in warning for warning in found.warnings)
        assert [hit.memory for hit in await client.search("lantern", mode=left, strict=True)] == [memory]
        with pytest.raises(UnavailableError, match=missing):
            await client.search("lantern", strict=True)
        with pytest.raises(UnavailableError):
            await client.search("lantern", mode=missing)
        assert "cannot be reached" in str(await client.about())
    async with connect(whole) as client:
        await client.wait_idle(30)
        assert (await client.search("lantern", mode=missing))[0].memory == memory
        assert (await client.verify()).count == 0


async def test_kafka_away_delays_only_what_is_asynchronous(servers: Servers) -> None:
    whole = servers.settings("fleet")
    broken = replace(whole, kafka=KafkaSettings(NOWHERE, prefix=whole.kafka.prefix, timeout=1))
    async with connect(broken, background=False) as client:
        memory = await client.create("a lantern")
        assert [hit.memory for hit in await client.search("lantern")] == [memory]
    async with connect(replace(broken, sync="async"), background=False) as client:
        late = await client.create("a candle")
        assert await client.get(late.memory_id) == late
    async with connect(whole) as client:
        await client.wait_idle(30)
        assert (await client.search("candle", mode="keyword"))[0].memory == late


async def test_mongodb_away_is_said_at_once(servers: Servers) -> None:
    settings = servers.settings("fleet")
    gone = replace(settings, mongodb=replace(settings.mongodb, url=f"mongodb://me:secret@{NOWHERE}/", timeout=1))
    with pytest.raises(UnavailableError, match=NOWHERE) as raised:
        async with connect(gone):
            pass
    assert "secret" not in str(raised.value)


async def test_verify_goes_on_where_it_was_interrupted(servers: Servers) -> None:
    async with connect(servers.settings("fleet")) as client:
        memories = await client.create_many([f"memory {n}" for n in range(450)])
        ids = sorted(memory.memory_id for memory in memories)
        seen: list[str] = []

        async def interrupted() -> None:
            await client.verify(progress=lambda _, last: seen.append(last) or task.cancel())

        task = asyncio.create_task(interrupted())
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        report = await client.verify(after=seen[-1])
        assert report.memories == len(ids) - ids.index(seen[-1]) - 1 < len(ids)


async def test_the_keyword_index_is_made_anew_while_others_work(servers: Servers) -> None:
    settings = servers.settings("fleet")
    async with connect(settings) as client, connect(settings) as other:
        kept = [await client.create(f"lamp {letter * 3}") for letter in "abcdefghijklmnopqrst"]
        first = kept[0]
        await client.delete(kept.pop().memory_id)
        told: list[tuple[int, int]] = []
        done, written = asyncio.Event(), list[str]()

        async def work() -> None:
            """Every kind of write, by a client that knows nothing of the new index."""
            while not done.is_set():
                memory = await other.create("lantern")
                await other.update(memory.memory_id, content="lantern again")
                await other.update(first.memory_id, content=f"lamp turn{len(written)}")
                gone = await other.create("lantern gone")
                await other.delete(gone.memory_id)
                written.append(memory.memory_id)

        working = asyncio.create_task(work())
        while len(written) < 2:
            await asyncio.sleep(0.05)
        made = await client.reindex(progress=lambda n, total: told.append((n, total)))
        before = len(written)
        while len(written) < before + 2:
            await asyncio.sleep(0.05)
        done.set()
        await working
        await client.wait_idle(60)
        assert made.memories >= 21
        assert made.records > made.memories
        assert told[-1] == (made.memories, max(total for _, total in told))
        assert (await client.verify()).count == 0
        assert "-v1-2: " in str(await client.about())
        assert [hit.memory.memory_id for hit in await client.search("hhh", mode="keyword")] == [kept[7].memory_id]
        assert not await client.search("aaa ttt", mode="keyword")  # said otherwise since, and deleted
        then = await client.search("aaa", mode="keyword", as_of=first.created_time)
        assert [hit.memory.record_id for hit in then] == [first.record_id]
        assert await client.abandon_reindex() is False


async def test_a_lost_keyword_index_comes_back(servers: Servers) -> None:
    settings = servers.settings("fleet")
    async with connect(settings) as client:
        memory = await client.create("a lantern")
        memory = await client.update(memory.memory_id, content="a red lantern")
    keywords = ElasticsearchKeywords(settings.elasticsearch)
    await keywords.open()
    await keywords.drop()
    await keywords.close()
    async with connect(settings) as client:
        assert not await client.search("lantern", mode="keyword")
        with pytest.raises(ZeroDivisionError):
            await client.reindex(progress=lambda n, _: n // 0)
        assert await client.abandon_reindex() is True
        with pytest.raises(ZeroDivisionError):
            await client.reindex(progress=lambda n, _: n // 0)
        assert (await client.reindex()).to_dict() == {"memories": 1, "records": 2}
        assert [hit.memory for hit in await client.search("lantern", mode="keyword")] == [memory]
        with pytest.raises(UnsupportedError, match="not bound"):
            await client.within(Scope(tenant_id="acme")).reindex()


def test_roles_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InvalidInputError, match='choose records="mongodb"'):
        Settings(keywords="elasticsearch")
    with pytest.raises(InvalidInputError, match="pass one of postgres, mongodb"):
        Settings(records="oracle")
