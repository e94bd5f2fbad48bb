"""Erasing: nothing of it is left anywhere, and nothing else is touched."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from conftest import OpenMind
from memground.clock import ManualClock
from memground.postgres.queue import JobPolicy
from memground.postgres.versioned import append, close_rows, lock_current, new_row
from neuromem import (
    Episode,
    Fact,
    HygieneRules,
    InvalidInputError,
    NeuroMemory,
    NewMemory,
    NewMessage,
    NotFoundError,
    Source,
    Triple,
    UnsupportedError,
)
from neuromem.providers.llm import OpenAILLM
from neuromem.queries.erasing import owners
from support.calls import settle
from support.embeddings import HashEmbedding
from support.markers import places
from support.openai_server import CHAT, OpenAIServer, slow, status
from support.scripted_model import answer
from support.storages import FolderStorage

POLICY = JobPolicy(lease=5, poll=0.05, backoff=0.05, attempts=2)


@pytest.fixture
async def storage(tmp_path: Path) -> FolderStorage:
    storage = FolderStorage(tmp_path / "objects")
    await storage.init()
    return storage


@pytest.fixture
async def mind(open_mind: OpenMind, storage: FolderStorage) -> NeuroMemory:
    return await open_mind(embedding=HashEmbedding(), storage=storage, background=False)


async def store_document(mind: NeuroMemory, storage: FolderStorage, user: str, mark: str) -> str:
    """A document with its object and two chunks, the first of which stands for it."""
    key = await storage.upload(f"d/{uuid.uuid4().hex}", f"{mark}-file.txt", f"{mark} bytes".encode(), "text/plain")
    document = uuid.uuid4()
    async with mind._db.session() as session:
        await session.hold(user)
        values = {
            "document_id": document, "user_id": user, "filename": f"{mark}-file.txt", "object_key": key,
            "extracted_text": f"{mark} text", "category": f"{mark}-category", "tags": [f"{mark}-tag"],
            "metadata_": {f"{mark}-key": f"{mark}-value"},
        }  # fmt: skip
        stamp = session.stamp("agent")
        await session.execute(insert(session.tables.documents.table).values(new_row(stamp, values)))
    source = Source("document", str(document))
    chunks = await mind.add_memories(
        user, [NewMemory(f"{mark} chunk {n}", "document", sources=[source]) for n in range(2)]
    )
    async with mind._db.session() as session:
        table = session.tables.documents.table
        named = table.update().where(table.c.user_id == user, table.c.document_id == document)
        await session.execute(named.values(embedding_id=uuid.UUID(chunks[0].memory_id)))
    return str(document)


async def live(mind: NeuroMemory, storage: FolderStorage, user: str, mark: str) -> str:
    """Something of a user in every table, with a mark in every text; returns a message's id."""
    await settle(mind, user)
    first, _ = await mind.conversations.add_messages_batch(
        user,
        [
            NewMessage("user", f"{mark} said", None, f"{mark}-ext", f"{mark}-speaker", {f"{mark}-k": f"{mark}-v"}),
            NewMessage("user", "and more", speaker="Anna"),
        ],
        session_id=f"{mark}-session",
        origin=f"{mark}-origin",
    )
    await mind.apply_extraction(
        user,
        facts=[Fact(f"{mark} is a fact", category=f"{mark}-cat", entities=(f"{mark}-entity",))],
        episodes=[Episode(f"{mark} happened")],
        triples=[Triple(f"{mark} one", "knows", f"{mark} two", subject_type=f"{mark}_type")],
        profile_updates={f"{mark}-key": {f"{mark}-in": [f"{mark}-deep"]}},
        sources=[first.message_id],
    )
    memory = await mind.add_memory(user, f"{mark} memory", memory_type=f"{mark}-type", metadata={mark: [mark]})
    await mind.update_memory(user, memory.memory_id, content=f"{mark} changed")
    await mind.delete_memory(user, memory.memory_id)
    await mind.kv.set(f"{mark}-space", user, f"{mark}-name", f"{mark}-kv")
    await mind.kv.delete(f"{mark}-space", user, f"{mark}-name")
    await mind.graph.create_node(user, f"{mark}_kind", f"{mark} node", {"aliases": [f"{mark} alias"], mark: mark})
    await mind.graph.create_edge(user, "a", f"{mark} node", f"{mark}_rel", "b", "other", {mark: f"{mark}-prop"})
    await store_document(mind, storage, user, mark)
    await mind.rollback(user, datetime.now(UTC) - timedelta(microseconds=1))
    async with mind._db.session() as session:
        stamp = session.stamp(f"{mark}-digest")
        values = {
            "profile_id": uuid.uuid4(), "user_id": user, "latest_state": f"{mark} state",
            "dominant_emotions": {mark: 1}, "emotion_triggers": [f"{mark} trigger"],
        }  # fmt: skip
        await session.execute(insert(session.tables.emotion_profiles.table).values(new_row(stamp, values)))
        failed = (
            f"UPDATE {session.tables.jobs} SET failed_at = now(), last_error = :error, "
            "payload = payload || jsonb_build_object('note', CAST(:mark AS text)) WHERE owner = :user"
        )
        await session.execute(text(failed), {"error": f"{mark} error", "mark": mark, "user": user})
    await mind.purge_history(user, datetime(2021, 1, 1, tzinfo=UTC))
    return first.message_id


async def rows_of(mind: NeuroMemory, user: str) -> dict[str, str | None]:
    """Everything a user has in any table, as one digest per table."""
    digests: dict[str, str | None] = {}
    async with mind._db.read() as session:
        for table, owner in owners(session.tables).items():
            query = f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {table} t WHERE {owner} = :user"
            digests[table.name] = await session.scalar(text(query).bindparams(user=user))
    return digests


# ---------------------------------------------------------------- all of a user


def test_every_table_says_whose_its_rows_are(mind: NeuroMemory) -> None:
    tables = mind._db.tables
    assert set(tables.metadata.tables.values()) - owners(tables).keys() == {tables.meta}


@pytest.mark.seed("9.2", "delete_user_data() deletes across all tables atomically")
async def test_nothing_of_a_user_is_left_in_any_column_object_or_statistic(
    mind: NeuroMemory, storage: FolderStorage, tmp_path: Path
) -> None:
    user, mark, other = "zqx-user", "zqx", "ben"
    await live(mind, storage, other, "kept")
    kept = storage.keys
    await live(mind, storage, user, mark)
    async with mind._db.session() as session:
        await session.execute(text("ANALYZE"))
    found = await places(mind, [mark], tmp_path)
    assert {place.partition(".")[0] for place in found} >= {
        "embeddings", "conversations", "conversation_sessions", "documents", "emotion_profiles", "graph_edges",
        "graph_nodes", "history_horizons", "jobs", "key_values", "memory_sources", "statistics of embeddings",
    }  # fmt: skip
    before = await rows_of(mind, other)
    counted = await mind.preview_erasure(user)
    mine = await rows_of(mind, user)

    receipt = await mind.delete_user_data(user)

    assert await places(mind, [mark], tmp_path) == set()
    assert storage.keys == kept
    assert await rows_of(mind, other) == before
    assert dict(receipt.rows) == dict(counted.rows)
    assert receipt.rows.keys() == {name for name, digest in mine.items() if digest is not None}
    assert receipt.objects == counted.objects == 2
    assert receipt.complete
    assert receipt.left == dict.fromkeys(mine, 0)
    assert receipt.asked_at <= receipt.erased_at <= receipt.checked_at
    assert any("VACUUM" in line for line in receipt.unreachable)
    assert not any(mark in line for line in receipt.unreachable)
    assert (await mind.delete_user_data(user)).total == 0


async def test_at_every_moment_the_user_is_unknown(mind: NeuroMemory, storage: FolderStorage) -> None:
    await live(mind, storage, "anna", "zqx")
    then = datetime.now(UTC)
    await mind.delete_user_data("anna")
    for view in (mind, mind.as_of(then)):
        assert (await view.recall("anna", "zqx")).merged == ()
        assert (await view.list_memories("anna")).items == ()
        assert await view.kv.list("profile", "anna") == []
        assert await view.conversations.list_sessions("anna") == []
        assert (await view.graph.list_nodes("anna")).items == ()
        assert (await view.stats("anna")).memory_versions == 0
    assert (await mind.rollback("anna", then)).restored == {}


async def test_inside_a_transaction_erasing_is_refused(mind: NeuroMemory, user: str) -> None:
    world = await settle(mind, user)
    async with mind.transaction() as tx:
        with pytest.raises(UnsupportedError, match="outside transaction"):
            await tx.delete_user_data(user)
        with pytest.raises(UnsupportedError, match="outside transaction"):
            await tx.erase_memory(user, world.memory_id)
        assert (await tx.preview_erasure(user)).total > 10
    assert (await mind.get_memory(user, world.memory_id)) is not None


async def test_what_is_written_meanwhile_is_erased_or_new(mind: NeuroMemory, user: str) -> None:
    stop = asyncio.Event()
    written: list[str] = []

    async def write(number: int) -> None:
        for turn in range(10_000):
            if stop.is_set():
                return
            text = f"writer {number} turn {turn}"
            await mind.add_memory(user, text)
            await mind.ingest(user, "user", text, session_id=f"s{number}")
            written.append(text)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(write(number))
        receipts = []
        for _ in range(4):
            await asyncio.sleep(0.15)
            receipts.append(await mind.delete_user_data(user))
        await asyncio.sleep(0.1)
        stop.set()
    assert all(receipt.complete for receipt in receipts)
    assert all(receipt.total for receipt in receipts)
    kept = (await mind.list_memories(user, limit=1_000)).items
    assert all(memory.recorded_at >= receipts[-2].erased_at for memory in kept)
    total = len(kept) + sum(receipt.rows.get("embeddings", 0) for receipt in receipts)
    assert len(written) <= total <= len(written) + 3


# ---------------------------------------------------------------- work under way


@pytest.fixture
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(dims=32, chat=answer) as server:
        yield server


@pytest.fixture
async def busy(open_mind: OpenMind, models: OpenAIServer) -> AsyncIterator[NeuroMemory]:
    from neuromem.extraction.policy import ExtractionPolicy
    from neuromem.providers.embedding import OpenAIEmbedding

    embedding = OpenAIEmbedding(models.key, base_url=models.base_url, dims=32)
    llm = OpenAILLM(models.key, base_url=models.base_url)
    policy = ExtractionPolicy.per_message()
    yield await open_mind(embedding=embedding, llm=llm, extraction=policy, background=POLICY)
    await llm.close()
    await embedding.close()


async def until(models: OpenAIServer, path: str, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while models.count(path) < count:
            await asyncio.sleep(0.01)


SAID = "fact: zqx likes tea. zqx -knows-> anna. drink = zqx tea"


@pytest.mark.parametrize("path", ["/v1/embeddings", CHAT])
async def test_what_a_model_is_asked_meanwhile_is_not_stored(
    busy: NeuroMemory, models: OpenAIServer, path: str
) -> None:
    models.fail_next(slow(0.6), slow(0.6))
    await busy.ingest("anna", "user", SAID)
    await until(models, path)
    receipt = await busy.delete_user_data("anna")
    assert receipt.rows["jobs"] >= 1
    await asyncio.sleep(1.0)
    await busy.wait_idle(10)
    assert await places(busy, ["zqx"]) == set()
    assert all(digest is None for digest in (await rows_of(busy, "anna")).values())


async def test_errors_that_quote_the_user_go_too(busy: NeuroMemory, models: OpenAIServer) -> None:
    models.fail_next(*[status(400, "cannot read zqx")] * 8)
    message = await busy.ingest("anna", "user", "zqx")
    async with asyncio.timeout(10):
        while (await busy.background_status("anna")).last_error is None:
            await asyncio.sleep(0.02)
    await busy.erase_message("anna", message.message_id)
    assert await places(busy, ["zqx"]) == set()


async def test_a_message_is_erased_while_it_is_extracted_with_others(busy: NeuroMemory, models: OpenAIServer) -> None:
    models.fail_next(slow(0.5), slow(0.5), slow(0.5))
    kept = await busy.ingest("anna", "user", "fact: anna likes rain")
    message = await busy.ingest("anna", "user", SAID)
    await until(models, CHAT)
    await busy.erase_message("anna", message.message_id)
    await busy.wait_idle(20)
    assert await places(busy, ["zqx"]) == set()
    assert [memory.content for memory in (await busy.list_memories("anna")).items] == ["anna likes rain"]
    status = await busy.extraction_status("anna")
    assert (status.extracted, status.pending, status.failed) == (1, 0, 0)
    assert [m.message_id for m in await busy.conversations.get_session_messages("anna")] == [kept.message_id]


# ---------------------------------------------------------------- one thing


async def test_a_message_goes_with_all_that_was_derived_from_it(mind: NeuroMemory, storage: FolderStorage) -> None:
    message = await live(mind, storage, "anna", "kept")
    said = await mind.ingest("anna", "user", "zqx said", session_id="kept-session", speaker="zqx", external_id="zqx")
    after = await mind.ingest("anna", "user", "I see", session_id="kept-session")
    await mind.apply_extraction(
        "anna",
        facts=[Fact("zqx is a fact", entities=("zqx",))],
        triples=[Triple("zqx", "knows", "Anna"), Triple("Anna", "likes", "zqx tea")],
        profile_updates={"zqx-key": "zqx-value", "city": "zqx-town"},
        sources=[said.message_id],
    )
    await mind.retry_failed("anna")
    await embed(mind)
    await mind.rollback("anna", datetime.now(UTC) - timedelta(microseconds=1))
    expected = await mind.preview_erasure("anna", message_id=said.message_id)

    receipt = await mind.erase_message("anna", said.message_id)

    assert await places(mind, ["zqx"]) == set()
    assert receipt.rows == expected.rows
    assert receipt.complete
    assert (receipt.what, receipt.id) == ("message", said.message_id)
    assert await mind.kv.get("profile", "anna", "city") == "Porto, Portugal"
    assert (await mind.graph.find_nodes("anna", "Anna")) != []
    shown = await mind.conversations.get_session_messages("anna", "kept-session")
    assert [m.message_id for m in shown if m.message_id in (message, after.message_id)] == [message, after.message_id]
    assert shown[0].extracted
    assert (await mind.background_status("anna")).waiting == 1  # the vector of the turn after it is made anew
    await embed(mind)
    async with mind._db.read() as session:
        vectors = session.tables.conversation_embeddings.table
        asked = f"SELECT count(*) FROM {vectors} WHERE message_id = :id"
        assert await session.scalar(text(asked), {"id": uuid.UUID(after.message_id)}) == 1
    with pytest.raises(NotFoundError):
        await mind.erase_message("anna", said.message_id)


async def embed(mind: NeuroMemory) -> None:
    from neuromem.services.background import BackgroundWorker

    while await BackgroundWorker(mind._db, HashEmbedding()).work_once():
        pass


async def test_the_session_of_its_last_message_goes_too(mind: NeuroMemory, user: str) -> None:
    message = await mind.ingest(user, "user", "hello", session_id="zqx-session")
    receipt = await mind.erase_message(user, message.message_id)
    assert receipt.rows == {"conversation_sessions": 1, "conversations": 1, "jobs": 1}
    assert await places(mind, ["zqx"]) == set()
    again = await mind.ingest(user, "user", "hello", session_id="zqx-session")
    assert again.seq == 1


async def test_places_in_a_session_are_never_given_twice(mind: NeuroMemory, user: str) -> None:
    first = await mind.ingest(user, "user", "one")
    last = await mind.ingest(user, "user", "two")
    await mind.erase_message(user, last.message_id)
    assert (await mind.ingest(user, "user", "three")).seq == 3
    await mind.erase_message(user, first.message_id)
    assert (await mind.ingest(user, "user", "four")).seq == 4


async def learn(mind: NeuroMemory, user: str, text: str, at: datetime, **found: Any) -> str:
    message = await mind.ingest(user, "user", text, timestamp=at)
    await mind.apply_extraction(user, **found, sources=[message.message_id])
    return message.message_id


DAYS = [datetime(2024, 5, day, tzinfo=UTC) for day in range(1, 10)]


async def test_what_others_told_before_lasts(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(), hygiene=HygieneRules(near_duplicate=0.5), background=False)
    fact = "Anna lives in Porto in a small white house by the river with a blue door and an old garden"
    await learn(mind, user, "a", DAYS[0], facts=[Fact(fact)], profile_updates={"city": "Porto"})
    second = await learn(
        mind, user, "b", DAYS[1], facts=[Fact(f"{fact} and zqx")], profile_updates={"city": "zqx town"}
    )
    third = await learn(mind, user, "c", DAYS[2], profile_updates={"city": "Oslo"})
    (memory,) = (await mind.list_memories(user)).items
    assert memory.content.endswith("zqx")
    receipt = await mind.erase_message(user, second)
    assert receipt.read_again == 0
    assert await places(mind, ["zqx"]) == set()
    left = await mind.history(user, memory.memory_id)
    assert [(version.content, version.known_to) for version in left] == [(fact, None)]
    assert [source.id for source in (await mind.list_memories(user)).items[0].sources] != [second]
    city = [(entry.value, entry.known_from, entry.known_to) for entry in await mind.kv.history("profile", user, "city")]
    assert city == [("Oslo", DAYS[2], None), ("Porto", DAYS[0], DAYS[2])]
    await mind.erase_message(user, third)
    city = [(entry.value, entry.known_from, entry.known_to) for entry in await mind.kv.history("profile", user, "city")]
    assert city == [("Porto", DAYS[0], None)]


async def test_what_others_told_later_is_read_again(mind: NeuroMemory, user: str) -> None:
    first = await learn(mind, user, "a", DAYS[0], facts=[Fact("Anna lives in zqx Porto")])
    second = await learn(mind, user, "b", DAYS[1], facts=[Fact("Anna lives in zqx Porto"), Fact("Anna has a dog")])
    assert (await mind.extraction_status(user)).extracted == 2
    receipt = await mind.erase_message(user, first)
    assert receipt.read_again == 1
    assert [m.content for m in (await mind.list_memories(user)).items] == ["Anna has a dog"]
    assert [m.message_id for m in await mind.conversations.get_unextracted_messages(user)] == [second]
    await mind.apply_extraction(user, facts=[Fact("Anna lives in Porto"), Fact("Anna has a dog")], sources=[second])
    learned = {m.content: m.known_from for m in (await mind.list_memories(user)).items}
    assert learned == {"Anna lives in Porto": DAYS[1], "Anna has a dog": DAYS[1]}


async def test_others_of_the_same_run_stay_extracted(mind: NeuroMemory, user: str) -> None:
    said = [NewMessage("user", "a", DAYS[0]), NewMessage("user", "b", DAYS[1])]
    one, two = await mind.conversations.add_messages_batch(user, said)
    await mind.apply_extraction(user, sources=[one.message_id, two.message_id])
    await mind.erase_message(user, one.message_id)
    assert [m.extracted for m in await mind.conversations.get_session_messages(user)] == [True]
    assert (await mind.extraction_status(user)).extracted == 1


async def test_a_copy_made_by_going_back_goes_with_what_it_copied(mind: NeuroMemory, user: str) -> None:
    told = await learn(mind, user, "a", DAYS[0], profile_updates={"city": "zqx"}, facts=[Fact("zqx is here")])
    then = datetime.now(UTC)
    await mind.kv.set("profile", user, "city", "Oslo")
    memory = (await mind.list_memories(user)).items[0]
    await mind.update_memory(user, memory.memory_id, content="changed")
    await mind.rollback(user, then)
    assert await mind.kv.get("profile", user, "city") == "zqx"
    await mind.erase_message(user, told)
    assert await places(mind, ["zqx", "changed"]) == set()
    assert await mind.kv.get("profile", user, "city") == "Oslo"


async def test_things_others_spoke_of_keep_their_names(mind: NeuroMemory, user: str) -> None:
    triples = [Triple("Anna", "knows", "Ben"), Triple("Anna", "knows", "zqx")]
    await learn(mind, user, "a", DAYS[0], triples=[Triple("Anna", "knows", "Ben")])
    await mind.graph.create_node(user, "entity", "by hand", {"note": "mine"})
    told = await learn(mind, user, "b", DAYS[1], triples=[*triples, Triple("by hand", "likes", "zqx")])
    await mind.erase_message(user, told)
    assert {node.node_id for node in (await mind.graph.list_nodes(user)).items} == {"anna", "ben", "by hand"}
    assert len(await mind.graph.get_neighbors(user, None, "Anna")) == 1
    assert await places(mind, ["zqx"]) == set()


async def test_a_memory_goes_with_its_insights_and_leaves_its_message(mind: NeuroMemory, user: str) -> None:
    told = await learn(mind, user, "it was said", DAYS[0], facts=[Fact("zqx fact"), Fact("another")])
    facts = {m.content: m.memory_id for m in (await mind.list_memories(user)).items}
    insight = await mind.add_memory(user, "zqx pattern", memory_type="insight")
    async with mind._db.session() as session:
        tables, stamp = session.tables, session.stamp("agent")
        row = (await session.execute(text(f"SELECT * FROM {tables.embeddings.table} WHERE memory_id = :id"),
                                     {"id": insight.memory_id})).mappings().one()  # fmt: skip
        for derived, source in ((insight.memory_id, facts["zqx fact"]), (insight.memory_id, facts["another"])):
            link = {
                "link_id": uuid.uuid4(), "user_id": user, "derived_kind": "memory", "derived_id": uuid.UUID(derived),
                "source_kind": "memory", "source_id": uuid.UUID(source), "span": None,
            }  # fmt: skip
            new = new_row(stamp, link, known_from=row["known_from"])
            await session.execute(insert(tables.memory_sources.table).values(new))
    receipt = await mind.erase_memory(user, facts["zqx fact"])
    assert receipt.rows["embeddings"] == 2
    assert receipt.read_again == 0
    assert await places(mind, ["zqx"]) == set()
    assert [m.content for m in (await mind.list_memories(user)).items] == ["another"]
    (message,) = await mind.conversations.get_session_messages(user)
    assert (message.message_id, message.extracted) == (told, True)
    with pytest.raises(NotFoundError):
        await mind.history(user, insight.memory_id)
    with pytest.raises(NotFoundError):
        await mind.revert(user, insight.memory_id, insight.version)


async def test_words_of_the_emotion_profile_go_with_the_memories_they_came_from(mind: NeuroMemory, user: str) -> None:
    """As a digest writes them: the second one's words come from another memory than the first one's."""
    first, second = [await mind.add_memory(user, f"memory {n}") for n in range(2)]
    profile = uuid.uuid4()

    async def digest(state: str, came_from: str, gone: str | None) -> None:
        async with mind._db.session() as session:
            await session.hold(user)
            tables, stamp = session.tables, session.stamp(f"digest-{state}")
            profiles, links = tables.emotion_profiles, tables.memory_sources
            mine = profiles.table.c.user_id == user
            if found := await lock_current(session, profiles, mine):
                await append(session, profiles, found[0], {"latest_state": state}, stamp, where=mine)
            else:
                values = {"profile_id": profile, "user_id": user, "latest_state": state}
                await session.execute(insert(profiles.table).values(new_row(stamp, values)))
            if gone is not None:
                old = links.table.c.source_id == uuid.UUID(gone)
                ids = [row["id"] for row in await lock_current(session, links, old)]
                await close_rows(session, links, ids, stamp, where=links.table.c.user_id == user)
            link = {
                "link_id": uuid.uuid4(), "user_id": user, "derived_kind": "emotion_profile", "derived_id": profile,
                "source_kind": "memory", "source_id": uuid.UUID(came_from), "span": None,
            }  # fmt: skip
            await session.execute(insert(links.table).values(new_row(stamp, link)))

    async def states() -> list[Any]:
        async with mind._db.read() as session:
            table = session.tables.emotion_profiles.table
            asked = f"SELECT latest_state, known_to IS NULL FROM {table} WHERE user_id = :user ORDER BY version"
            return [tuple(row) for row in await session.execute(text(asked), {"user": user})]

    await digest("glad", first.memory_id, None)
    await digest("sad", second.memory_id, first.memory_id)
    assert await states() == [("glad", False), ("sad", True)]
    await mind.erase_memory(user, first.memory_id)
    assert await states() == [("sad", True)]
    await mind.erase_memory(user, second.memory_id)
    assert await states() == []


async def test_a_document_goes_with_its_object_and_chunks(
    mind: NeuroMemory, storage: FolderStorage, user: str, tmp_path: Path
) -> None:
    kept = await store_document(mind, storage, user, "kept")
    document = await store_document(mind, storage, user, "zqx")
    receipt = await mind.erase_document(user, document)
    assert receipt.rows == {"documents": 1, "embeddings": 2, "memory_sources": 2}
    assert receipt.objects == 1
    assert receipt.complete
    assert await places(mind, ["zqx"], tmp_path) == set()
    assert len(storage.keys) == 1
    stands = (await mind.list_memories(user)).items[-1]
    await mind.erase_memory(user, stands.memory_id)
    assert (await mind.preview_erasure(user, document_id=kept)).rows == {
        "documents": 1, "embeddings": 1, "memory_sources": 1,
    }  # fmt: skip


async def test_an_object_is_removed_when_its_storage_is_back(
    open_mind: OpenMind, storage: FolderStorage, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromem.services.erased.PATIENCE", 0.3)
    mind = await open_mind(embedding=HashEmbedding(), storage=storage, background=POLICY)
    document = await store_document(mind, storage, user, "zqx")
    storage.away = True
    receipt = await mind.erase_document(user, document)
    assert (receipt.objects, receipt.objects_left, receipt.complete) == (0, 1, False)
    storage.away = False
    await mind.wait_idle(20)
    assert storage.keys == set()


@pytest.mark.parametrize("what", ["memory", "message", "document"])
async def test_what_belongs_to_another_looks_like_nothing(
    mind: NeuroMemory, storage: FolderStorage, user: str, what: str
) -> None:
    world = await settle(mind, user)
    ids = {"memory": world.memory_id, "message": world.message_id}
    ids["document"] = await store_document(mind, storage, user, "x")
    before = await rows_of(mind, user)
    with pytest.raises(NotFoundError, match=f"has no {what} "):
        await getattr(mind, f"erase_{what}")("somebody", ids[what])
    with pytest.raises(NotFoundError, match=f"has no {what} "):
        await mind.preview_erasure("somebody", **{f"{what}_id": ids[what]})
    assert await rows_of(mind, user) == before


async def test_one_thing_at_a_time(mind: NeuroMemory, user: str) -> None:
    world = await settle(mind, user)
    with pytest.raises(InvalidInputError, match="memory_id and message_id were given"):
        await mind.preview_erasure(user, memory_id=world.memory_id, message_id=world.message_id)


# ---------------------------------------------------------------- history


async def test_without_its_history_the_present_answers_as_before(open_mind: OpenMind, user: str) -> None:
    clock = ManualClock(DAYS[0])
    mind = await open_mind(embedding=HashEmbedding(), clock=clock, background=False)
    memory = await mind.add_memory(user, "zqx one")
    gone = await mind.add_memory(user, "zqx forgotten")
    await mind.kv.set("profile", user, "city", "zqx")
    clock.set(DAYS[1])
    await mind.update_memory(user, memory.memory_id, content="two")
    await mind.kv.set("profile", user, "city", "Porto")
    clock.set(DAYS[2])
    await mind.delete_memory(user, gone.memory_id)
    clock.set(DAYS[3])
    await mind.update_memory(user, memory.memory_id, content="three", origin="late")

    async def answers(t: datetime) -> list[Any]:
        view = mind.as_of(t)
        found = await view.recall(user, "one two three")
        return [found.merged, found.user_profile, await view.list_memories(user), await view.kv.list("profile", user)]

    moments = [DAYS[2], DAYS[2] + timedelta(hours=1), DAYS[3], DAYS[4]]
    clock.set(DAYS[5])
    before = [await answers(t) for t in moments]
    with pytest.raises(InvalidInputError, match="lies in the future"):
        await mind.purge_history(user, DAYS[6])
    expected = await mind.preview_erasure(user, before=DAYS[2])
    receipt = await mind.purge_history(user, DAYS[2])
    assert receipt.rows == expected.rows == {"embeddings": 2, "key_values": 1}
    assert receipt.complete
    assert await places(mind, ["zqx"]) == set()
    assert [await answers(t) for t in moments] == before
    assert [v.content for v in await mind.history(user, memory.memory_id)] == ["three", "two"]
    assert (await mind.as_of(DAYS[0]).list_memories(user)).items == ()
    with pytest.raises(InvalidInputError, match="erased by purge_history"):
        await mind.rollback(user, DAYS[1])
    await mind.purge_history(user, DAYS[1])  # an earlier one changes nothing
    with pytest.raises(InvalidInputError, match="erased by purge_history"):
        await mind.rollback(user, DAYS[1])
    # Of what was changed before, nobody knows any more what it was: it stays.
    await mind.undo(user, origin="late")
    assert (await mind.list_memories(user)).items[0].content == "two"
    await mind.undo(user, origin="agent")
    assert (await mind.kv.get("profile", user, "city")) == "Porto"
