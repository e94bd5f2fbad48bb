"""Bytes on their way into storage: they stay if a transaction says so, whatever else happens."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from memground.errors import UnavailableError
from memground.postgres.queue import JobPolicy
from neuromem.db import Session
from neuromem.providers.storage import ObjectStorage
from neuromem.services.stored_objects import StoredObjects

_log = logging.getLogger("neuromem.files")


@dataclass
class Upload:
    """An object that is stored, and removed unless it is kept."""

    key: str
    user_id: str
    prefix: str
    kept: bool = False

    async def keep(self, session: Session) -> None:
        """The object stays if the session's transaction commits; see `StoredObjects.keep`."""
        await StoredObjects(session).keep(self.user_id, self.prefix)
        self.kept = True

    async def discard(self, session: Session) -> None:
        """An object that was kept is not needed: it goes if the session's transaction commits."""
        await StoredObjects(session).discard([self.key])


@asynccontextmanager
async def uploading(
    session: Session, storage: ObjectStorage, policy: JobPolicy, *, user_id: str, name: str, data: bytes, mime_type: str
) -> AsyncGenerator[Upload]:
    """Stores bytes under a prefix of their own, for the block to keep. `session` lends its database, nothing else.

    Keys tell nothing of the user or of what the file is called: they stand in logs that no erasing reaches.
    """
    prefix = f"documents/{uuid.uuid4().hex}"
    async with session.apart() as apart:
        await StoredObjects(apart, policy).expect(user_id, prefix)
    renewing = asyncio.create_task(_renew(session, user_id, prefix, policy))
    upload: Upload | None = None
    try:
        upload = Upload(await _to_the_end(storage.upload(prefix, name, data, mime_type)), user_id, prefix)
        yield upload
    except BaseException:
        await _give_up(session, prefix, upload)
        raise
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _to_the_end(call: "asyncio._CoroutineLike[str]") -> str:  # pyright: ignore[reportPrivateUsage]
    """Awaits a call that nobody should leave half-way: cancelled, it is waited for all the same.

    A thread that sends bytes cannot be stopped, and would put them there after they were removed.
    """
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


async def _renew(session: Session, user_id: str, prefix: str, policy: JobPolicy) -> None:
    alive = True
    while alive:
        await asyncio.sleep(policy.lease / 3)
        with contextlib.suppress(UnavailableError):
            async with session.apart() as apart:
                alive = await StoredObjects(apart, policy).renew(user_id, prefix)


async def _give_up(session: Session, prefix: str, upload: Upload | None) -> None:
    """Has what was stored removed at once; beyond that the guard comes due in its time."""
    try:
        async with session.apart() as apart:
            if upload is None:
                await StoredObjects(apart).give_up(prefix)
            else:
                await StoredObjects(apart).discard([upload.key])
    except Exception as error:  # noqa: BLE001 - what failed before is the error to be told; the guard still comes due
        _log.warning("what an upload left is removed later: %s: %s", type(error).__name__, error)
