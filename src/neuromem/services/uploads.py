"""Bytes on their way into storage: they stay if a transaction says so, whatever else happens.

::

    async with Uploads(session, storage, policy, user_id) as uploads:     # the session lends its database, nothing else
        key = await uploads.put("text", data)
        await session.hold(user_id)
        await uploads.keep(session)
        …                                                                 # the row that names the key
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping
from typing import Self

from memground.errors import UnavailableError
from memground.postgres.queue import JobPolicy
from neuromem.db import Session
from neuromem.documents.text import MIME_TYPES
from neuromem.providers.storage import ObjectStorage
from neuromem.services.stored_objects import StoredObjects

_SUFFIXES: Mapping[str | None, str] = {
    "text": ".txt",
    "markdown": ".md",
    "html": ".html",
    "pdf": ".pdf",
    "docx": ".docx",
}
_KINDS: Mapping[str | None, str] = {**MIME_TYPES}

_log = logging.getLogger("neuromem.files")


class Uploads:
    """Objects stored under one prefix; all of them are removed unless they are kept."""

    def __init__(self, session: Session, storage: ObjectStorage, policy: JobPolicy, user_id: str) -> None:
        self._session = session
        self._storage = storage
        self._policy = policy
        self._user = user_id
        # Keys tell nothing of the user or of what a file is called: they stand in logs that no erasing reaches.
        self._prefix = f"documents/{uuid.uuid4().hex}"
        self._begun = 0
        self._keys: list[str] = []
        self._renewing: asyncio.Task[None] | None = None

    async def put(self, file_type: str | None, data: bytes) -> str:
        """Stores one more, a file of this type; returns its key."""
        self._begun += 1
        prefix, name = f"{self._prefix}/{self._begun}", f"file{_SUFFIXES.get(file_type, '')}"
        kind = _KINDS.get(file_type, "application/octet-stream")
        self._keys.append(await _to_the_end(self._storage.upload(prefix, name, data, kind)))
        return self._keys[-1]

    async def keep(self, session: Session) -> None:
        """They stay if the session's transaction commits; see `StoredObjects.keep`."""
        await self._rest()
        await StoredObjects(session).keep(self._user, self._prefix)

    async def discard(self, session: Session) -> None:
        """Objects that were kept are not needed: they go if the session's transaction commits."""
        await StoredObjects(session).discard(self._keys)

    async def __aenter__(self) -> Self:
        async with self._session.apart() as apart:
            await StoredObjects(apart, self._policy).expect(self._user, self._prefix)
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is not None:
                await self._give_up()
        finally:
            await self._rest()

    async def _renew(self) -> None:
        alive = True
        while alive:
            await asyncio.sleep(self._policy.lease / 3)
            with contextlib.suppress(UnavailableError):
                async with self._session.apart() as apart:
                    alive = await StoredObjects(apart, self._policy).renew(self._user, self._prefix)

    async def _rest(self) -> None:
        """Renews no more."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    async def _give_up(self) -> None:
        """Has what was stored removed at once; beyond that the guard comes due in its time."""
        try:
            async with self._session.apart() as apart:
                stored = StoredObjects(apart)
                await stored.discard(self._keys)
                if len(self._keys) < self._begun:  # what the last one left has no key that we know
                    await stored.give_up(self._prefix)
        except Exception as error:  # noqa: BLE001 - what failed before is the error to be told; the guard still comes due
            _log.warning("what an upload left is removed later: %s: %s", type(error).__name__, error)


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
