"""Files: stored whole or not at all, found by what is written in them, as of any moment."""

import asyncio
import os
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dev.servers.s3 import S3Server
from sqlalchemy import select

from conftest import OpenMind
from memground.clock import ManualClock
from memground.embedding import EmbeddingProvider, OpenAIEmbedding
from memground.postgres.queue import JobPolicy
from neuromem import (
    ConfigurationError,
    ConflictError,
    Document,
    F,
    FileProgress,
    InvalidInputError,
    MemoryStoreError,
    NeuroMemory,
    NotFoundError,
    ProviderError,
    S3Storage,
    Source,
    UnavailableError,
)
from neuromem.documents import FileLimits
from neuromem.providers.llm import OpenAILLM
from neuromem.services.files import FileService, NewFile
from neuromem.services.stored_objects import StoredObjects
from support.embedded import short_tmp_dir
from support.embeddings import HashEmbedding
from support.openai_server import OpenAIServer
from support.storages import FolderStorage

START = datetime(2024, 3, 1, 9, tzinfo=UTC)
POLICY = JobPolicy(lease=5, poll=0.05, backoff=0.05)
TRIP = b"# Porto\n\nThe hotel lies near the river. Breakfast is at eight.\n\n" + b"The tram goes up the hill. " * 60
LEASE = "Rent is 900 euros a month. The deposit is two months' rent."


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "objects")


@pytest.fixture
async def mind(open_mind: OpenMind, storage: FolderStorage) -> AsyncIterator[NeuroMemory]:
    yield await open_mind(embedding=HashEmbedding(), storage=storage, background=POLICY)
    storage.away = False


async def named(mind: NeuroMemory) -> set[str]:
    """The objects that rows name."""
    async with mind._db.read() as session:
        keys = select(session.tables.documents.table.c.object_key)
        return set((await session.execute(keys)).scalars()) - {None}


async def in_step(mind: NeuroMemory, storage: FolderStorage) -> bool:
    """Whether storage and rows agree once the worker has run."""
    await mind.wait_idle(timeout=20)
    return storage.keys == await named(mind)


# ---------------------------------------------------------------- in and out


@pytest.mark.seed("6", "FileService uploads files", "FileService extracts their text")
async def test_a_file_is_stored_read_and_found(mind: NeuroMemory, storage: FolderStorage, user: str) -> None:
    stored = await mind.files.upload(
        user, "trip.md", TRIP, category="travel", tags=["porto", "2024", "porto"], metadata={"with": "Anna"}
    )
    assert (stored.filename, stored.title, stored.file_type) == ("trip.md", "Porto", "markdown")
    assert (stored.file_size, stored.pages, stored.source_type) == (len(TRIP), 1, "upload")
    assert (stored.category, stored.tags, stored.metadata) == ("travel", ("2024", "porto"), {"with": "Anna"})
    assert stored.chunks > 1
    assert not stored.stored_before
    assert await mind.files.get(user, stored.document_id) == stored
    assert await mind.files.download(user, stored.document_id) == TRIP
    assert (await mind.files.download_url(user, stored.document_id)).startswith("file://")
    assert "hotel lies near" in await mind.files.get_text(user, stored.document_id, page=1)
    assert storage.keys == {stored.object_key}

    (hit, *_) = await mind.files.search(user, "hotel near the river", explain=True)
    assert (hit.document, hit.page) == (stored, 1)
    assert "hotel" in hit.text
    assert hit.explanation is not None
    text = await mind.files.get_text(user, stored.document_id, page=1)
    assert text[hit.start : hit.end] == hit.text
    assert hit.memory.memory_type == "document"
    assert hit.memory.metadata["filename"] == "trip.md"


@pytest.mark.seed("6", "FileService takes a session, an embedding and a storage")
async def test_the_service_takes_a_session_an_embedding_and_a_storage(
    mind: NeuroMemory, storage: FolderStorage, user: str
) -> None:
    await storage.init()
    async with mind._db.session() as session:
        service = FileService(session, HashEmbedding(), storage)
        stored = await service.upload(user, TRIP, NewFile("trip.md"), origin="agent")
    assert await mind.files.get(user, stored.document_id) == stored
    assert await in_step(mind, storage)


@pytest.mark.seed("4.4", "documents: id and user_id", "documents: filename, file_type, mime_type and file_size")
@pytest.mark.seed("4.4", "documents: object_key", "documents: extracted_text", "documents: category and tags")
@pytest.mark.seed("4.4", "documents: embedding_id names a memory", "documents: metadata_", "documents: source_type")
@pytest.mark.seed("4.4", "documents: created_at and updated_at")
async def test_a_document_is_one_row(mind: NeuroMemory, storage: FolderStorage, user: str) -> None:
    stored = await mind.files.upload(user, "trip.md", TRIP, tags=["porto"], metadata={"n": 1})
    async with mind._db.read() as session:
        table = session.tables.documents.table
        row = (await session.execute(select(table).where(table.c.user_id == user))).mappings().one()
    assert (str(row["id"]), row["filename"]) == (stored.record_id, "trip.md")
    assert (row["file_type"], row["mime_type"], row["file_size"]) == ("markdown", "text/markdown", len(TRIP))
    assert {row["object_key"]} == storage.keys
    assert "The hotel lies near the river." in row["extracted_text"]
    first = await mind.get_memory(user, row["embedding_id"])
    assert first is not None
    assert first.content.startswith("# Porto")
    assert (row["category"], row["tags"], row["metadata_"]) == ("general", ["porto"], {"n": 1})
    assert row["source_type"] == "upload"
    assert row["created_at"] == row["updated_at"] == stored.known_from


async def test_recall_finds_passages_and_says_where_they_are_from(mind: NeuroMemory, user: str) -> None:
    stored = await mind.files.upload(user, "trip.md", TRIP)
    found = await mind.recall(user, "when is breakfast in the hotel")
    assert "Breakfast" in found.merged[0].content
    (source,) = found.merged[0].came_from
    assert (source.kind, source.id) == ("document", stored.document_id)
    assert source.span is not None
    assert source.span["page"] == 1


async def test_a_document_made_from_text_needs_no_storage(open_mind: OpenMind, user: str) -> None:
    mind = await open_mind(embedding=HashEmbedding(), background=False)
    stored = await mind.files.create_from_text(user, "Lease", LEASE, tags=["flat"])
    assert (stored.object_key, stored.source_type, stored.title) == (None, "text", "Lease")
    assert await mind.files.download(user, stored.document_id) == LEASE.encode()
    with pytest.raises(InvalidInputError, match="made from text"):
        await mind.files.download_url(user, stored.document_id)
    assert [hit.text for hit in await mind.files.search(user, "deposit")] == [LEASE]
    with pytest.raises(ConfigurationError, match="nowhere to keep files: pass storage="):
        await mind.files.upload(user, "trip.md", TRIP)


async def test_a_file_may_be_given_by_its_path(mind: NeuroMemory, tmp_path: Path, user: str) -> None:
    path = tmp_path / "trip.md"
    path.write_bytes(TRIP)
    stored = await mind.files.upload(user, "my trip.md", path)
    assert await mind.files.download(user, stored.document_id) == TRIP
    for wrong in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InvalidInputError, match="is no file"):
            await mind.files.upload(user, "x.md", wrong)


async def test_the_same_bytes_under_the_same_name_are_one_document(
    mind: NeuroMemory, storage: FolderStorage, user: str
) -> None:
    first = await mind.files.upload(user, "trip.md", TRIP, tags=["a"])
    storage.calls.clear()
    again = await mind.files.upload(user, "trip.md", TRIP, tags=["b"])
    assert again.stored_before
    assert (again.document_id, again.version, again.tags) == (first.document_id, first.version, ("a",))
    assert storage.calls == []
    other = await mind.files.upload(user, "copy.md", TRIP)
    changed = await mind.files.upload(user, "trip.md", TRIP + b"!")
    assert len({first.document_id, other.document_id, changed.document_id}) == 3
    assert await in_step(mind, storage)


async def test_a_file_deleted_and_uploaded_again_is_the_same_document(
    mind: NeuroMemory, storage: FolderStorage, user: str
) -> None:
    first = await mind.files.upload(user, "trip.md", TRIP)
    await mind.files.delete(user, first.document_id)
    again = await mind.files.upload(user, "trip.md", TRIP)
    assert again.document_id == first.document_id
    assert again.version > first.version
    assert not again.stored_before
    passages = (await mind.list_memories(user)).items
    assert len(passages) == first.chunks
    assert {len(memory.sources) for memory in passages} == {1}
    assert [hit.document for hit in await mind.files.search(user, "breakfast", limit=1)] == [again]
    assert len(await mind.files.history(user, first.document_id)) == 2
    assert await in_step(mind, storage)


# ---------------------------------------------------------------- lists, searches, changes


async def test_lists_and_searches_narrow_by_what_is_said_of_a_file(mind: NeuroMemory, user: str) -> None:
    trip = await mind.files.upload(user, "trip.md", TRIP, category="travel", tags=["porto", "2024"])
    lease = await mind.files.create_from_text(user, "Lease", LEASE, category="home", tags=["2024"], metadata={"n": 1})
    files = mind.files

    async def listed(**narrow: object) -> list[str]:
        return [document.filename for document in (await files.list(user, **narrow)).items]  # type: ignore[arg-type]

    async def found(**narrow: object) -> set[str]:
        return {hit.document.filename for hit in await files.search(user, "the rent, the hotel", **narrow)}  # type: ignore[arg-type]

    assert await listed() == ["Lease", "trip.md"]
    assert await found() == {"Lease", "trip.md"}
    for narrow, names in (
        ({"category": "travel"}, ["trip.md"]),
        ({"tags": ["2024"]}, ["Lease", "trip.md"]),
        ({"tags": ["2024", "porto"]}, ["trip.md"]),
        ({"tags": ["nothing"]}, []),
        ({"tags": []}, ["Lease", "trip.md"]),
        ({"file_type": "text"}, ["Lease"]),
        ({"where": F("metadata.n") == 1}, ["Lease"]),
        ({"where": {"file_size": {"gt": 100}}, "category": "travel"}, ["trip.md"]),
    ):
        assert await listed(**narrow) == names
        assert await found(**narrow) == set(names)
    assert await found(document_id=lease.document_id) == {"Lease"}
    page = await files.list(user, limit=1)
    assert page.cursor
    assert [d.document_id for d in (await files.list(user, limit=1, cursor=page.cursor)).items] == [trip.document_id]


async def test_only_passages_of_files_are_hits(mind: NeuroMemory, user: str) -> None:
    stored = await mind.files.create_from_text(user, "Lease", LEASE)
    await mind.add_memory(user, "the rent went up", memory_type="document")
    await mind.add_memory(user, "the rent is high", sources=[Source("document", stored.document_id)])
    assert [hit.text for hit in await mind.files.search(user, "rent")] == [LEASE]


async def test_changing_tags_rewrites_no_passage(mind: NeuroMemory, user: str) -> None:
    stored = await mind.files.upload(user, "trip.md", TRIP, category="travel")
    versions = (await mind.stats(user)).memory_versions
    changed = await mind.files.update(user, stored.document_id, tags=["b", "a"], metadata={"n": 1})
    assert (changed.tags, changed.metadata, changed.category) == (("a", "b"), {"n": 1}, "travel")
    assert (await mind.files.update(user, stored.document_id, tags=["a", "b"])).version == changed.version
    assert (await mind.stats(user)).memory_versions == versions
    assert {hit.document.document_id for hit in await mind.files.search(user, "hotel", tags=["a"])} == {
        stored.document_id
    }
    assert [d.tags for d in await mind.files.history(user, stored.document_id)] == [("a", "b"), ()]
    with pytest.raises(InvalidInputError, match="nothing to update; pass at least one of category, tags, metadata"):
        await mind.files.update(user, stored.document_id)


async def test_a_deleted_file_is_gone_now_and_there_before(
    mind: NeuroMemory, storage: FolderStorage, user: str
) -> None:
    stored = await mind.files.upload(user, "trip.md", TRIP)
    note = await mind.add_memory(user, "breakfast was late", sources=[Source("document", stored.document_id)])
    before = datetime.now(UTC)
    await mind.files.delete(user, stored.document_id)
    assert await mind.files.get(user, stored.document_id) is None
    assert (await mind.files.list(user)).items == ()
    assert await mind.files.search(user, "hotel") == []
    assert [memory.memory_id for memory in (await mind.list_memories(user)).items] == [note.memory_id]
    for call in (mind.files.download, mind.files.get_text, mind.files.delete, mind.files.download_url):
        with pytest.raises(NotFoundError):
            await call(user, stored.document_id)

    then = mind.as_of(before)
    assert await then.files.get(user, stored.document_id) == stored
    assert await then.files.download(user, stored.document_id) == TRIP
    hits = await mind.files.search(user, "hotel", as_of=before)
    assert hits
    assert all(hit.document == stored for hit in hits)
    assert await in_step(mind, storage)


# ---------------------------------------------------------------- time


async def test_rollback_undo_and_diff_know_documents(mind: NeuroMemory, storage: FolderStorage, user: str) -> None:
    empty = datetime.now(UTC)
    stored = await mind.files.upload(user, "trip.md", TRIP, origin="import")
    before = datetime.now(UTC)
    await mind.files.update(user, stored.document_id, category="travel")
    await mind.files.delete(user, stored.document_id)
    diff = await mind.diff(user, empty, before)
    assert [change.after for change in diff.learned if change.kind == "document"] == [stored]
    diff = await mind.diff(user, before, datetime.now(UTC))
    assert [change.before for change in diff.forgotten if change.kind == "document"] == [stored]

    back = await mind.rollback(user, before)
    assert back.restored["document"] == 1
    restored = await mind.files.get(user, stored.document_id)
    assert restored is not None
    assert restored.category == "general"
    assert await mind.files.download(user, stored.document_id) == TRIP
    assert await mind.files.search(user, "hotel")

    await mind.undo(user, origin=back.origin)
    assert await mind.files.get(user, stored.document_id) is None
    await mind.undo(user, origin="import")
    assert (await mind.list_memories(user)).items == ()
    assert await in_step(mind, storage)


async def test_an_imported_file_is_known_since_it_was(open_mind: OpenMind, storage: FolderStorage, user: str) -> None:
    clock = ManualClock(START)
    mind = await open_mind(embedding=HashEmbedding(), storage=storage, clock=clock, background=False)
    year_ago = START - timedelta(days=365)
    stored = await mind.files.upload(user, "trip.md", TRIP, known_at=year_ago)
    assert stored.known_from == year_ago
    assert (await mind.as_of(year_ago).files.list(user)).items == (stored,)
    assert await mind.files.search(user, "hotel", as_of=year_ago)
    assert (await mind.as_of(year_ago - timedelta(seconds=1)).files.list(user)).items == ()
    with pytest.raises(InvalidInputError, match="lies in the future"):
        await mind.files.upload(user, "b.md", TRIP, known_at=START + timedelta(days=1))
    clock.set(START + timedelta(days=1))
    await mind.files.delete(user, stored.document_id)
    again = await mind.files.upload(user, "trip.md", TRIP, known_at=year_ago)
    assert again.known_from == START + timedelta(days=1)


# ---------------------------------------------------------------- what a call costs


@pytest.mark.seed("7.5", "files.upload() costs one call of the embedding model and none of the language model")
async def test_an_upload_makes_as_few_calls_as_the_model_allows(
    open_mind: OpenMind, storage: FolderStorage, user: str
) -> None:
    pages = "\n\n".join(f"Paragraph {n}. " + "The tram goes up the hill. " * 30 for n in range(40))
    with OpenAIServer(dims=32) as server:
        for batch_size, calls in ((2048, 1), (16, 3)):
            provider = OpenAIEmbedding(
                server.key, model="toy", dims=32, base_url=server.base_url, batch_size=batch_size
            )
            llm = OpenAILLM(server.key, model="toy", base_url=server.base_url)
            mind = await open_mind(
                embedding=provider, llm=llm, storage=storage, schema=f"cost{batch_size}", background=False
            )
            server.reset()
            told: list[FileProgress] = []
            stored = await mind.files.upload(user, "trip.txt", pages.encode(), progress=told.append)
            assert len(server.calls) == calls
            assert 40 <= stored.chunks <= 48
            embedded = [t.done for t in told if t.stage == "embedding"]
            assert embedded == sorted(embedded)
            assert len(embedded) == calls + 1
            assert told[-1] == FileProgress("storing", 1, 1)
            await provider.close()
            await llm.close()


# ---------------------------------------------------------------- all or nothing


class Failing(HashEmbedding):
    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        raise RuntimeError("out of order")


async def nothing_is_left(mind: NeuroMemory, storage: FolderStorage, user: str) -> bool:
    await mind.wait_idle(timeout=20)
    memories = (await mind.list_memories(user)).items
    return not (storage.keys or memories or (await mind.files.list(user)).items)


async def test_a_model_that_fails_leaves_nothing(open_mind: OpenMind, storage: FolderStorage, user: str) -> None:
    mind = await open_mind(embedding=Failing(), storage=storage, background=POLICY)
    with pytest.raises(ProviderError, match="out of order"):
        await mind.files.upload(user, "trip.md", TRIP)
    assert "upload" not in storage.calls
    assert await nothing_is_left(mind, storage, user)


async def test_a_storage_that_goes_away_half_way_leaves_nothing(
    mind: NeuroMemory, storage: FolderStorage, user: str
) -> None:
    storage.slow = 0.3
    upload = asyncio.create_task(mind.files.upload(user, "trip.md", TRIP))
    while "upload" not in storage.calls:
        await asyncio.sleep(0.01)
    storage.away = True  # the bytes are there, but the storage can no longer say so
    with pytest.raises(UnavailableError, match="does not answer"):
        await upload
    assert storage.keys
    await asyncio.sleep(0.5)
    storage.away = False
    assert await nothing_is_left(mind, storage, user)
    assert not (await mind.files.upload(user, "trip.md", TRIP)).stored_before


async def test_a_transaction_that_fails_takes_the_object_along(
    mind: NeuroMemory, storage: FolderStorage, user: str
) -> None:
    async def fail() -> None:
        async with mind.transaction() as tx:
            await tx.files.upload(user, "trip.md", TRIP)
            await tx.add_memory(user, "went to Porto")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await nothing_is_left(mind, storage, user)
    async with mind.transaction() as tx:
        stored = await tx.files.upload(user, "trip.md", TRIP)
        await tx.files.update(user, stored.document_id, tags=["x"])
        await asyncio.sleep(POLICY.lease + 0.5)  # longer than an upload may be silent
    assert await in_step(mind, storage)
    assert storage.keys


async def test_an_upload_that_is_cancelled_leaves_nothing(mind: NeuroMemory, storage: FolderStorage, user: str) -> None:
    storage.slow = 0.3
    for moment in (0.0, 0.01, 0.05, 0.2, 0.28):
        upload = asyncio.create_task(mind.files.upload(user, "trip.md", TRIP))
        while moment and "upload" not in storage.calls:
            await asyncio.sleep(0.005)
        await asyncio.sleep(moment)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        storage.calls.clear()
    assert await nothing_is_left(mind, storage, user)


async def test_a_slow_upload_is_not_given_up(mind: NeuroMemory, storage: FolderStorage, user: str) -> None:
    storage.slow = 1.5 * POLICY.lease
    stored = await mind.files.upload(user, "trip.md", TRIP)
    assert await in_step(mind, storage)
    assert await mind.files.download(user, stored.document_id) == TRIP


async def test_an_upload_that_was_withdrawn_comes_to_nothing(
    mind: NeuroMemory, storage: FolderStorage, user: str
) -> None:
    storage.slow = 0.4
    upload = asyncio.create_task(mind.files.upload(user, "trip.md", TRIP))
    while "upload" not in storage.calls:
        await asyncio.sleep(0.01)
    async with mind._db.session() as session:
        assert await StoredObjects(session).withdraw(user) == 1
    with pytest.raises(ConflictError, match="given up meanwhile"):
        await upload
    assert await nothing_is_left(mind, storage, user)


async def test_uploads_of_one_file_at_once_are_one_document(
    mind: NeuroMemory, storage: FolderStorage, user: str
) -> None:
    storage.slow = 0.2
    stored = await asyncio.gather(*(mind.files.upload(user, "trip.md", TRIP) for _ in range(8)))
    assert len({document.record_id for document in stored}) == 1
    assert [document.stored_before for document in stored].count(False) == 1
    assert len((await mind.list_memories(user)).items) == stored[0].chunks
    assert await in_step(mind, storage)
    assert len(storage.keys) == 1


async def test_uploads_and_deletions_at_once_stay_in_step(mind: NeuroMemory, storage: FolderStorage, user: str) -> None:
    async def act(number: int) -> None:
        try:
            stored = await mind.files.upload(user, f"{number % 3}.md", TRIP)
            await mind.files.delete(user, stored.document_id)
        except NotFoundError:
            pass  # another one was quicker

    await asyncio.gather(*(act(number) for number in range(12)))
    assert (await mind.files.list(user)).items == ()
    assert (await mind.list_memories(user)).items == ()
    assert await in_step(mind, storage)


# ---------------------------------------------------------------- wrong input


async def test_nothing_wrong_is_stored(mind: NeuroMemory, storage: FolderStorage, user: str) -> None:
    files = mind.files
    stored = await files.create_from_text(user, "Lease", LEASE)
    wrong = [
        files.upload(user, "", TRIP),
        files.upload(user, "x" * 501, TRIP),
        files.upload(user, "a.md", "text"),  # type: ignore[arg-type]
        files.upload(user, "a.md", b""),
        files.upload(user, "a.pdf", TRIP),
        files.upload(user, "a.bin", b"\x00\x01\x02\x03" * 100),
        files.upload(user, "a.md", TRIP, category=""),
        files.upload(user, "a.md", TRIP, category="x" * 101),
        files.upload(user, "a.md", TRIP, tags="porto"),
        files.upload(user, "a.md", TRIP, tags=[""]),
        files.upload(user, "a.md", TRIP, tags=[f"{n}" for n in range(101)]),
        files.upload(user, "a.md", TRIP, metadata={"x": float("nan")}),
        files.upload(user, "a.md", TRIP, known_at=datetime(2024, 1, 1)),  # noqa: DTZ001
        files.upload(user, "a.md", TRIP, progress="yes"),  # type: ignore[arg-type]
        files.create_from_text(user, "a", " \n"),
        files.create_from_text(user, "a", "nul \x00"),
        files.search(user, ""),
        files.search(user, "x", limit=0),
        files.search(user, "x", document_id="y"),
        files.list(user, cursor="y"),
        files.list(user, where={"nonsense": 1}),
        files.get_text(user, stored.document_id, page=0),
        files.download_url(user, stored.document_id, expires_in=0),
        files.download_url(user, stored.document_id, expires_in=8 * 24 * 3600),
        files.update(user, stored.document_id, category=None),  # type: ignore[arg-type]
        files.get(user, "no id"),
    ]
    for call in wrong:
        with pytest.raises(InvalidInputError):
            await call
    with pytest.raises(NotFoundError, match="has no page 2; it has 1"):
        await files.get_text(user, stored.document_id, page=2)
    assert len((await files.list(user)).items) == 1
    assert storage.keys == set()


async def test_files_beyond_the_limits_of_a_mind_are_refused(open_mind: OpenMind, storage: FolderStorage) -> None:
    mind = await open_mind(
        embedding=HashEmbedding(), storage=storage, file_limits=FileLimits(bytes=1_000), background=False
    )
    with pytest.raises(InvalidInputError, match="at most 1,000 are read"):
        await mind.files.upload("anna", "trip.md", TRIP)
    with pytest.raises(InvalidInputError, match="file_limits must be a FileLimits"):
        NeuroMemory(None, HashEmbedding(), file_limits=1_000)  # type: ignore[arg-type]


async def test_a_storage_that_misbehaves_is_named(open_mind: OpenMind, tmp_path: Path, user: str) -> None:
    class Odd(FolderStorage):
        async def upload(self, prefix: str, filename: str, data: bytes, content_type: str) -> str:
            return "elsewhere"

    class Raising(FolderStorage):
        async def download(self, object_key: str) -> bytes:
            raise RuntimeError("disk on fire")

    odd = await open_mind(embedding=HashEmbedding(), storage=Odd(tmp_path / "odd"), background=False)
    with pytest.raises(ProviderError, match="Odd stored a file as 'elsewhere'; a key begins with"):
        await odd.files.upload(user, "trip.md", TRIP)
    raising = await open_mind(embedding=HashEmbedding(), storage=Raising(tmp_path / "raising"), background=False)
    stored = await raising.files.upload(user, "trip.md", TRIP)
    with pytest.raises(ProviderError, match="Raising failed: RuntimeError: disk on fire"):
        await raising.files.download(user, stored.document_id)


async def test_keys_tell_nothing_of_the_user_or_the_name(mind: NeuroMemory, storage: FolderStorage) -> None:
    await mind.files.upload("anna-schmidt", "secret plan.md", TRIP)
    (key,) = storage.keys
    assert "anna" not in key
    assert "plan" not in key


async def test_no_transaction_is_open_while_providers_work(
    open_mind: OpenMind, storage: FolderStorage, user: str
) -> None:
    """With one connection, all of an upload and of a download goes on."""
    provider: EmbeddingProvider = HashEmbedding()
    mind = await open_mind(embedding=provider, storage=storage, pool_size=1, background=False)
    storage.slow = 0.2
    upload = asyncio.create_task(mind.files.upload(user, "trip.md", TRIP))
    while "upload" not in storage.calls:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(0.15):
        await mind.stats(user)
    stored = await upload
    assert await mind.files.download(user, stored.document_id) == TRIP


# ---------------------------------------------------------------- real storages


async def test_files_lie_beside_an_embedded_server(user: str) -> None:
    with short_tmp_dir() as folder:
        for _ in range(2):  # found again by the next program
            async with NeuroMemory(f"embedded://{folder}/pg", HashEmbedding()) as mind:
                stored = await mind.files.upload(user, "trip.md", TRIP)
                assert await mind.files.download(user, stored.document_id) == TRIP
                await mind.wait_idle(timeout=10)
        files = folder / "pg" / "files"
        assert [path.read_bytes() for path in files.rglob("*") if path.is_file()] == [TRIP]
        assert files.stat().st_mode & 0o777 == 0o700


@pytest.mark.seed("8.2", "files lie in S3, for who uses files")
async def test_files_in_a_bucket(open_mind: OpenMind, s3: S3Server, user: str) -> None:
    storage = S3Storage(s3.endpoint, s3.access_key, s3.secret_key, bucket="files")
    mind = await open_mind(embedding=HashEmbedding(), storage=storage, background=JobPolicy(poll=0.05))
    stored = await mind.files.upload(user, "trip.md", TRIP)
    assert await mind.files.download(user, stored.document_id) == TRIP
    address = await mind.files.download_url(user, stored.document_id, expires_in=60)

    def fetch() -> bytes:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.read()

    assert await asyncio.to_thread(fetch) == TRIP
    assert stored.object_key is not None
    async with mind._db.session() as session:
        await StoredObjects(session).discard([stored.object_key])
    await mind.wait_idle(timeout=20)
    with pytest.raises(NotFoundError):
        await mind.files.download(user, stored.document_id)
    await storage.close()


async def test_a_gateway_that_hangs_while_files_are_uploaded(open_mind: OpenMind, user: str) -> None:
    """What was acknowledged is there; what was not left nothing, though the gateway took the bytes in the end."""
    with S3Server() as server:
        storage = S3Storage(
            server.endpoint, server.access_key, server.secret_key, bucket="files", timeout=1.5, max_retries=0
        )
        policy = JobPolicy(lease=6, poll=0.05, backoff=0.05)
        mind = await open_mind(embedding=HashEmbedding(), storage=storage, background=policy)
        await mind.files.upload(user, "first.md", TRIP)

        frozen = asyncio.Event()

        async def upload(number: int) -> Document | MemoryStoreError:
            await asyncio.sleep(number / 5)
            if number == 11:  # one that certainly meets it
                await frozen.wait()
            try:
                return await mind.files.upload(user, f"{number}.md", TRIP + os.urandom(20_000).hex().encode())
            except (UnavailableError, ProviderError) as error:
                return error

        uploads = [asyncio.create_task(upload(number)) for number in range(12)]
        await uploads[2]
        server.freeze()
        frozen.set()
        await asyncio.sleep(4)
        server.thaw()
        ended = await asyncio.gather(*uploads)
        stored = [document for document in ended if isinstance(document, Document)]
        assert 0 < len(stored) < 12
        await mind.wait_idle(timeout=40)
        found = await storage._run(lambda client: client.list_objects_v2(Bucket="files").get("Contents", []))
        assert {item.get("Key") for item in found} == await named(mind)
        assert len((await mind.files.list(user)).items) == len(stored) + 1
        await storage.close()


async def test_a_pdf_of_two_hundred_pages_shows_how_far_it_is(
    open_mind: OpenMind, storage: FolderStorage, user: str
) -> None:
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_font("helvetica", size=11)
    for number in range(1, 201):
        pdf.add_page()
        pdf.multi_cell(0, 6, f"Chapter {number}. The tram number {number} goes up the hill. " * 25)
    with OpenAIServer(dims=32) as server:
        provider = OpenAIEmbedding(server.key, model="toy", dims=32, base_url=server.base_url)
        mind = await open_mind(embedding=provider, storage=storage, background=False)
        told: list[FileProgress] = []
        stored = await mind.files.upload(user, "book.pdf", bytes(pdf.output()), progress=told.append)
        texts = stored.chunks
        assert (stored.file_type, stored.pages) == ("pdf", 200)
        assert texts >= 200
        assert len(server.calls) == len({at.done for at in told if at.stage == "embedding"}) - 1 <= 3
        assert len({at.done for at in told if at.stage == "reading"}) > 20
        (hit, *_) = await mind.files.search(user, "tram number 137")
        assert hit.page == 137
        await provider.close()
