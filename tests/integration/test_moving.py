"""A user leaves one database and is whole in another."""

import copy
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from memground.clock import ManualClock
from neuromem import (
    ConflictError,
    Fact,
    InvalidInputError,
    NeuroMemory,
    NewMessage,
    ProviderError,
    Triple,
)
from neuromem.queries.moving import STAYS, parts
from neuromem.services.export_records import Checksum
from neuromem.services.kv import named_entry
from support import law_digest
from support.calls import PRESENT_ONLY, READS, call, settle, state
from support.embeddings import HashEmbedding
from support.law import START, WORDS, answers, differences, live, moments, plan, random_steps
from support.moving import Exported, records_of, row, sealed, small_export, version_of
from support.sound import check_sound


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(scope="module")
async def here(database_url: str, clock: ManualClock) -> AsyncIterator[NeuroMemory]:
    llm = law_digest.model(WORDS)
    schema = "move_from"
    async with NeuroMemory(database_url, HashEmbedding(), llm, schema=schema, clock=clock, auto_extract=False) as mind:
        yield mind


@pytest.fixture(scope="module")
async def there(database_url: str, clock: ManualClock) -> AsyncIterator[NeuroMemory]:
    async with NeuroMemory(database_url, HashEmbedding(), schema="move_to", clock=clock) as mind:
        yield mind
        await mind.wait_idle(timeout=60)
        await check_sound(mind)


@pytest.fixture(scope="module")
async def quiet(database_url: str) -> AsyncIterator[NeuroMemory]:
    """One without a background of its own, by the machine's clock, with another model."""
    async with NeuroMemory(database_url, HashEmbedding(8), schema="move_quiet", background=False) as mind:
        yield mind


def unordered(records: Exported) -> list[str]:
    """All but the checksum, which is of an order."""
    return sorted(json.dumps({**record, "sha256": None}, sort_keys=True) for record in records)


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_read_answers_as_before_at_any_moment(
    here: NeuroMemory, there: NeuroMemory, clock: ManualClock, seed: int
) -> None:
    acts = plan(random_steps(seed, 40))
    whole = await live(here, clock, acts)
    await here.wait_idle(timeout=60)
    clock.set(whole.end)
    moved = await records_of(here, whole.user)
    done = await there.import_user_data(whole.user, moved)
    assert sum(done.rows.values()) == len(moved) - 2
    assert (done.waiting, done.embedded) == (0, 0)
    times = moments(acts)
    for moment in [None, *times[:: max(1, len(times) // 2)]]:
        views = [mind if moment is None else mind.as_of(moment) for mind in (here, there)]
        asked = moment or whole.end
        before, after = [await answers(view, whole, whole.memories, asked) for view in views]
        assert not differences(before, after), f"as of {moment}"
    assert unordered(await records_of(there, whole.user)) == unordered(moved)
    back = times[len(times) // 2]
    undone = [await mind.rollback(whole.user, back) for mind in (here, there)]
    assert undone[0].restored == undone[1].restored
    assert undone[0].ended == undone[1].ended


async def test_every_call_answers_as_before(
    here: NeuroMemory, there: NeuroMemory, clock: ManualClock, user: str
) -> None:
    world = await settle(here, user)
    await here.wait_idle(timeout=60)
    then = clock.now()
    clock.advance(timedelta(seconds=1))
    await there.import_user_data(user, await records_of(here, user))
    for name, arguments in READS.items():
        if name == "files.download_url":  # of a text there is none
            continue
        asked = arguments(world)
        assert await call(there, name, asked) == await call(here, name, asked), name
        if name not in PRESENT_ONLY:
            before, after = [await call(mind.as_of(then), name, asked) for mind in (here, there)]
            assert before == after, name


@pytest.mark.parametrize("vectors", [True, False])
async def test_another_name_and_another_model(
    here: NeuroMemory, database_url: str, schema: str, user: str, vectors: bool
) -> None:
    """What follows from the user's id follows from the new one; vectors are those of the new model."""
    said = [NewMessage("user", f"my boat number {n} is called Sea-Gull", external_id=f"x{n}") for n in range(3)]
    first, *_ = await here.conversations.add_messages_batch(user, said, session_id="s1")
    await here.apply_extraction(
        user,
        facts=[Fact("the boat is blue")],
        triples=[Triple("Anna", "owns", "Sea-Gull")],
        profile_updates={"boat": "Sea-Gull"},
        sources=[first.message_id],
    )
    await here.graph.update_node(user, "entity", "Sea-Gull", {"aliases": ["Möwe"]})
    await here.add_memories(user, ["the sea is grey", "the sea is grey"])
    exported = await records_of(here, user, vectors=vectors)
    assert any("embedding" in record.get("values", ()) for record in exported) is vectors

    new = f"new-{user}"
    seen: list[tuple[str, int, int | None]] = []
    async with NeuroMemory(database_url, HashEmbedding(16), schema=schema, clock=here._context.clock) as mind:
        done = await mind.import_user_data(new, exported, progress=lambda *told: seen.append(told))
        assert (done.exported_from, done.user_id, done.embedded, done.waiting) == (user, new, 2, 3)
        assert done.unextracted == 2
        assert [what for what, _, _ in seen][-1] == "storing"
        assert {what for what, _, _ in seen} == {"reading", "embedding", "storing"}
        assert all(count <= (total or count) for _, count, total in seen)
        await mind.wait_idle(timeout=60)
        await check_sound(mind)
        found = await mind.recall(new, "boat")
        assert {hit.content for hit in found.merged} >= {"the boat is blue", said[0].content}
        assert [hit.memory.content for hit in await mind.search(new, "sea", limit=2)] == ["the sea is grey"] * 2
        assert all(hit.memory.user_id == new for hit in found.vector_results)
        assert [node.node_id for node in await mind.graph.find_nodes(new, "möwe")] == ["sea gull"]
        assert await mind.kv.get("profile", new, "boat") == "Sea-Gull"
        await mind.kv.delete("profile", new, "boat")
        again = await mind.kv.set("profile", new, "boat", "Tern")
        assert len(await mind.kv.history("profile", new, "boat")) == 2
        assert again.created_at >= done.exported_at
        assert (await mind.stats(user)).memories == {}
        links = text(f"SELECT derived_id FROM {schema}.memory_sources WHERE derived_kind = 'kv'")
        entries = text(f"SELECT entry_id FROM {schema}.key_values")
        async with mind._db.read() as session:
            linked = set((await session.execute(links)).scalars())
            assert linked == set((await session.execute(entries)).scalars())


async def test_a_message_that_waited_for_its_vector_gets_it_there(quiet: NeuroMemory, user: str) -> None:
    await quiet.ingest(user, "user", "the tide is low")
    moved = await records_of(quiet, user)
    async with NeuroMemory(quiet._db._url, HashEmbedding(8), schema="move_busy") as busy:
        done = await busy.import_user_data(user, moved)
        assert done.waiting == 1
        await busy.wait_idle(timeout=60)
        await check_sound(busy)
        assert (await busy.background_status(user)).waiting == 0


async def test_who_is_there_already_is_not_mixed(quiet: NeuroMemory, user: str) -> None:
    await quiet.kv.set("notes", user, "a", 1)
    exported = await records_of(quiet, user)
    before = await state(quiet)
    with pytest.raises(ConflictError, match="has memories here already"):
        await quiet.import_user_data(user, exported)
    with pytest.raises(ConflictError, match=r"records 2 to 2 .* under another name"):
        await quiet.import_user_data(f"other-{user}", exported)
    assert await state(quiet) == before


async def test_nothing_but_a_header_is_an_empty_user(quiet: NeuroMemory, user: str) -> None:
    exported = await records_of(quiet, user)
    assert [record["record"] for record in exported] == ["header", "end"]
    assert (await quiet.import_user_data(user, exported)).rows == {}


async def test_records_may_come_from_anywhere(quiet: NeuroMemory, user: str) -> None:
    done = await quiet.import_user_data(user, (record for record in small_export()))
    assert done.rows == {"embeddings": 1, "key_values": 1}

    async def sent() -> AsyncIterator[dict[str, Any]]:
        for record in small_export():
            yield record

    assert (await quiet.import_user_data(f"{user}-2", sent())).rows == done.rows
    assert [hit.memory.content for hit in await quiet.search(f"{user}-2", "tea")] == ["likes tea"]


# ---------------------------------------------------------------- strangers

type Forge = Callable[[Exported], Any]


def with_value(number: int, **values: Any) -> Forge:
    """A change of some values of a row, sealed as if it had always been so."""

    def forge(records: Exported) -> Exported:
        records[number]["values"] |= values
        return sealed(records)

    return forge


def with_header(**values: Any) -> Forge:
    return lambda records: [{**records[0], **values}, *records[1:]]


def with_row(table: str, **values: Any) -> Forge:
    return lambda records: sealed([*records[:-1], row(table, **values)])


def without(number: int, *names: str) -> Forge:
    def forge(records: Exported) -> Exported:
        for name in names:
            del records[number]["values"][name]
        return sealed(records)

    return forge


SOON = (datetime.now(UTC) + timedelta(days=1)).isoformat()
MESSAGE = version_of(
    message_id="7" * 32, user_id="anna", session_id="s1", seq=1, role="user", speaker=None, content="hi",
    extracted=False, metadata_={}, external_id=None, event_at="2020-01-01T00:00:00+00:00",
)  # fmt: skip
SESSION = {
    "id": "6" * 32, "user_id": "anna", "session_id": "s1", "message_count": 1, "last_message_at": None,
    "closed_at": None, "created_at": "2020-01-01T00:00:00+00:00", "updated_at": "2020-01-01T00:00:00+00:00",
}  # fmt: skip

LATER = "2021-01-01T00:00:00Z"


def node(properties: Any) -> dict[str, Any]:
    return version_of(node_key="5" * 32, user_id="anna", node_type="a", node_id="b", properties=properties)


FORGED: dict[str, tuple[Forge, str]] = {
    "nothing": (lambda _: [], "the export is empty"),
    "no object": (lambda r: [5, *r[1:]], r"record 1 .* int 5"),
    "no JSON": (lambda r: [{**r[0], "x": {1, 2}}], r"record 1 .* no JSON object"),
    "NaN": (lambda r: [{**r[0], "x": float("nan")}], r"record 1 .* no JSON object"),
    "no header": (lambda r: r[1:], r"record 1 .* header is the first"),
    "two headers": (lambda r: [r[0], *r], r"record 2 .* header is the first"),
    "another format": (with_header(format="mem0"), "format='mem0'"),
    "a newer version": (with_header(version=2), "version=2"),
    "from the future": (with_header(exported_at=SOON), "exported_at="),
    "no user": (with_header(user_id=""), "user_id is empty"),
    "no dims": (with_header(dims="8"), "dims='8'"),
    "no counts": (with_header(rows=5), "rows"),
    "other counts": (with_header(rows={"embeddings": 7}), r"record 4 .* 7 rows, but 2 rows came"),
    "cut off": (lambda r: r[:-1], "cut off: it ends with record 3"),
    "a record left out": (lambda r: [r[0], *r[2:]], r"record 3 .* 2 rows, but 1 rows came"),
    "a record changed": (
        lambda r: [*r[:2], {**r[2], "values": {**r[2]["values"], "value": "Oslo"}}, r[3]],
        r"record 4 .* checksum",
    ),
    "something after the end": (lambda r: [*r, r[1]], r"record 5 .* follows the end"),
    "an unknown record": (lambda r: [r[0], {"record": "sql"}], r"record 2 .* record='sql'"),
    "an unknown table": (with_row("pg_authid", rolname="x"), "table='pg_authid'"),
    "a table that stays": (with_row("jobs", kind="x"), "table='jobs'"),
    "a table of lists": (lambda r: sealed([*r[:-1], {"record": "row", "table": ["x"], "values": {}}]), "table="),
    "no values": (lambda r: sealed([*r[:-1], {"record": "row", "table": "embeddings", "values": 5}]), "values must be"),
    "an unknown column": (with_value(1, **{"x); DROP TABLE embeddings; --": 1}), "embeddings has no column"),
    "a derived column": (with_value(1, words=[1, 2]), "no column 'words'"),
    "a missing column": (without(1, "content"), r"record 2 .* content is missing"),
    "another user's row": (with_value(1, user_id="ben"), "user_id='ben' is not the user of the header"),
    "another user's entry": (with_value(2, scope_id="ben"), "scope_id='ben'"),
    "NUL": (with_value(1, content="a\x00"), r"record 2 .* content holds a NUL"),
    "a lone surrogate": (with_value(1, content="a\ud800"), "U\\+D800"),
    "empty": (with_value(1, content=" "), "content is empty"),
    "huge": (with_value(1, content="x" * 1_000_001), "1,000,001 characters"),
    "a long origin": (with_value(1, origin="x" * 256), "origin has 256"),
    "no id": (with_value(1, memory_id="x"), "memory_id='x'"),
    "no whole number": (with_value(1, version=1.5), "version=1.5"),
    "too large": (with_value(1, version=2**63), "version="),
    "too new": (with_value(1, version=2**63 - 1), "lies in the future"),
    "out of range": (with_value(1, importance=11), "importance=11"),
    "no time": (with_value(1, known_from="yesterday"), "known_from='yesterday' is no time"),
    "naive": (with_value(1, event_at="2020-01-01"), "event_at='2020-01-01'"),
    "known too soon": (with_value(1, known_from=SOON), "known_from="),
    "recorded in the future": (with_value(1, recorded_at=SOON), "recorded_at="),
    "known before all": (with_value(1, known_from="1600-01-01T00:00:00Z"), "before 1700"),
    "ends before it begins": (with_value(1, known_to="2019-01-01T00:00:00Z"), "before it begins"),
    "true backwards": (
        with_value(1, valid_from="2020-01-01T00:00:00Z", valid_to="2019-01-01T00:00:00Z"),
        "valid_to=",
    ),
    "no metadata": (with_value(1, metadata_=[1]), "metadata_ must be a JSON object"),
    "deep": (with_value(1, metadata_={"a": [[[[]]]] * 3, **{"x": json.loads("[" * 40 + "]" * 40)}}), "nested deeper"),
    "a vector of text": (with_value(1, embedding="no"), "embedding="),
    "a short vector": (with_value(1, embedding="AAAA"), "has 3 bytes"),
    "a vector of zeros": (with_value(1, embedding="A" * 21 + "A=="), "not all zero"),
    "a vector of infinities": (with_value(1, embedding="fAB8AHwAfAB8AHwAfAB8AA=="), "finite"),
    "two versions at once": (
        lambda r: sealed(
            [*r[:-1], row("embeddings", **{**r[1]["values"], **version_of(version=2, known_to=LATER)})]
        ),
        "overlap",
    ),
    "two current versions": (
        lambda r: sealed([*r[:-1], row("embeddings", **{**r[1]["values"], **version_of(version=2)})]),
        "twice",
    ),
    "one id twice": (lambda r: sealed([*r[:-1], r[1]]), "twice"),
    "a message without a session": (with_row("conversations", **MESSAGE), "session 's1' has more messages"),
    "a vector of somebody else's message": (
        lambda r: with_row(
            "conversation_embeddings",
            **version_of(message_id="7" * 32, user_id="anna", embedding="PAAAAAAAAAAAAAAAAAAAAA=="),
        )([{**r[0], "model": "hash-8"}, *r[1:]]),
        "a vector belongs to message 77777777",
    ),
    "no seq": (with_row("conversations", **{**MESSAGE, "seq": 0}), "seq=0"),
    "no bool": (with_row("conversations", **{**MESSAGE, "extracted": 1}), "extracted=1"),
    "a node's name": (
        with_row("graph_nodes", **node({"name": 5})),
        "properties.name",
    ),
    "a node's aliases": (
        with_row("graph_nodes", **node({"aliases": "x"})),
        "properties.aliases",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
async def test_what_strangers_send_is_refused_and_nothing_is_written(quiet: NeuroMemory, user: str, what: str) -> None:
    forge, says = FORGED[what]
    before = await state(quiet)
    with pytest.raises((InvalidInputError, ConflictError), match=says) as caught:
        await quiet.import_user_data(user, forge(copy.deepcopy(small_export())))
    assert len(str(caught.value)) < 500
    assert await state(quiet) == before


async def test_what_was_forged_would_otherwise_be_taken(quiet: NeuroMemory, user: str) -> None:
    whole = [*small_export()[:-1], row("conversation_sessions", **SESSION), row("conversations", **MESSAGE)]
    done = await quiet.import_user_data(user, sealed(whole))
    assert done.rows == {"embeddings": 1, "key_values": 1, "conversation_sessions": 1, "conversations": 1}
    assert done.waiting == 1


async def test_a_model_that_fails_leaves_nothing(quiet: NeuroMemory, user: str, monkeypatch: Any) -> None:
    async def failing(texts: list[str]) -> list[list[float]]:
        raise ProviderError("no such model")

    before = await state(quiet)
    monkeypatch.setattr(quiet._context.embedding, "embed_batch", failing)
    with pytest.raises(ProviderError):
        await quiet.import_user_data(user, small_export())
    assert await state(quiet) == before


async def test_who_stops_reading_an_export_gives_the_connection_back(quiet: NeuroMemory, user: str) -> None:
    await quiet.kv.batch_set("notes", user, {str(n): n for n in range(100)})
    for _ in range(20):  # more than there are connections
        async for record in quiet.export_user_data(user):
            assert record["record"] == "header"
            break
    assert (await quiet.stats(user)).key_values == 100


@pytest.mark.seed("9.2", "export_user_data() is one snapshot")
async def test_an_export_is_one_snapshot(quiet: NeuroMemory, user: str) -> None:
    await quiet.kv.batch_set("notes", user, {str(n): n for n in range(100)})
    seen: list[dict[str, Any]] = []
    async for record in quiet.export_user_data(user):
        if len(seen) == 5:
            await quiet.kv.batch_set("notes", user, {"99": "changed", "new": 1})
        seen.append(record)
    assert sorted(record["values"]["value"] for record in seen[1:-1]) == list(range(100))


def test_every_table_moves_or_has_a_reason_to_stay(quiet: NeuroMemory) -> None:
    tables = quiet._db.tables
    assert {part.name for part in parts(tables)} | STAYS.keys() == {
        table.name for table in tables.metadata.sorted_tables
    }


async def test_many_rows_take_no_more_memory_than_few(quiet: NeuroMemory, user: str) -> None:
    peaks: list[int] = []
    for number, count in enumerate((500, 5_000)):
        who = f"{user}-{number}"
        exported = large_export(who, count)
        tracemalloc.start()
        done = await quiet.import_user_data(who, exported)
        assert done.rows == {"key_values": count}
        seen = 0
        async for _ in quiet.export_user_data(who):
            seen += 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seen == count + 2
    assert peaks[1] < peaks[0] + 1_000_000, peaks  # 4,500 rows more are 2 MB of JSON


def large_export(user: str, count: int) -> Iterator[dict[str, Any]]:
    """An export of so many values of 300 letters, made while it is read."""
    header = {**small_export(user)[0], "rows": {"key_values": count}}
    checksum = Checksum()
    for number in range(-1, count):
        named = {"namespace": "notes", "scope_id": user, "key": str(number), "value": "letters, " * 33}
        values = version_of(entry_id=str(named_entry("notes", user, str(number))), **named)
        record = header if number < 0 else row("key_values", **values)
        checksum.add(record)
        yield record
    yield {"record": "end", "rows": {"key_values": count}, "sha256": str(checksum)}
