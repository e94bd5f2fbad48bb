"""Puts an exported user into another database.

First everything is read and checked, and kept in temporary files; then missing vectors are made, and the bytes of files
put into the storage, where they are doomed until, last, one transaction stores all rows. So nothing is written of an
export that is broken, and no transaction waits for whoever sends the records, for a model or for a storage.
"""

import asyncio
import pickle
import tempfile
from array import array
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast

from sqlalchemy.exc import IntegrityError

from memground.embedding import EmbeddingProvider, check_vectors
from memground.errors import ConflictError, InvalidInputError
from memground.text import show
from neuromem import checks
from neuromem.db import Session
from neuromem.models import Tables
from neuromem.queries import moving as queries
from neuromem.queries.moving import VECTOR, Part
from neuromem.services.export_records import Records, Values, numbers
from neuromem.services.extraction_jobs import ExtractionJobs
from neuromem.services.imported_objects import Destination, ObjectSpool, put_there
from neuromem.services.object_records import ObjectRecords, Piece
from neuromem.types import ImportedUser

type Given = AsyncIterable[Mapping[str, Any]] | Iterable[Mapping[str, Any]]
type ImportProgress = Callable[[str, int, int | None], None]
"""Told what is being done ("reading", "embedding", "uploading", "storing"), how much of it is done, and how much there
is (None: not known yet)."""

_BATCH_ROWS, _BATCH_BYTES = 256, 1_000_000
_REMEMBERED_BYTES = 32_000_000
_MEMORIES, _DOCUMENTS = "embeddings", "documents"


@dataclass
class _Batch:
    """Rows of one table, from records `first` to `last`."""

    table: str
    first: int
    last: int
    rows: list[Values]


class _Spool:
    """Batches in a temporary file that only this process sees."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="neuromem-import-")  # noqa: SIM115 - closed by `close`

    def append(self, batch: _Batch) -> None:
        pickle.dump((batch.table, batch.first, batch.last, batch.rows), self._file, pickle.HIGHEST_PROTOCOL)

    def __iter__(self) -> Iterator[_Batch]:
        self._file.seek(0)
        while True:
            try:
                yield _Batch(*pickle.load(self._file))  # what this process wrote
            except EOFError:
                return

    def close(self) -> None:
        self._file.close()


class UserImport:
    """One import of one user. `session` opens a transaction; files go to `destination` (None: they are left out)."""

    def __init__(
        self,
        session: Callable[[], AbstractAsyncContextManager[Session]],
        embedding: EmbeddingProvider,
        user_id: str,
        progress: ImportProgress | None = None,
        destination: Destination | None = None,
    ) -> None:
        self._session = session
        self._embedding = embedding
        self._user = checks.name(user_id, "user_id")
        checks.function(progress, "progress")
        self._progress = progress or _silent
        self._vectors = _Remembered(_REMEMBERED_BYTES // (4 * embedding.dims))
        self._embedded = 0
        self._destination = destination
        self._objects = ObjectRecords(None if destination is None else destination.limits)

    async def run(self, records: Given) -> ImportedUser:
        """Restores the user, all or nothing.

        Raises InvalidInputError (a record is wrong, or some are missing), ConflictError (the user has something
        already, or the ids are another's), ConfigurationError (there are
        files, and no storage), ProviderError.
        """
        given = _steadily(records)
        async with self._session() as session:
            await self._refuse_if_there(session)
            tables, now = session.tables, session.clock.now()
        model = (self._embedding.model_id, self._embedding.dims)
        reader = Records(tables, self._user, model, now, self._objects)
        with closing(_Spool()) as read, closing(_Spool()) as ready, closing(ObjectSpool()) as files:
            await self._read(given, reader, read, files)
            missing = await self._embed(read, ready, tables, reader.counts[_MEMORIES])
            return await self._store(ready if missing else read, files, reader)

    async def _refuse_if_there(self, session: Session) -> None:
        found = await session.fetch(queries.any_row(session.tables), {"user_id": self._user})
        if found[0]["found"]:
            raise ConflictError(
                f"user {self._user!r} has memories here already, and an import restores a whole user; "
                "import as another user, or delete this one first"
            )

    async def _read(self, given: AsyncIterator[Any], reader: Records, spool: _Spool, files: ObjectSpool) -> None:
        """Checks every record and keeps the rows and the bytes."""
        batch, size = _Batch("", 0, 0, []), 0
        async for record in given:
            found = reader.read(record)
            if self._destination is not None and reader.number == 1:
                self._destination.refuse_without_storage(reader.header.objects)
            if isinstance(found, Piece):
                if self._destination is not None:
                    await asyncio.to_thread(files.append, found)
            elif found is not None:
                part, row = found
                full = len(batch.rows) >= _BATCH_ROWS or size >= _BATCH_BYTES
                if batch.table != part.name or full:
                    self._keep(batch, reader, spool)
                    batch, size = _Batch(part.name, reader.number, reader.number, []), 0
                    await asyncio.sleep(0)
                batch.rows.append(row)
                batch.last = reader.number
                size += reader.size
        reader.finish()
        self._keep(batch, reader, spool)

    def _keep(self, batch: _Batch, reader: Records, spool: _Spool) -> None:
        if batch.rows:
            spool.append(batch)
            self._progress("reading", reader.counts.total(), sum(reader.header.rows.values()))

    async def _embed(self, read: _Spool, ready: _Spool, tables: Tables, memories: int) -> bool:
        """Copies all batches, the memories' missing vectors made; whether any was missing (else nothing is copied)."""
        vector = tables.vector_column
        lacking = any(row[vector] is None for batch in read if batch.table == _MEMORIES for row in batch.rows)
        if not lacking:
            return False
        seen = 0
        for batch in read:
            if batch.table == _MEMORIES:
                lack = [row for row in batch.rows if row[vector] is None]
                for row, made in zip(lack, await self._made([row["content"] for row in lack]), strict=True):
                    row[vector] = made
                seen += len(batch.rows)
                self._progress("embedding", seen, memories)
            ready.append(batch)
        return True

    async def _made(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts; equal ones, as those of a memory's versions often are, are embedded once."""
        digests = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self._vectors}
        fresh: dict[bytes, list[float]] = {}
        if missing:
            provider = self._embedding
            answer = await provider.embed_batch(list(missing.values()))
            made = check_vectors(answer, count=len(missing), dims=provider.dims, model_id=provider.model_id)
            fresh = dict(zip(missing, made, strict=True))
            self._embedded += len(missing)
        found = [fresh[digest] if digest in fresh else self._vectors.get(digest) for digest in digests]
        self._vectors.add(fresh)
        return found

    async def _store(self, spool: _Spool, files: ObjectSpool, reader: Records) -> ImportedUser:
        async with self._session() as session:  # which has no connection before its first statement
            named, tell = self._objects.named, self._progress
            async with put_there(session, self._destination, self._user, files, named=named, progress=tell) as (
                uploads,
                keys,
            ):
                await session.hold(self._user, alone=True)
                await self._refuse_if_there(session)
                if uploads is not None:
                    await uploads.keep(session)
                await self._store_rows(session, spool, keys, reader.counts.total())
                await self._check(session)
                return await self._finished(session, reader, len(keys))

    async def _store_rows(self, session: Session, spool: _Spool, keys: Mapping[str, str], total: int) -> None:
        stored = 0
        by_name = {part.name: part for part in queries.parts(session.tables)}
        for batch in spool:
            if batch.table == _DOCUMENTS:
                for row in batch.rows:
                    row["object_key"] = keys.get(row["object_key"])
            await self._store_batch(session, by_name[batch.table], batch)
            stored += len(batch.rows)
            self._progress("storing", stored, total)

    async def _store_batch(self, session: Session, part: Part, batch: _Batch) -> None:
        vector = part.columns[VECTOR].name if part.vectors else ""
        for row in batch.rows:
            if isinstance(sent := row.get(vector), bytes):
                row[vector] = numbers(sent)
        statement = queries.store(part, tuple(batch.rows[0]))
        try:
            await session.execute(statement, [queries.bound(row) for row in batch.rows])
        except IntegrityError as error:
            raise ConflictError(
                f"records {batch.first} to {batch.last} of the export name something in {part.name} that is there "
                "already: the user is in this database under another name, or the export holds it twice"
            ) from error

    async def _check(self, session: Session) -> None:
        """What no single record shows. Nothing of it is committed yet."""
        tables, values = session.tables, {"user_id": self._user}
        for part in queries.parts(tables):
            statement = queries.two_states(part)
            if statement is not None and (found := await session.fetch(statement, values)):
                raise InvalidInputError(
                    f"the export is not sound: versions of {found[0]['key']} in {part.name} overlap"
                )
        if found := await session.fetch(queries.beyond_their_session(tables), values):
            raise InvalidInputError(
                f"the export is not sound: session {show(found[0]['session_id'])} has more messages than it counts"
            )
        if found := await session.fetch(queries.strange_vectors(tables), values):
            raise InvalidInputError(
                f"the export is not sound: a vector belongs to message {found[0]['message_id']}, which it does not hold"
            )

    async def _finished(self, session: Session, reader: Records, objects: int) -> ImportedUser:
        """Has done in the background what is left to do."""
        header = reader.header
        waiting = await session.execute(queries.embed_the_rest(session.tables), {"user_id": self._user})
        return ImportedUser(
            user_id=self._user,
            exported_from=header.user_id,
            exported_at=header.exported_at,
            rows=dict(reader.counts),
            objects=objects,
            embedded=self._embedded,
            waiting=cast(Any, waiting).rowcount,
            unextracted=await ExtractionJobs(session).unextracted(self._user),
        )


class _Remembered:
    """The vectors of the last texts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._vectors: OrderedDict[bytes, array[float]] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._vectors

    def get(self, digest: bytes) -> list[float]:
        return self._vectors[digest].tolist()

    def add(self, vectors: Mapping[bytes, list[float]]) -> None:
        for digest, vector in vectors.items():
            self._vectors[digest] = array("f", vector)
        while len(self._vectors) > self._most:
            self._vectors.popitem(last=False)


async def _each(records: Iterable[Any]) -> AsyncIterator[Any]:
    for record in records:
        yield record


def _steadily(records: Any) -> AsyncIterator[Any]:
    """The records as something to be waited for, whichever way they are given."""
    if isinstance(records, AsyncIterable):
        return aiter(cast(AsyncIterable[Any], records))
    if isinstance(records, Iterable) and not isinstance(records, str | bytes | Mapping):
        return _each(cast(Iterable[Any], records))
    raise InvalidInputError(
        "records must be what export_user_data gives, or a list of it, "
        f"got {type(cast(object, records)).__name__} {show(cast(object, records))}"
    )


def _silent(what: str, done: int, total: int | None) -> None:
    """Tells nobody."""
