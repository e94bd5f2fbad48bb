"""Everything a user has, as records."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from memground.embedding import EmbeddingProvider
from memground.errors import ConfigurationError, NotFoundError, ProviderError
from memground.postgres.prepared import Record
from memground.text import show
from neuromem import checks
from neuromem.db import Session
from neuromem.migrations import MIGRATIONS
from neuromem.providers.storage import ObjectStorage
from neuromem.queries import moving as queries
from neuromem.services.export_records import FORMAT, VERSION, Checksum, row_record
from neuromem.services.object_records import object_records


@dataclass(frozen=True)
class Along:
    """What goes along with the rows: their vectors, and the bytes of files."""

    vectors: bool = True
    objects: bool = True


class UserExport:
    """One export of one user. `read` opens a transaction that only reads."""

    def __init__(
        self,
        read: Callable[[], AbstractAsyncContextManager[Session]],
        embedding: EmbeddingProvider,
        storage: ObjectStorage | None,
        along: Along,
    ) -> None:
        self._read = read
        self._embedding = embedding
        self._storage = storage
        self._along = along
        self._counts: dict[str, int] = {}
        self._objects: list[Record] = []

    async def records(self, user_id: str) -> AsyncGenerator[dict[str, Any]]:
        """The header, every row of every table in one snapshot, the bytes of files once it is given back, the end.

        Raises ConfigurationError before the header, where there are files and no storage.
        """
        values = {"user_id": checks.name(user_id, "user_id")}
        checksum = Checksum()
        async with aclosing(self._body(values)) as body:
            async for record in body:
                checksum.add(record)
                yield record
        end = {"record": "end", "records": checksum.records + 1, "rows": self._counts, "objects": self._count}
        yield {**end, "sha256": str(checksum)}

    @property
    def _count(self) -> int | None:
        return len(self._objects) if self._along.objects else None

    async def _body(self, values: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        async with self._read() as session, aclosing(self._rows(session, values)) as rows:
            async for record in rows:
                yield record
        for named in self._objects:
            data = await self._bytes(named)
            for record in object_records(named["object_key"], data):
                yield record

    async def _rows(self, session: Session, values: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The header and the rows; notes which objects they name."""
        tables, vectors = session.tables, self._along.vectors
        counted = {row["name"]: row["rows"] for row in await session.fetch(queries.counts(tables), values)}
        moved = [part for part in queries.parts(tables) if vectors or part.name != "conversation_embeddings"]
        self._counts = {part.name: counted[part.name] for part in moved if counted[part.name]}
        if self._along.objects:
            self._objects = await session.fetch(queries.objects(tables), values)
            self._refuse_without_storage()
        yield {
            "record": "header",
            "format": FORMAT,
            "version": VERSION,
            "user_id": values["user_id"],
            "exported_at": session.clock.now().isoformat(),
            "model": self._embedding.model_id,
            "dims": self._embedding.dims,
            "revision": MIGRATIONS.head,
            "vectors": vectors,
            "rows": self._counts,
            "objects": self._count,
        }
        for part in moved:
            async for rows in session.portions(queries.rows(part, vectors=vectors), values):
                for row in rows:
                    yield row_record(part, row)

    def _refuse_without_storage(self) -> None:
        if self._objects and self._storage is None:
            raise ConfigurationError(
                f"the user has {len(self._objects):,} files and this mind was opened without a storage: pass the "
                "storage= they were stored with, or leave their bytes out with objects=False "
                "(--no-objects)"
            )

    async def _bytes(self, named: Record) -> bytes:
        """The bytes of a file, which are those its document speaks of."""
        key, filename = named["object_key"], show(named["filename"])
        assert self._storage is not None
        try:
            data = await self._storage.download(key)
        except NotFoundError as error:
            raise NotFoundError(
                f"the bytes of {filename} are not in the storage: {error}; was it erased meanwhile, or is it another "
                "storage? Export again, or leave the bytes of files out with objects=False"
            ) from error
        if await asyncio.to_thread(lambda: sha256(data).hexdigest()) != named["content_hash"]:
            raise ProviderError(
                f"the storage holds other bytes of {filename} than were uploaded (object_key={show(key)}); "
                "objects=False leaves the bytes of files out"
            )
        return data
