"""Erasing a user who used all of it, files, digests and emotions too, while models and storages are at work."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dev.servers.s3 import S3Server
from sqlalchemy import text

from conftest import OpenMind
from memground.clock import ManualClock
from memground.embedding import OpenAIEmbedding
from memground.errors import ConflictError, InvalidInputError, NotFoundError
from memground.postgres.queue import JobPolicy
from neuromem import DigestPolicy, ExtractionPolicy, NeuroMemory, NewMemory
from neuromem.providers.llm import OpenAILLM
from neuromem.providers.local_storage import LocalStorage
from neuromem.providers.s3_storage import S3Storage
from neuromem.providers.storage import ObjectStorage
from support.embeddings import HashEmbedding
from support.markers import places
from support.openai_server import CHAT, OpenAIServer, slow, status
from support.reflecting_model import answer
from support.storages import FolderStorage

POLICY = JobPolicy(lease=5, poll=0.05, backoff=0.05, attempts=2)
DAYS = [datetime(2026, 3, day, 9, tzinfo=UTC) for day in range(1, 20)]


@pytest.fixture
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(dims=32, chat=answer) as server:
        yield server


@pytest.fixture
async def llm(models: OpenAIServer) -> AsyncIterator[OpenAILLM]:
    llm = OpenAILLM(models.key, base_url=models.base_url, max_retries=0)
    yield llm
    await llm.close()


@pytest.fixture(params=["folder", "s3"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStorage]:
    if request.param == "folder":
        yield LocalStorage(tmp_path / "objects")
        return
    server: S3Server = request.getfixturevalue("s3")
    storage = S3Storage(
        endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key, bucket="erasing"
    )
    yield storage
    await storage.close()


@pytest.fixture
async def busy(
    open_mind: OpenMind, models: OpenAIServer, llm: OpenAILLM, storage: ObjectStorage
) -> AsyncIterator[NeuroMemory]:
    """A mind with everything that works in the background."""
    embedding = OpenAIEmbedding(models.key, base_url=models.base_url, dims=32)
    yield await open_mind(
        embedding=embedding, llm=llm, storage=storage, background=POLICY,
        extraction=ExtractionPolicy.per_message(), digest=DigestPolicy(memories=1_000),
    )  # fmt: skip
    await embedding.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(DAYS[0])


@pytest.fixture
async def mind(open_mind: OpenMind, llm: OpenAILLM, clock: ManualClock, tmp_path: Path) -> NeuroMemory:
    """A mind that does nothing by itself."""
    objects = LocalStorage(tmp_path / "objects")
    return await open_mind(embedding=HashEmbedding(), llm=llm, storage=objects, clock=clock, background=False)


async def live(mind: NeuroMemory, user: str, mark: str) -> dict[str, str]:
    """Has all parts of a mind make something of what a user says; the ids of what was said."""
    said = f"fact: {mark} drinks #{mark}tea. fact: {mark} sells #{mark}tea. {mark} -knows-> {mark}friend. pet = {mark}"
    message = await mind.ingest(user, "user", said, session_id=f"{mark}-s", speaker=mark, metadata={mark: mark})
    emotion = {"emotion": {"valence": -0.5, "arousal": 0.7, "label": f"{mark}grief"}}
    memory = await mind.add_memory(user, f"{mark} wept over #{mark}tea", memory_type="fact", metadata=emotion)
    page = f"{mark} on a page. ".encode() * 300
    file = await mind.files.upload(user, f"{mark}.txt", page, tags=[mark], category=mark, metadata={mark: mark})
    await mind.files.create_from_text(user, f"{mark} title", f"{mark} in a text")
    await mind.wait_idle(30)
    await mind.digest(user)
    return {"message": message.message_id, "memory": memory.memory_id, "document": file.document_id}


async def held(mind: NeuroMemory, user: str) -> list[bytes]:
    """The bytes of the user's files, one after the other."""
    found = (await mind.files.list(user)).items
    return [await mind.files.download(user, document.document_id) for document in found]


async def answers(mind: NeuroMemory, user: str) -> list[Any]:
    return [
        await mind.list_memories(user, limit=1_000),
        await mind.conversations.list_sessions(user),
        await mind.kv.list("profile", user),
        await mind.graph.list_nodes(user),
        await mind.files.list(user),
        await held(mind, user),
        await mind.emotion_profile(user),
        await mind.stats(user),
    ]


async def test_a_user_of_everything_is_gone_though_work_is_under_way(
    busy: NeuroMemory, models: OpenAIServer, tmp_path: Path
) -> None:
    await live(busy, "zqx-user", "zqx")
    await live(busy, "ben", "kept")
    mine, other = await answers(busy, "zqx-user"), await answers(busy, "ben")
    assert len(mine[4].items) == 2
    assert mine[6].emotion_triggers
    models.fail_next(*[slow(0.7)] * 4)
    await busy.ingest("zqx-user", "user", "fact: zqx is late. fact: zqx runs #zqxtea")
    digesting = asyncio.create_task(busy.digest("zqx-user"))
    await asyncio.sleep(0.3)
    receipt = await busy.delete_user_data("zqx-user")
    assert receipt.complete
    assert receipt.objects == 1
    assert (await digesting).origin is None
    await asyncio.sleep(1)
    await busy.wait_idle(30)
    assert await places(busy, ["zqx"], tmp_path) == set()
    assert await answers(busy, "ben") == other
    await live(busy, "zqx-user", "zqx")
    again = await answers(busy, "zqx-user")
    assert [len(again[n].items) for n in (0, 4)] == [len(mine[n].items) for n in (0, 4)]


async def test_a_file_that_is_being_stored_is_not_kept(
    open_mind: OpenMind, models: OpenAIServer, tmp_path: Path
) -> None:
    storage = FolderStorage(tmp_path / "objects")
    storage.slow = 0.6
    mind = await open_mind(embedding=HashEmbedding(), storage=storage, background=POLICY)
    upload = asyncio.create_task(mind.files.upload("anna", "zqx.txt", b"zqx is on its way"))
    async with asyncio.timeout(10):
        while "upload" not in storage.calls:
            await asyncio.sleep(0.02)
    assert (await mind.delete_user_data("anna")).complete
    with pytest.raises(ConflictError, match="erased"):
        await upload
    await mind.wait_idle(20)
    assert await places(mind, ["zqx"], tmp_path) == set()


@pytest.mark.parametrize("what", ["message", "memory", "document"])
async def test_one_thing_of_everything_goes_and_the_rest_stands(busy: NeuroMemory, tmp_path: Path, what: str) -> None:
    user = "anna"
    await live(busy, user, "kept")
    ids = await live(busy, user, "zqx")
    key = ids[what]
    receipt = await getattr(busy, f"erase_{what}")(user, key)
    assert receipt.complete
    assert receipt.objects == (what == "document")
    await busy.wait_idle(30)
    assert await places(busy, [key], tmp_path) == set()
    told = {
        "message": ["zqx drinks", "zqx sells", "zqxfriend", "zqx-s"],
        "memory": ["zqx wept", "zqxgrief"],
        "document": ["zqx on a page", "zqx.txt"],
    }
    assert await places(busy, told[what], tmp_path) == set()
    assert await places(busy, [word for other in told.keys() - {what} for word in told[other]]) != set()
    contents = [memory.content for memory in (await busy.list_memories(user, limit=1_000)).items]
    assert {"kept drinks #kepttea", "kept wept over #kepttea", "Often speaks of kepttea"} <= set(contents)
    await busy.add_memory(user, "Ben has #kepttea, too", memory_type="fact")
    done = await busy.digest(user)
    assert done.origin is not None
    assert await places(busy, told[what], tmp_path) == set()
    assert (await busy.digest(user)).origin is None


# ---------------------------------------------------------------- what digests wrote


async def feel(mind: NeuroMemory, *felt: str) -> list[str]:
    """Memories of a word each, the last of which is the latest."""
    new = [
        NewMemory(f"{word} #tea", "fact", {"emotion": {"valence": 0.5, "arousal": 0.5, "label": word}}) for word in felt
    ]
    return [memory.memory_id for memory in await mind.add_memories("anna", new)]


async def test_emotions_that_were_counted_but_not_shown_go_too(mind: NeuroMemory, clock: ManualClock) -> None:
    (first,) = await feel(mind, "zqx")
    clock.set(DAYS[1])
    await feel(mind, "glad")
    clock.set(DAYS[2])
    await mind.digest("anna", limit=1)
    clock.set(DAYS[3])
    await feel(mind, "calm")
    await mind.digest("anna", limit=1)
    assert {place.partition(".")[0] for place in await places(mind, ["zqx"])} == {"embeddings", "emotion_profiles"}
    words = (await mind.emotion_profile("anna")).latest_state

    async def stored() -> list[Any]:
        async with mind._db.read() as session:
            table = session.tables.emotion_profiles.table
            asked = f"SELECT valence_avg, arousal_avg, dominant_emotions, latest_state FROM {table} ORDER BY version"
            return [tuple(row) for row in await session.execute(text(asked))]

    await mind.erase_memory("anna", first)
    assert await places(mind, ["zqx", first]) == set()
    profile = await mind.emotion_profile("anna")
    assert (profile.latest_state, profile.annotated) == (words, 2)
    before, (valence, arousal, dominant, state) = await stored()
    assert (valence, arousal, state) == (profile.valence_avg, profile.arousal_avg, words)
    assert dominant == [label.to_dict() for label in profile.dominant_emotions]
    assert [label["label"] for label in before[2]] == ["glad"]


async def test_what_other_memories_showed_as_well_is_found_again(mind: NeuroMemory, clock: ManualClock) -> None:
    first, *others = await feel(mind, "zqx", "glad", "calm")
    clock.set(DAYS[1])
    (before,) = (await mind.digest("anna")).insights
    assert {source.id for source in before.sources} == {first, *others}
    clock.set(DAYS[2])
    expected = await mind.preview_erasure("anna", memory_id=first)
    receipt = await mind.erase_memory("anna", first)
    assert receipt.rows == expected.rows
    assert receipt.complete
    with pytest.raises(NotFoundError):
        await mind.history("anna", before.memory_id)
    (again,) = (await mind.digest("anna")).insights
    assert {source.id for source in again.sources} == set(others)
    profile = await mind.emotion_profile("anna")
    assert {trigger.emotion for trigger in profile.emotion_triggers} == {"glad", "calm"}
    assert await places(mind, ["zqx", first, before.memory_id]) == set()
    assert (await mind.digest("anna")).origin is None


async def test_a_purged_memory_leaves_no_mark_that_it_was_read(mind: NeuroMemory, clock: ManualClock) -> None:
    first, second, third = await feel(mind, "zqx", "glad", "calm")
    clock.set(DAYS[1])
    await mind.digest("anna")
    clock.set(DAYS[2])
    await mind.delete_memory("anna", first)
    await mind.update_memory("anna", second, content="glad indeed #tea")
    clock.set(DAYS[4])
    expected = await mind.preview_erasure("anna", before=DAYS[3])
    receipt = await mind.purge_history("anna", DAYS[3])
    assert receipt.rows == expected.rows
    assert receipt.complete
    async with mind._db.read() as session:
        links = session.tables.memory_sources.table
        marks = f"SELECT source_id::text FROM {links} WHERE derived_kind = 'digest' AND source_id IN (:a, :b, :c)"
        found = await session.execute(text(marks), {"a": first, "b": second, "c": third})
        assert list(found.scalars()) == [third]
    assert (await mind.digest("anna")).read == 1
    assert (await mind.digest("anna")).origin is None


async def test_work_that_failed_says_nothing_of_what_was_erased(
    open_mind: OpenMind, models: OpenAIServer, llm: OpenAILLM
) -> None:
    mind = await open_mind(
        embedding=HashEmbedding(), llm=llm, background=POLICY, digest=DigestPolicy(memories=2, idle=0.1),
        extraction=ExtractionPolicy.per_message(),
    )  # fmt: skip
    message = await mind.ingest("anna", "user", "fact: zqx #tea. fact: more #tea")
    async with asyncio.timeout(15):
        while models.count(CHAT) < 1:
            await asyncio.sleep(0.01)
    models.fail_next(*[status(400, "what is zqx?")] * 6)
    async with asyncio.timeout(15):
        while (await mind.background_status("anna")).last_error is None:
            await asyncio.sleep(0.02)
    receipt = await mind.erase_message("anna", message.message_id)
    assert receipt.complete
    assert await places(mind, ["zqx"]) == set()


# ---------------------------------------------------------------- and moved


async def test_what_was_purged_is_known_as_purged_where_a_user_is_moved_to(
    mind: NeuroMemory, clock: ManualClock
) -> None:
    memory = await mind.add_memory("anna", "one")
    clock.set(DAYS[1])
    await mind.update_memory("anna", memory.memory_id, content="two")
    clock.set(DAYS[3])
    await mind.purge_history("anna", DAYS[2])
    exported = [record async for record in mind.export_user_data("anna")]
    await mind.delete_user_data("anna")
    await mind.import_user_data("ben", exported)
    with pytest.raises(InvalidInputError, match="erased by purge_history"):
        await mind.rollback("ben", DAYS[0])
    assert [found.content for found in (await mind.list_memories("ben")).items] == ["two"]
    assert await anext(mind.export_user_data("ben")) | {"user_id": "anna"} == exported[0]
    assert (await mind.delete_user_data("ben")).rows == exported[0]["rows"]


async def test_a_file_of_a_user_who_was_moved_goes_with_its_passages(mind: NeuroMemory, clock: ManualClock) -> None:
    for number in range(3):
        await mind.files.upload("anna", f"{number}.txt", f"zqx{number} and what else. ".encode() * 200)
    exported = [record async for record in mind.export_user_data("anna", objects=False)]
    await mind.delete_user_data("anna")
    await mind.import_user_data("ben", exported)
    first, second, _ = sorted((await mind.files.list("ben")).items, key=lambda document: document.filename)
    for asked in (mind.files.download, mind.files.download_url):
        with pytest.raises(NotFoundError, match="were left out"):
            await asked("ben", first.document_id)
    clock.set(DAYS[1])
    await mind.files.delete("ben", first.document_id)
    names = {memory.metadata["filename"] for memory in (await mind.list_memories("ben", limit=1_000)).items}
    assert names == {"1.txt", "2.txt"}
    assert {hit.document.filename for hit in await mind.files.search("ben", "zqx0", limit=50)} == {"1.txt", "2.txt"}
    await mind.erase_document("ben", second.document_id)
    assert await places(mind, ["zqx1", second.document_id]) == set()
    assert (await mind.as_of(DAYS[0]).files.list("ben")).items != ()


async def test_words_that_came_back_still_tell_where_they_are_from(mind: NeuroMemory, clock: ManualClock) -> None:
    (first,) = await feel(mind, "zqx")
    clock.set(DAYS[1])
    await mind.digest("anna", limit=1)
    clock.set(DAYS[2])
    (second,) = await feel(mind, "glad")
    await mind.digest("anna", limit=1)
    clock.set(DAYS[3])
    await mind.erase_memory("anna", second)
    assert [source.id for source in (await mind.emotion_profile("anna")).sources] == [first]
    clock.set(DAYS[4])
    await mind.add_memory("anna", "nothing felt")
    await mind.digest("anna")
    await mind.purge_history("anna", DAYS[4])
    assert "zqx" in str((await mind.emotion_profile("anna")).latest_state)
    await mind.erase_memory("anna", first)
    assert await places(mind, ["zqx", first]) == set()


async def test_a_mind_that_is_closed_amid_everything_goes_on_when_it_is_opened_again(
    open_mind: OpenMind, models: OpenAIServer, llm: OpenAILLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors, extraction, digest and the removal of objects, each under way or waiting."""
    monkeypatch.setattr("neuromem.services.erased.PATIENCE", 0.3)
    storage = FolderStorage(tmp_path / "objects")
    options: dict[str, Any] = {
        "embedding": HashEmbedding(), "llm": llm, "storage": storage, "extraction": ExtractionPolicy.per_message(),
        "digest": DigestPolicy(memories=2, idle=0.1), "background": POLICY,
    }  # fmt: skip
    first = await open_mind(**options)
    file = await first.files.upload("anna", "a.txt", b"what anna reads")
    storage.away = True
    models.fail_next(*[slow(1.0)] * 3)
    for number in range(3):
        await first.ingest("anna", "user", f"fact: one {number} #tea. fact: two {number} #tea")
    eraser = asyncio.create_task(first.erase_document("anna", file.document_id))
    async with asyncio.timeout(10):
        while models.count(CHAT) < 1:
            await asyncio.sleep(0.02)
    assert not (await eraser).complete
    await first.ingest("anna", "user", "fact: late #tea")
    async with asyncio.timeout(5):
        await first.close()
    storage.away = False
    second = await open_mind(**options)
    await second.wait_idle(30)
    assert storage.keys == set()
    status = await second.extraction_status("anna")
    assert (status.extracted, status.pending, status.failed) == (4, 0, 0)
    found = [memory.content for memory in (await second.list_memories("anna", limit=100)).items]
    assert sorted(found) == sorted({*found})
    assert {"late #tea", "Often speaks of tea"} <= set(found)
    left = await second.background_status()
    assert (left.waiting, left.failed) == (0, 0)
