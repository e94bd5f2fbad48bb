"""The bytes of files move with their user, whole or not at all."""

import copy
import hashlib
import json
import random
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dev.servers.s3 import S3Server
from sqlalchemy import select

from memground.clock import ManualClock
from memground.postgres.embedded import EmbeddedPostgres
from memground.postgres.queue import JobPolicy
from neuromem import (
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    LocalStorage,
    NeuroMemory,
    NotFoundError,
    ProviderError,
    S3Storage,
    UnavailableError,
)
from neuromem.documents import FileLimits
from neuromem.services.export_records import Checksum
from neuromem.services.object_records import PART_BYTES, object_records
from support.embeddings import HashEmbedding
from support.files_killing import Place
from support.law import START
from support.moving import (
    Exported,
    document_of,
    export_with_files,
    records_of,
    sealed,
    small_export,
)
from support.moving_killing import strike
from support.sound import check_sound
from support.storages import FolderStorage

POLICY = JobPolicy(lease=10, poll=0.05, backoff=0.05)


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("moved")


@pytest.fixture(scope="module")
async def here(database_url: str, clock: ManualClock, folder: Path) -> AsyncIterator[NeuroMemory]:
    storage = LocalStorage(folder / "here")
    async with NeuroMemory(
        database_url, HashEmbedding(8), storage=storage, schema="objects_from", clock=clock, background=POLICY
    ) as mind:
        yield mind


@pytest.fixture
def stored(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "there")


@pytest.fixture
async def there(open_mind: Callable[..., Awaitable[NeuroMemory]], stored: FolderStorage) -> AsyncIterator[NeuroMemory]:
    mind = await open_mind(embedding=HashEmbedding(8), storage=stored, background=POLICY)
    yield mind
    stored.away = False
    await mind.wait_idle(timeout=30)
    assert stored.keys == await named(mind)
    await check_sound(mind)


async def named(mind: NeuroMemory) -> set[str]:
    """The objects that rows name."""
    async with mind._db.read() as session:
        keys = select(session.tables.documents.table.c.object_key)
        return set((await session.execute(keys)).scalars()) - {None}


async def nothing_of(mind: NeuroMemory, user: str, storage: FolderStorage) -> bool:
    """Whether an import that failed left nothing, once the worker has run."""
    await mind.wait_idle(timeout=30)
    exported = [record async for record in mind.export_user_data(user)]
    return [record["record"] for record in exported] == ["header", "end"] and not storage.keys


async def with_files(mind: NeuroMemory, user: str, *contents: str) -> list[str]:
    return [(await mind.files.upload(user, f"{n}.md", text.encode())).document_id for n, text in enumerate(contents)]


async def lived(mind: NeuroMemory, clock: ManualClock, user: str, seed: int) -> tuple[list[Any], list[str]]:
    """Uploads, changes and deletes at random; the moments between, and the documents there ever were."""
    rng, ids, moments = random.Random(seed), set[str](), []
    for _ in range(14):
        clock.advance(timedelta(hours=1))
        number = rng.randrange(5)
        act = rng.random()
        known = [document.document_id for document in (await mind.files.list(user)).items]
        if act < 0.6 or not known:
            text = f"# File {number}\n\n" + f"word{number} " * (1 + 90_000 * (number == 4))
            ids.add((await mind.files.upload(user, f"{number}.md", text.encode())).document_id)
        elif act < 0.75:
            await mind.files.update(user, rng.choice(known), tags=[f"t{rng.randrange(3)}"])
        elif act < 0.9:
            await mind.files.delete(user, rng.choice(known))
        else:
            ids.add((await mind.files.create_from_text(user, f"note {number}", f"tea {number}")).document_id)
        moments.append(clock.now())
    clock.advance(timedelta(hours=1))
    return moments, sorted(ids)


async def downloads(mind: NeuroMemory, user: str, ids: list[str], moments: list[Any]) -> list[Any]:
    found: list[Any] = []
    for moment in (None, *moments):
        view = mind if moment is None else mind.as_of(moment)
        for key in ids:
            try:
                found.append((moment, key, hashlib.sha256(await view.files.download(user, key)).hexdigest()))
            except NotFoundError:
                found.append((moment, key, None))
    return found


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_file_downloads_as_before_at_any_moment(
    here: NeuroMemory, there: NeuroMemory, clock: ManualClock, user: str, stored: FolderStorage, seed: int
) -> None:
    moments, ids = await lived(here, clock, user, seed)
    exported = await records_of(here, user)
    seen: list[tuple[str, int, int | None]] = []
    new = f"new-{user}"
    done = await there.import_user_data(new, exported, progress=lambda *told: seen.append(told))
    objects = {record["key"] for record in exported if record["record"] == "object"}
    assert objects
    assert (done.objects, exported[0]["objects"], exported[-1]["objects"]) == (len(objects),) * 3
    assert [told for told in seen if told[0] == "uploading"][-1] == ("uploading", len(objects), len(objects))
    before = await downloads(here, user, ids, moments)
    assert await downloads(there, new, ids, moments) == before
    assert {what for _, _, what in before} > {None}
    assert len(stored.keys) == len(objects)
    assert not stored.keys & objects
    again = await records_of(there, new)
    assert sorted(hashed(again)) == sorted(hashed(exported))
    for document in (await there.files.list(new)).items:
        await there.files.delete(new, document.document_id)
    assert not (await there.list_memories(new)).items
    await there.delete_user_data(new)
    await there.wait_idle(timeout=30)
    assert not stored.keys


def hashed(records: Exported) -> list[str]:
    return [f"{record['part']} {record['data']}" for record in records if record["record"] == "object"]


async def test_files_go_from_a_folder_to_s3_and_back(
    here: NeuroMemory, database_url: str, schema: str, user: str, s3: S3Server, tmp_path: Path
) -> None:
    keys = await with_files(here, user, "# One\n\nthe tide is low", "# Two\n\n" + "the boat is blue. " * 30_000)
    first = await records_of(here, user)
    assert max(len(record.get("data", "")) for record in first) <= PART_BYTES * 4 // 3 + 4
    bucket = S3Storage(s3.endpoint, s3.access_key, s3.secret_key, bucket=f"moved-{schema.replace('_', '-')}")
    async with NeuroMemory(database_url, HashEmbedding(8), storage=bucket, schema=schema, background=POLICY) as mind:
        assert (await mind.import_user_data(user, first)).objects == 2
        second = await records_of(mind, user)
        for key in keys:
            assert await mind.files.download(user, key) == await here.files.download(user, key)
    await bucket.close()
    back = LocalStorage(tmp_path / "back")
    async with NeuroMemory(
        database_url, HashEmbedding(8), storage=back, schema=f"{schema}b", background=POLICY
    ) as mind:
        await mind.import_user_data(user, second)
        for key in keys:
            assert await mind.files.download(user, key) == await here.files.download(user, key)
        assert [hit.document.filename for hit in await mind.files.search(user, "tide", limit=1)] == ["0.md"]


# ---------------------------------------------------------------- without the bytes


@pytest.mark.parametrize("side", ["export", "import"])
async def test_bytes_that_were_left_out_are_missed_in_words_and_can_be_brought(
    here: NeuroMemory, there: NeuroMemory, user: str, stored: FolderStorage, side: str
) -> None:
    [key] = await with_files(here, user, "# One\n\nthe tide is low")
    data = await here.files.download(user, key)
    exported = await records_of(here, user, objects=side != "export")
    assert (exported[0]["objects"] is None) is (side == "export")
    done = await there.import_user_data(user, exported, objects=side != "import")
    assert done.objects == 0
    assert not stored.keys
    for read in (there.files.download, there.files.download_url):
        with pytest.raises(NotFoundError, match=r"left out .* upload the file again, or read its text"):
            await read(user, key)
    assert "tide" in await there.files.get_text(user, key)
    brought = await there.files.upload(user, "0.md", data)
    assert (brought.document_id, brought.stored_before) == (key, True)
    assert await there.files.download(user, key) == data
    assert (await there.files.upload(user, "0.md", data)).version == brought.version
    assert len(await there.files.history(user, key)) == 2


async def test_who_has_files_and_no_storage_is_told_before_anything_is_written(
    here: NeuroMemory, database_url: str, user: str, schema: str
) -> None:
    await with_files(here, user, "# One\n\nthe tide is low")
    exported = await records_of(here, user)
    async with NeuroMemory(database_url, HashEmbedding(8), schema="objects_from", background=False) as bare:
        records = bare.export_user_data(user)
        with pytest.raises(ConfigurationError, match=r"1 files .* objects=False"):
            await anext(records)
        assert len(await records_of(bare, user, objects=False)) == len(exported) - 1
    read = 0

    def sent() -> Iterator[dict[str, Any]]:
        nonlocal read
        for record in exported:
            read += 1
            yield record

    async with NeuroMemory(database_url, HashEmbedding(8), schema=schema, background=False) as bare:
        with pytest.raises(ConfigurationError, match=r"1 files .* objects=False"):
            await bare.import_user_data(user, sent())
        assert read == 1
        assert (await bare.import_user_data(user, sent(), objects=False)).objects == 0


async def test_a_file_that_is_gone_or_another_ends_the_export(here: NeuroMemory, folder: Path, user: str) -> None:
    await with_files(here, user, f"# One\n\nthe tide is low {user}")
    [key] = [record["key"] for record in await records_of(here, user) if record["record"] == "object"]
    path = folder / "here" / key
    kept = path.read_bytes()
    path.write_bytes(b"x")
    with pytest.raises(ProviderError, match=r"other bytes of '0.md'"):
        await records_of(here, user)
    path.unlink()
    with pytest.raises(NotFoundError, match=r"bytes of '0.md' are not in the storage.* objects=False"):
        await records_of(here, user)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(kept)


async def test_no_connection_is_kept_while_files_are_read(database_url: str, schema: str, tmp_path: Path) -> None:
    """With a pool of one, a storage that itself asks the database would wait for ever."""

    class Asking(FolderStorage):
        async def download(self, object_key: str) -> bytes:
            await mind.kv.get("notes", "anna", "a")
            return await super().download(object_key)

        async def upload(self, prefix: str, filename: str, data: bytes, content_type: str) -> str:
            await mind.kv.get("notes", "anna", "a")
            return await super().upload(prefix, filename, data, content_type)

    async with NeuroMemory(
        database_url, HashEmbedding(8), storage=Asking(tmp_path), schema=schema, pool_size=1, background=False
    ) as mind:
        await with_files(mind, "anna", "# One\n\nthe tide is low")
        exported = await records_of(mind, "anna")
        await mind.delete_user_data("anna")
        assert (await mind.import_user_data("anna", exported)).objects == 1


# ---------------------------------------------------------------- strangers

ONE, TWO = b"the tide is low", b"the boat is blue"
type Forge = Callable[[Exported], Any]


def changed(number: int, **values: Any) -> Forge:
    """Of header, two documents (k1, k2), an object of each, end."""

    def forge(records: Exported) -> Exported:
        (records[number].get("values", {}) if records[number]["record"] == "row" else records[number]).update(values)
        return sealed(records)

    return forge


FORGED: dict[str, tuple[Forge, str]] = {
    "a key no row names": (changed(3, key="k9"), r"record 4 .* key='k9' is named by no row"),
    "no key": (changed(3, key=["k1"]), r"record 4 .* key=\['k1'\]"),
    "no bytes of a row": (lambda r: sealed([*r[:4], r[5]]), r"record 5 .* bytes of 'k2' .* are missing"),
    "no bytes at all": (lambda r: sealed([{**r[0], "objects": 0}, *r[1:3]]), r"record 4 .* bytes of 'k1' .* missing"),
    "bytes twice": (lambda r: sealed([*r[:5], r[3], r[5]]), r"record 6 .* come once"),
    "other bytes": (changed(3, data="dGhlIHRpZGUgaXMgbG93LA=="), r"record 4 .* has 15 bytes as its document says"),
    "as many other bytes": (changed(3, data="dGhlIHRpZGUgaXMgbG9X"), r"record 4 .* are not those of its document"),
    "another hash": (changed(1, content_hash="0" * 64), r"record 4 .* are not those of its document"),
    "no hash": (changed(1, content_hash=None), r"record 2 .* content_hash"),
    "no size": (changed(1, file_size=None), r"record 2 .* file_size"),
    "too large": (changed(1, file_size=50_000_001), r"record 2 .* 50,000,001 bytes; at most 50,000,000"),
    "cut off": (changed(3, data="dGhlIHRp"), r"record 5 .* the parts of 'k1' come once, one after the other"),
    "nothing in it": (changed(3, data=""), r"record 4 .* has 15 bytes"),
    "no base64": (changed(3, data="?"), r"record 4 .* data='\?'"),
    "no text": (changed(3, data=5), r"record 4 .* data=5"),
    "much at once": (changed(3, data="A" * 1_500_000), r"record 4 .* at most 1,048,576 bytes"),
    "the wrong part": (changed(3, part=2), r"record 4 .* part=2 is not the next of 'k1': 1"),
    "no part": (changed(3, part=True), r"record 4 .* part=True"),
    "a row behind": (lambda r: sealed([*r[:4], r[2], r[4]]), r"record 5 .* rows come first"),
    "one key of two documents": (changed(2, object_key="k1"), r"record 3 .* is another document's"),
    "other counts": (changed(0, objects=3), r"the header speaks of 3 objects, but 2 came"),
    "no counts": (changed(0, objects="2"), r"record 1 .* objects='2'"),
    "objects that were left out": (changed(0, objects=None), r"record 4 .* objects were left out"),
    "another end": (lambda r: [*sealed(r)[:-1], {**sealed(r)[-1], "objects": 1}], r"end record speaks of 1 objects"),
    "a long key": (changed(1, object_key="k" * 501), r"record 2 .* object_key has 501"),
    "two current versions": (
        lambda r: sealed([*r[:3], document_of("anna", ONE, "k1", document_id=r[1]["values"]["document_id"]), *r[3:]]),
        r"twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
async def test_files_of_strangers_are_refused_and_nothing_is_kept(
    there: NeuroMemory, user: str, stored: FolderStorage, what: str
) -> None:
    forge, says = FORGED[what]
    with pytest.raises((InvalidInputError, ConflictError), match=says) as caught:
        await there.import_user_data(user, forge(copy.deepcopy(export_with_files("anna", ONE, TWO))))
    assert len(str(caught.value)) < 500
    assert await nothing_of(there, user, stored)


async def test_what_was_forged_would_otherwise_be_taken(there: NeuroMemory, user: str, stored: FolderStorage) -> None:
    done = await there.import_user_data(user, export_with_files("anna", ONE, TWO, b""))
    assert done.objects == len(stored.keys) == 3


async def test_a_larger_file_needs_larger_limits(database_url: str, schema: str, stored: FolderStorage) -> None:
    exported = export_with_files("anna", b"x" * 2_000_000)
    for most, taken in ((1_000_000, False), (3_000_000, True)):
        async with NeuroMemory(
            database_url, HashEmbedding(8), storage=stored, schema=schema, file_limits=FileLimits(bytes=most)
        ) as mind:
            if taken:
                assert (await mind.import_user_data("anna", exported)).objects == 1
            else:
                with pytest.raises(InvalidInputError, match="2,000,000 bytes; at most 1,000,000"):
                    await mind.import_user_data("anna", exported)


# ---------------------------------------------------------------- failing


async def test_a_storage_that_goes_away_leaves_neither_rows_nor_objects(
    there: NeuroMemory, user: str, stored: FolderStorage
) -> None:
    def progress(what: str, done: int, total: int | None) -> None:
        stored.away = stored.away or (what == "uploading" and done == 2)

    exported = export_with_files("anna", ONE, TWO, b"three", b"four")
    with pytest.raises(UnavailableError):
        await there.import_user_data(user, exported, progress=progress)
    assert len(stored.keys) >= 2
    stored.away = False
    assert await nothing_of(there, user, stored)
    assert (await there.import_user_data(user, exported)).objects == 4


async def test_an_import_that_fails_at_its_last_row_leaves_no_objects(
    there: NeuroMemory, user: str, stored: FolderStorage
) -> None:
    def progress(what: str, done: int, total: int | None) -> None:
        if what == "storing":
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await there.import_user_data(user, export_with_files("anna", ONE, TWO), progress=progress)
    assert await nothing_of(there, user, stored)


async def test_who_is_erased_meanwhile_is_not_imported(there: NeuroMemory, user: str, stored: FolderStorage) -> None:
    exported = export_with_files("anna", ONE, TWO)
    upload = stored.upload

    async def erasing(prefix: str, filename: str, data: bytes, content_type: str) -> str:
        await there.delete_user_data(user)
        return await upload(prefix, filename, data, content_type)

    stored.upload = erasing  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ConflictError, match="given up meanwhile"):
        await there.import_user_data(user, exported)
    assert await nothing_of(there, user, stored)


async def test_a_program_killed_while_it_imports(server: EmbeddedPostgres, tmp_path: Path) -> None:
    await server.ensure_database("moving_kills")
    url = server.url("moving_kills")
    file = tmp_path / "export.jsonl"
    contents = [f"file {n} ".encode() * 1_000 for n in range(12)]
    cut = 0
    for seed in range(6):
        place = Place(url, "killed_imports", str(tmp_path / "objects"), seed)
        exported = export_with_files(place.user, *contents)
        file.write_text("\n".join(map(json.dumps, exported)))
        await strike(place, file)
        async with place.mind() as mind:
            await mind.wait_idle(timeout=30)
            documents = len((await mind.files.list(place.user)).items)
            assert documents in (0, len(contents))
            assert place.storage.keys == await named(mind)
            cut += not documents
            if documents:
                await mind.delete_user_data(place.user)
                await mind.wait_idle(timeout=30)
            assert (await mind.import_user_data(place.user, exported)).objects == len(contents)
            await mind.delete_user_data(place.user)
            await mind.wait_idle(timeout=30)
            assert not place.storage.keys
    assert cut, "no kill fell before the end"


async def test_many_files_take_no_more_memory_than_few(there: NeuroMemory, user: str) -> None:
    peaks: list[int] = []
    for number, count in enumerate((2, 20)):
        who = f"{user}-{number}"
        tracemalloc.start()
        done = await there.import_user_data(who, large_export(who, count))
        assert done.objects == count
        size = 0
        async for record in there.export_user_data(who):
            size += len(record.get("data", ""))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert size > count * 2_000_000
        await there.delete_user_data(who)
    assert peaks[1] < peaks[0] + 2_000_000, peaks
    assert peaks[1] < 12_000_000, peaks


def large_export(user: str, count: int) -> Iterator[dict[str, Any]]:
    """An export of so many files of 2 MB, made while it is read."""
    checksum = Checksum()
    header = {**small_export(user)[0], "rows": {"documents": count}, "objects": count}

    def records() -> Iterator[dict[str, Any]]:
        yield header
        for number in range(count):
            yield document_of(user, content(number), f"k{number}")
        for number in range(count):
            yield from object_records(f"k{number}", content(number))

    for record in records():
        checksum.add(record)
        yield record
    yield {"record": "end", "rows": header["rows"], "objects": count, "sha256": str(checksum)}


def content(number: int) -> bytes:
    return f"{number:08}".encode() * 250_000
