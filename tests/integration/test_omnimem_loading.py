"""Many memories at once: all there or a prefix, found, and with indexes afterwards, whatever happens meanwhile."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from memground.errors import InvalidInputError, UnavailableError
from memground.postgres.arms import EXACT_ROWS
from omnimem import Content, NewMemory, OmniMemClient, Scope, Settings
from omnimem.operations.loading import PART
from support import omnimem_loading
from support.deployments import Servers
from support.embeddings import HashEmbedding

type OpenRecord = Callable[..., Awaitable[OmniMemClient]]

VECTORS = {"idx_memory_vector_index_embedding", "idx_memory_vector_history_embedding"}
WORDS = {
    f"idx_memory_keyword_{table}_{column}"
    for table in ("index", "history")
    for column in ("words", "tenant_words", "user_words")
}
DEAR = VECTORS | WORDS


def texts(count: int, what: str = "memory") -> list[str]:
    return [f"{what} w{number % 97} n{number}" for number in range(count)]


async def valid(url: str, schema: str) -> set[str]:
    """The HNSW and GIN indexes of a schema that are complete; none may be half made."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT c.relname, i.indisvalid, i.indisready FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname LIKE 'idx\\_%'",
            schema,
        )
    finally:
        await connection.close()
    return {row["relname"] for row in rows if row["indisvalid"] and row["indisready"]}


async def stored(client: OmniMemClient) -> list[str | None]:
    """The texts that are there, oldest version first."""
    found: list[str | None] = []
    cursor: str | None = None
    while True:
        page = await client.list(limit=1000, cursor=cursor)
        found += [memory.text for memory in page]
        if (cursor := page.cursor) is None:
            return found[::-1]


async def clean(client: OmniMemClient, memories: int) -> None:
    report = await client.verify()
    assert (report.memories, report.count, report.waiting) == (memories, 0, 0), report.differences[:3]


class Failing(HashEmbedding):
    """A model that fails at a text."""

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        if any("fatal" in text for text in texts):
            raise UnavailableError("the model is away")
        return await super().embed_batch(texts)


# ---------------------------------------------------------------- what is there afterwards


async def test_what_was_loaded_is_read_found_and_indexed(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    client = await open_record()
    told: list[tuple[str, int, int | None]] = []
    count = 2 * PART + 7
    given: list[NewMemory | Content | str] = [*texts(count - 2)]
    given.append(NewMemory("the heron stands in the reeds", metadata={"k": 1}, type="fact"))
    given.append(Content("with data", data={"n": 5}))
    assert await client.load(given, progress=lambda *step: told.append(step)) == count
    assert sorted(map(str, await stored(client))) == sorted([*texts(count - 2), "the heron stands in the reeds",
                                                             "with data"])  # fmt: skip
    for mode in ("semantic", "keyword"):
        [hit] = await client.search("the heron stands in the reeds", mode=mode, limit=1)
        assert (hit.memory.text, hit.memory.type, hit.memory.metadata) == (
            "the heron stands in the reeds", "fact", {"k": 1},
        )  # fmt: skip
    await clean(client, count)
    assert await valid(records_url, schema) == DEAR
    assert [done for step, done, _ in told if step == "memories"] == [PART, 2 * PART, count]
    assert {step for step, _, _ in told} == {"memories"} | DEAR
    assert all(total is None or 0 <= done <= total for _, done, total in told)


async def test_an_async_iterable_is_read_as_it_is_stored(open_record: OpenRecord) -> None:
    client = await open_record()
    done = asked = furthest = 0

    def progress(step: str, count: int, _: int | None) -> None:
        nonlocal done
        done = count if step == "memories" else done

    async def given() -> AsyncIterator[str]:
        nonlocal asked, furthest
        for text in texts(6 * PART):
            yield text
            asked += 1
            furthest = max(furthest, asked - done)

    assert await client.load(given(), progress=progress) == 6 * PART
    assert furthest <= 4 * PART, "what comes is read no further than a few parts ahead"
    assert await client.load(given()) == 6 * PART
    await clean(client, 12 * PART)


async def test_nothing_is_a_load_as_well(open_record: OpenRecord, records_url: str, schema: str) -> None:
    client = await open_record()
    assert await client.load([]) == 0
    assert await client.import_records([], bulk=True) == 0
    assert await valid(records_url, schema) == DEAR


@pytest.mark.parametrize("given", ["text", b"bytes", {"a": 1}, None, 5])
async def test_what_is_no_iterable_of_memories_is_refused_before_anything_happens(
    open_record: OpenRecord, given: Any
) -> None:
    client = await open_record()
    with pytest.raises(InvalidInputError, match="memories must be an iterable"):
        await client.load(given)
    with pytest.raises(InvalidInputError, match="records must be an iterable"):
        await client.import_records(given, bulk=True)
    with pytest.raises(InvalidInputError, match="progress"):
        await client.load(["a"], progress=5)  # type: ignore[arg-type]
    assert await client.count() == 0


async def test_histories_are_imported_in_bulk(open_record: OpenRecord, records_url: str, schema: str) -> None:
    source = await open_record(schema=f"{schema}_from")
    for memory in await source.create_many(texts(30)):
        await source.update(memory.memory_id, content=f"{memory.text} anew")
    records = [record async for record in source.export()]
    client = await open_record(sync="async", background=False)
    told: list[int] = []
    assert await client.import_records(
        records, bulk=True, progress=lambda step, done, _: told.append(done) if step == "memories" else None
    ) == len(records)
    assert told == [len(records)]
    assert [record async for record in client.export()] == records
    await clean(client, 30)
    assert await client.import_records(records, bulk=True, skip_existing=True) == 0
    assert await valid(records_url, schema) == DEAR


async def test_waiting_for_a_worker_is_not_needed(open_record: OpenRecord) -> None:
    client = await open_record(sync="async", background=False)
    await client.load(texts(PART + 1, "sought"))
    assert (await client.status()).waiting == 0
    assert len(await client.search("sought", mode="keyword", limit=5)) == 5
    await clean(client, PART + 1)


# ---------------------------------------------------------------- errors


async def broken(kind: str) -> AsyncIterator[Any]:
    for number, text in enumerate(texts(6 * PART)):
        if number == 3 * PART + 10:
            if kind == "source":
                raise OSError("the file cannot be read on")
            yield {"bad": 5, "model": "fatal"}[kind]
        else:
            yield text


@pytest.mark.parametrize(
    ("kind", "error"), [("bad", InvalidInputError), ("source", OSError), ("model", UnavailableError)]
)
async def test_an_error_leaves_a_prefix_and_indexes(
    open_record: OpenRecord, records_url: str, schema: str, kind: str, error: type[Exception]
) -> None:
    client = await open_record(Failing())
    told = [0]

    def progress(step: str, done: int, _: int | None) -> None:
        if step == "memories":
            told.append(done)

    with pytest.raises(error) as raised:
        await client.load(broken(kind), progress=progress)
    if kind == "bad":
        assert f"memories[{3 * PART + 10}]" in str(raised.value)
    assert told[-1] == 3 * PART
    assert sorted(map(str, await stored(client))) == sorted(texts(3 * PART))
    await clean(client, 3 * PART)
    assert await valid(records_url, schema) == DEAR


async def test_parts_are_stored_in_their_order(open_record: OpenRecord) -> None:
    class Uneven(HashEmbedding):
        async def embed_batch(self, texts: list[str]) -> list[list[float]]:
            self.calls += 1
            await asyncio.sleep(0.2 if self.calls == 1 else 0)
            return self.vectors(texts)

        def vectors(self, texts: list[str]) -> list[list[float]]:
            return [self._vector(text) for text in texts]

    client = await open_record(Uneven())
    seen: set[int] = set()
    loading = asyncio.create_task(client.load(texts(4 * PART)))
    while not loading.done():
        numbers = {int(str(text).rpartition("n")[2]) for text in await stored(client)}
        assert numbers == set(range(len(numbers))), "only a prefix is ever there"
        seen.add(len(numbers))
        await asyncio.sleep(0.01)
    assert await loading == 4 * PART
    assert seen <= {0, PART, 2 * PART, 3 * PART, 4 * PART}


async def test_a_progress_that_fails_ends_the_load_in_order(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    client = await open_record()

    def progress(step: str, done: int, _: int | None) -> None:
        if done == 2 * PART:
            raise RuntimeError("shown no further")

    with pytest.raises(RuntimeError, match="no further"):
        await client.load(texts(6 * PART), progress=progress)
    there = await client.count()
    assert there in {2 * PART, 3 * PART}
    await clean(client, there)
    assert await valid(records_url, schema) == DEAR


async def test_a_cancelled_load_is_made_good_by_the_next(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    client = await open_record()
    started = asyncio.Event()
    loading = asyncio.create_task(client.load(texts(20 * PART), progress=lambda *_: started.set()))
    await started.wait()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    there = await client.count()
    assert there % PART == 0
    assert await client.load(["one more"]) == 1
    await clean(client, there + 1)
    assert await valid(records_url, schema) == DEAR


# ---------------------------------------------------------------- others meanwhile


async def test_more_than_are_compared_keep_their_indexes_all_the_time(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    client = await open_record(HashEmbedding(4))
    assert await client.load(f"n{number % 50}" for number in range(EXACT_ROWS + 1)) == EXACT_ROWS + 1
    there: list[set[str]] = []

    async def given() -> AsyncIterator[str]:
        for text in texts(2 * PART):
            if text.endswith(("n0", "n700", "n999")):
                there.append(await valid(records_url, schema))
            yield text

    told: list[str] = []
    assert await client.load(given(), progress=lambda step, *_: told.append(step)) == 2 * PART
    assert there == [DEAR] * len(there)
    assert len(there) == 3
    assert set(told) == {"memories"}
    assert await valid(records_url, schema) == DEAR


async def test_few_have_none_while_they_come(open_record: OpenRecord, records_url: str, schema: str) -> None:
    client = await open_record()
    there: list[set[str]] = []

    async def given() -> AsyncIterator[str]:
        for text in texts(PART):
            yield text
        there.append(await valid(records_url, schema))

    await client.load(given())
    assert there == [set()]


async def test_two_loads_at_once_and_readers_and_writers(
    open_record: OpenRecord, records_url: str, schema: str
) -> None:
    first, second, other = await open_record(), await open_record(), await open_record()
    await other.create("the heron stands in the reeds")
    loading = asyncio.gather(
        first.load(texts(8 * PART, "first")), second.load(texts(5 * PART, "second")), first.load(texts(PART, "third"))
    )
    mine: list[str] = []
    while not loading.done():
        memory = await other.create(f"written meanwhile {len(mine)}")
        mine.append((await other.update(memory.memory_id, content=f"changed meanwhile {len(mine)}")).memory_id)
        for mode in ("semantic", "keyword"):
            [hit] = await other.search("the heron stands in the reeds", mode=mode, limit=1)
            assert hit.memory.text == "the heron stands in the reeds"
        if len(mine) % 5 == 0:
            await other.delete(mine.pop())
        await asyncio.sleep(0.02)
    assert await loading == [8 * PART, 5 * PART, PART]
    assert mine
    await clean(other, 14 * PART + 1 + len(mine))
    assert await valid(records_url, schema) == DEAR


async def test_many_loads_begin_at_the_same_moment(open_record: OpenRecord, records_url: str, schema: str) -> None:
    clients = [await open_record() for _ in range(4)]
    assert await asyncio.gather(*(client.load(texts(3)) for client in clients * 2)) == [3] * 8
    await clean(clients[0], 24)
    assert await valid(records_url, schema) == DEAR


async def test_a_reader_that_holds_a_table_keeps_its_indexes(
    open_record: OpenRecord, records_url: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await open_record()
    holder = await asyncpg.connect(records_url)

    async def given() -> AsyncIterator[str]:
        there.append(await valid(records_url, schema))
        await holder.close()  # an index is finished only when whoever began before it has ended
        for text in texts(10):
            yield text

    there: list[set[str]] = []
    try:
        await holder.execute(f"BEGIN; SELECT 1 FROM {schema}.memory_vector_index")
        with caplog.at_level(logging.INFO, logger="memground.indexes"):
            assert await client.load(given()) == 10
    finally:
        holder.terminate()
    assert "memory_vector_index are in use" in caplog.text
    assert there == [VECTORS]
    assert await valid(records_url, schema) == DEAR


async def test_one_connection_is_enough(open_record: OpenRecord) -> None:
    class Late(HashEmbedding):
        """The first part is ready long after the second one."""

        async def embed_batch(self, texts: list[str]) -> list[list[float]]:
            if any(text.endswith("n0") for text in texts):
                await asyncio.sleep(0.5)
            return await super().embed_batch(texts)

    client = await open_record(Late(), pool_size=1)
    async with asyncio.timeout(20):
        assert await client.load(texts(3 * PART)) == 3 * PART
    await clean(client, 3 * PART)


async def test_vectors_too_long_for_an_index_are_loaded(open_record: OpenRecord, records_url: str, schema: str) -> None:
    client = await open_record(HashEmbedding(4_100))
    assert await client.load(texts(5)) == 5
    await clean(client, 5)
    assert await valid(records_url, schema) == WORDS


async def test_a_bound_client_loads_inside_its_scope(open_record: OpenRecord) -> None:
    client = await open_record()
    anna = client.within(Scope(tenant_id="acme", user_id="anna"))
    bob = client.within(Scope(tenant_id="acme", user_id="bob"))
    await anna.load(texts(5), scope=Scope(run_id="r1"))
    assert (await anna.count(), await bob.count(), await client.count()) == (5, 0, 5)
    assert len(await bob.search("memory")) == 0
    assert {memory.scope for memory in await anna.list()} == {Scope(tenant_id="acme", user_id="anna", run_id="r1")}
    with pytest.raises(InvalidInputError):
        await bob.load([NewMemory("anna's", scope=Scope(tenant_id="acme", user_id="anna"))])
    exported = [record async for record in anna.export()]
    with pytest.raises(InvalidInputError, match="outside the scope"):
        await bob.import_records(exported, bulk=True)
    assert (await anna.count(), await bob.count()) == (5, 0)


# ---------------------------------------------------------------- killed


async def kill_at(url: str, schema: str, most: int, word: str) -> int:
    """Kills a loading program when it tells of a step; returns how many memories it said are stored."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, omnimem_loading.__file__, url, schema, str(most), stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    acknowledged = 0
    try:
        assert child.stdout is not None
        async with asyncio.timeout(60):
            async for line in child.stdout:
                step, done = line.decode().split()
                if step == "memories":
                    acknowledged = int(done)
                if f"{step} {done}".startswith(word):
                    break
    finally:
        child.send_signal(signal.SIGKILL)
        await child.wait()
    return acknowledged


@pytest.mark.parametrize("healing", ["repair", "load"])
@pytest.mark.parametrize(("most", "word"), [(0, "memories 1500"), (3_000, "idx_memory_vector_index")])
async def test_a_killed_load_is_made_good(
    open_record: OpenRecord,
    records_url: str,
    schema: str,
    caplog: pytest.LogCaptureFixture,
    most: int,
    word: str,
    healing: str,
) -> None:
    acknowledged = await kill_at(records_url, schema, most, word)
    assert acknowledged >= 3 * PART
    client = await open_record(HashEmbedding(8))
    assert "indexes of schema" in caplog.text
    assert "omnimem repair" in caplog.text
    assert len(await client.search("w5", mode="keyword", limit=5)) == 5
    there = await client.count()
    assert there >= acknowledged
    if healing == "repair":
        assert (await client.repair()).count == 0
    else:
        there += await client.load(["one more"])
    assert await valid(records_url, schema) == DEAR
    await clean(client, there)
    caplog.clear()
    await open_record(HashEmbedding(8))
    assert "missing" not in caplog.text


# ---------------------------------------------------------------- the truth elsewhere


@pytest.mark.parametrize("deployment", ["mixed", "fleet"])
async def test_a_load_whose_truth_is_elsewhere(servers: Servers, schema: str, deployment: str) -> None:
    async with OmniMemClient.connect(servers.settings(deployment, schema), embedding=HashEmbedding()) as client:
        assert await client.load(texts(PART + 20)) == PART + 20
        [hit] = await client.search("n7 w7", mode="keyword", limit=1)
        assert hit.memory.text == "memory w7 n7"
        await client.wait_idle(20)
        await clean(client, PART + 20)
        assert await valid(servers.postgres, schema) == (DEAR if deployment == "mixed" else VECTORS | WORDS)


async def test_an_index_that_is_away_keeps_nobody_from_loading(
    servers: Servers, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = servers.settings("mixed", schema)
    away = Settings(**{**vars(settings), "database_url": "postgresql://nobody@127.0.0.1:1/none"})
    async with OmniMemClient.connect(away, embedding=HashEmbedding(), background=False) as client:
        assert await client.load(texts(20)) == 20
        assert await client.count() == 20
        assert "cannot be made ready" in caplog.text
