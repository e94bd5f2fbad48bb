"""Objects in storage are removed unless a committed transaction keeps them, whoever dies or dawdles."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from conftest import OpenMind
from memground.errors import ConflictError, UnavailableError
from memground.postgres.queue import JobPolicy
from neuromem import NeuroMemory
from neuromem.providers.storage import ObjectStorage
from neuromem.services.stored_objects import REMOVE_OBJECT, StoredObjects
from support.embeddings import HashEmbedding
from support.storages import FolderStorage

POLICY = JobPolicy(lease=1.2, poll=0.05, backoff=0.05, attempts=3)


@pytest.fixture
async def storage(tmp_path: Path) -> FolderStorage:
    storage = FolderStorage(tmp_path / "objects")
    await storage.init()
    return storage


@pytest.fixture
async def mind(open_mind: OpenMind, storage: FolderStorage) -> AsyncIterator[NeuroMemory]:
    yield await open_mind(embedding=HashEmbedding(), storage=storage, background=POLICY)
    storage.away = False


async def begin(mind: NeuroMemory, storage: ObjectStorage, prefix: str, user: str = "anna") -> str:
    async with mind._db.session() as session:
        await StoredObjects(session, POLICY).expect(user, prefix)
    return await storage.upload(prefix, "notes.txt", b"tea", "text/plain")


async def keep(mind: NeuroMemory, prefix: str, user: str = "anna") -> None:
    async with mind._db.session() as session:
        await StoredObjects(session, POLICY).keep(user, prefix)


async def test_what_is_kept_stays(mind: NeuroMemory, storage: FolderStorage) -> None:
    key = await begin(mind, storage, "a1")
    await keep(mind, "a1")
    await mind.wait_idle(timeout=10)
    assert storage.keys == {key}


async def test_what_nobody_keeps_goes(mind: NeuroMemory, storage: FolderStorage) -> None:
    kept, _ = await begin(mind, storage, "a1"), await begin(mind, storage, "a2")
    await keep(mind, "a1")
    await mind.wait_idle(timeout=10)
    assert storage.keys == {kept}


async def test_an_upload_that_renews_may_take_long(mind: NeuroMemory, storage: FolderStorage) -> None:
    key = await begin(mind, storage, "a1")
    for _ in range(5):
        await asyncio.sleep(0.4)
        async with mind._db.session() as session:
            assert await StoredObjects(session, POLICY).renew("anna", "a1")
    await keep(mind, "a1")
    await mind.wait_idle(timeout=10)
    assert storage.keys == {key}


async def test_who_comes_too_late_keeps_nothing(mind: NeuroMemory, storage: FolderStorage) -> None:
    await begin(mind, storage, "a1")
    await asyncio.sleep(1.4)
    with pytest.raises(ConflictError, match="given up meanwhile"):
        await keep(mind, "a1")
    async with mind._db.session() as session:
        assert not await StoredObjects(session, POLICY).renew("anna", "a1")
    await mind.wait_idle(timeout=10)
    assert storage.keys == set()


async def test_while_a_transaction_keeps_nobody_removes(mind: NeuroMemory, storage: FolderStorage) -> None:
    key = await begin(mind, storage, "a1")
    async with mind._db.session() as session:
        await StoredObjects(session, POLICY).keep("anna", "a1")
        await asyncio.sleep(1.6)
        assert storage.keys == {key}
    await mind.wait_idle(timeout=10)
    assert storage.keys == {key}


async def test_a_transaction_that_fails_keeps_nothing(mind: NeuroMemory, storage: FolderStorage) -> None:
    await begin(mind, storage, "a1")
    with contextlib.suppress(RuntimeError):
        async with mind._db.session() as session:
            await StoredObjects(session, POLICY).keep("anna", "a1")
            raise RuntimeError
    await mind.wait_idle(timeout=10)
    assert storage.keys == set()


async def test_giving_up_removes_at_once_and_once_more(open_mind: OpenMind, storage: FolderStorage) -> None:
    policy = JobPolicy(lease=1.5, poll=0.05)
    mind = await open_mind(embedding=HashEmbedding(), storage=storage, background=policy)
    async with mind._db.session() as session:
        await StoredObjects(session, policy).expect("anna", "a1")
    await storage.upload("a1", "notes.txt", b"tea", "text/plain")
    async with mind._db.session() as session:
        await StoredObjects(session).give_up("a1")
    await asyncio.sleep(0.5)
    assert storage.keys == set()
    await storage.upload("a1", "late.txt", b"tea", "text/plain")
    await mind.wait_idle(timeout=10)
    assert storage.keys == set()


async def test_uploads_can_be_withdrawn_and_name_nobody_then(mind: NeuroMemory, storage: FolderStorage) -> None:
    other = await begin(mind, storage, "a2", "ben")
    await begin(mind, storage, "a1")
    async with mind._db.session() as session:
        assert await StoredObjects(session).withdraw("anna") == 1
        jobs = session.tables.jobs
        owners = await session.execute(select(jobs.c.owner).where(jobs.c.kind == REMOVE_OBJECT).order_by(jobs.c.owner))
        assert owners.scalars().all() == ["", "ben"]
    with pytest.raises(ConflictError):
        await keep(mind, "a1")
    await keep(mind, "a2", "ben")
    await mind.wait_idle(timeout=10)
    assert storage.keys == {other}


async def test_another_user_s_upload_cannot_be_kept(mind: NeuroMemory, storage: FolderStorage) -> None:
    await begin(mind, storage, "a1")
    with pytest.raises(ConflictError):
        await keep(mind, "a1", "ben")


async def test_what_is_discarded_goes_once_the_transaction_commits(mind: NeuroMemory, storage: FolderStorage) -> None:
    keys = [await begin(mind, storage, prefix) for prefix in ("a1", "a2", "a3")]
    for prefix in ("a1", "a2", "a3"):
        await keep(mind, prefix)
    async with mind._db.session() as session:
        assert await StoredObjects(session).discard([keys[0], keys[1], keys[0]]) == 2
        await asyncio.sleep(0.2)
        assert storage.keys == set(keys)
    await mind.wait_idle(timeout=10)
    assert storage.keys == {keys[2]}


async def test_a_storage_that_is_away_is_waited_for(mind: NeuroMemory, storage: FolderStorage) -> None:
    key = await begin(mind, storage, "a1")
    await keep(mind, "a1")
    storage.away = True
    storage.calls.clear()
    async with mind._db.session() as session:
        await StoredObjects(session).discard([key])
    with pytest.raises(UnavailableError, match="1 background jobs are still waiting"):
        await mind.wait_idle(timeout=4)  # longer than three tries last
    assert len(storage.calls) > POLICY.attempts
    status = await mind.background_status()
    assert (status.waiting, status.failed) == (1, 0)
    storage.away = False
    await mind.wait_idle(timeout=10)
    assert storage.keys == set()


async def test_a_storage_without_removal_by_prefix_says_so(open_mind: OpenMind, storage: FolderStorage) -> None:
    poor = type("PoorStorage", (FolderStorage,), {"delete_prefix": ObjectStorage.delete_prefix})(storage.folder)
    mind = await open_mind(embedding=HashEmbedding(), storage=poor, background=POLICY)
    await begin(mind, poor, "a1")
    await mind.wait_idle(timeout=10)
    status = await mind.background_status()
    assert status.failed == 1
    assert "PoorStorage has no delete_prefix" in (status.last_error or "")
    assert "'a1'" in (status.last_error or "")


async def test_without_a_storage_removals_are_left_to_others(open_mind: OpenMind) -> None:
    mind = await open_mind(embedding=HashEmbedding(), background=POLICY)
    async with mind._db.session() as session:
        await StoredObjects(session).discard(["gone"])
    await mind.wait_idle(timeout=5)
    assert (await mind.background_status()).waiting == 1
