"""Files: their bytes in storage, their text in memories, and one row that names both."""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from memground.clock import Stamp
from memground.embedding import EmbeddingProvider
from memground.errors import ConfigurationError, InvalidInputError, NotFoundError
from memground.postgres import versioned
from memground.postgres.engine import Row
from memground.postgres.queue import JobPolicy
from memground.text import check_text, show
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.documents import DocumentChunk, DocumentPage, DocumentText, chunks
from neuromem.documents.plain import clean
from neuromem.documents.text import MIME_TYPES
from neuromem.providers.storage import ObjectStorage
from neuromem.queries import documents as queries
from neuromem.queries.documents import PAGE_BREAK
from neuromem.queries.scope import Scope
from neuromem.ranking import RankingProfile
from neuromem.services import rows
from neuromem.services.file_processor import MAX_FILENAME, FileProcessor
from neuromem.services.memories import cursor_of, position
from neuromem.services.search import UNCHANGED, SearchService, external_key, memory_row
from neuromem.services.uploads import Uploads
from neuromem.types import (
    Document,
    FileHit,
    FileProgress,
    MemoryRef,
    MemoryType,
    Metadata,
    NewMemory,
    Page,
    Source,
)

type Progress = Callable[[FileProgress], None]
type Versions = list[Document]

MAX_CATEGORY, MAX_TAG, MAX_TAGS = 100, 100, 100
MAX_SECONDS = 7 * 24 * 3600
"""How long a presigned address can be made to work: S3 refuses more than seven days."""


@dataclass(frozen=True)
class NewFile:
    """What is said of a file that is stored; checked by `checked`."""

    filename: str
    category: str = "general"
    tags: Sequence[str] = ()
    metadata: Metadata | None = None
    known_at: datetime | None = None

    def checked(self, stamp: Stamp) -> "NewFile":
        check_text(self.filename, "filename", limit=MAX_FILENAME)
        versioned.check_known(self.known_at, stamp)
        return replace(
            self, category=_category(self.category), tags=_tags(self.tags), metadata=checks.metadata(self.metadata)
        )


@dataclass(frozen=True)
class _Read:
    """A file that was read and embedded, ready to be stored."""

    about: NewFile
    source_type: str
    size: int
    hash: str
    text: DocumentText
    pieces: Sequence[DocumentChunk] = ()
    vectors: Sequence[Sequence[float]] = field(default=())


@dataclass(frozen=True)
class StoredFile:
    """Where a document's bytes are: in the storage under a key, or, of one made from text, here."""

    filename: str
    key: str | None
    text: bytes


class FileService:
    """Files in, out and through their history."""

    def __init__(
        self,
        session: Session,
        embedding: EmbeddingProvider,
        storage: ObjectStorage | None = None,
        *,
        processor: FileProcessor | None = None,
        policy: JobPolicy | None = None,
        ranking: RankingProfile | None = None,
    ) -> None:
        self._session = session
        self._tables = session.tables
        self._embedding = embedding
        self._storage = storage
        self._processor = processor or FileProcessor()
        self._policy = policy or JobPolicy()
        self._ranking = ranking

    # ------------------------------------------------------------ in

    async def upload(
        self, user_id: str, data: bytes | Path, about: NewFile, *, origin: str, progress: Progress | None = None
    ) -> Document:
        """Reads, embeds and stores a file: its bytes, its row and its passages, or nothing of it.

        No statement of the session's own runs before the bytes are stored. Raises InvalidInputError, ConfigurationError
        (no storage), ConflictError (given up meanwhile) and what providers raise.
        """
        checks.name(user_id, "user_id")
        checks.function(progress, "progress")
        about = about.checked(self._session.stamp(origin))
        if self._storage is None:
            raise ConfigurationError(
                "there is nowhere to keep files: pass storage=LocalStorage('/a/folder') or storage=S3Storage(…) to "
                "NeuroMemory; the embedded PostgreSQL brings a folder of its own, and create_from_text needs none"
            )
        content = await self._content(about.filename, data)
        hash = await asyncio.to_thread(lambda: sha256(content).hexdigest())
        if known := await self._stored_before(user_id, about.filename, hash):
            return await self._bring(user_id, known, content, self._storage, origin) if _lacks_bytes(known) else known
        text = await self._processor.process(about.filename, content, progress=_reading(progress))
        read = await self._embedded(_Read(about, "upload", len(content), hash, text), progress)
        _tell(progress, "storing", 0, 1)
        async with Uploads(self._session, self._storage, self._policy, user_id) as uploads:
            key = await uploads.put(text.file_type, content)
            document = await self._store(user_id, read, origin, uploads, key)
        _tell(progress, "storing", 1, 1)
        return document

    async def create_from_text(
        self, user_id: str, text: str, about: NewFile, *, origin: str, progress: Progress | None = None
    ) -> Document:
        """Stores a text as a document; it needs no storage."""
        checks.name(user_id, "user_id")
        checks.function(progress, "progress")
        check_text(about.filename, "title", limit=MAX_FILENAME)
        about = about.checked(self._session.stamp(origin))
        check_text(text, "text", limit=self._processor.limits.characters)
        encoded = text.encode()
        hash = sha256(encoded).hexdigest()
        if known := await self._stored_before(user_id, about.filename, hash):
            return known
        page = DocumentPage(1, clean(text))
        document = DocumentText("text", MIME_TYPES["text"], about.filename, (page,))
        read = await self._embedded(_Read(about, "text", len(encoded), hash, document), progress)
        return await self._store(user_id, read, origin)

    async def _content(self, filename: str, data: bytes | Path) -> bytes:
        if isinstance(data, bytes):
            return data
        if not isinstance(data, Path):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"data must be bytes or a Path, got {type(data).__name__} {show(data)}")
        limits = self._processor.limits

        def read() -> bytes:
            if not data.is_file():
                raise InvalidInputError(f"data={str(data)!r} is no file; pass the bytes, or the Path of a file")
            limits.check("bytes", data.stat().st_size, f"{filename} has")
            with data.open("rb") as file:
                return file.read(limits.bytes + 1)

        try:
            return await asyncio.to_thread(read)
        except OSError as error:
            raise InvalidInputError(f"data={str(data)!r} cannot be read: {error}") from error

    async def _stored_before(self, user_id: str, filename: str, hash: str) -> Document | None:
        statement = queries.one(self._tables, user_id, _document_id(user_id, filename, hash), self._present())
        async with AsyncExitStack() as stack:
            # A session that has not begun would hold its connection while the file is read, embedded and stored.
            begun = self._session.begun
            session = self._session if begun else await stack.enter_async_context(self._session.apart())
            row = (await session.execute(statement)).mappings().first()
        return None if row is None else replace(rows.document(row, self._present()), stored_before=True)

    async def _embedded(self, read: _Read, progress: Progress | None) -> _Read:
        """Cuts the text and embeds the pieces, one call for as many as the model takes at once."""
        pieces = await asyncio.to_thread(chunks, read.text)
        search = SearchService(self._session, self._embedding)
        vectors: list[list[float]] = []
        _tell(progress, "embedding", 0, len(pieces))
        for batch in self._embedding.batches([piece.text for piece in pieces]):
            vectors += await search.embed(batch)
            _tell(progress, "embedding", len(vectors), len(pieces))
        if len(vectors) != len(pieces):
            model = self._embedding.model_id
            raise InvalidInputError(f"{model}.batches gave {len(vectors)} of {len(pieces)} texts; it must give all")
        return replace(read, pieces=pieces, vectors=vectors)

    async def _bring(
        self, user_id: str, known: Document, content: bytes, storage: ObjectStorage, origin: str
    ) -> Document:
        """Stores the bytes of a document that was imported without them; nothing else of it changes."""
        async with Uploads(self._session, storage, self._policy, user_id) as uploads:
            values = {"object_key": await uploads.put(known.file_type, content)}
            row = await self._locked(user_id, known.document_id)
            await uploads.keep(self._session)
            if row["object_key"] is not None:  # another was quicker
                await uploads.discard(self._session)
                values = {}
            stamp, mine = self._session.stamp(origin), queries.owned(self._tables, user_id, row["document_id"])
            now = await versioned.append(self._session, self._tables.documents, row, values, stamp, where=mine)
        return replace(rows.document(now, View(now=stamp.at)), stored_before=True)

    async def _store(
        self, user_id: str, read: _Read, origin: str, uploads: Uploads | None = None, key: str | None = None
    ) -> Document:
        """The row, its passages and the object in one transaction; the stored document where another was quicker."""
        vt, stamp = self._tables.documents, self._session.stamp(origin)
        document_id = _document_id(user_id, read.about.filename, read.hash)
        mine = queries.owned(self._tables, user_id, document_id)
        start, version = versioned.check_known(read.about.known_at, stamp), stamp.version
        passages, links = self._passages(user_id, document_id, read, stamp)
        await self._session.hold(user_id)
        if uploads is not None:
            await uploads.keep(self._session)  # before what may take long: from here on it need not be renewed
        await versioned.lock_name(self._session, f"{vt.table.fullname}/{document_id}")
        view = View(now=stamp.at)
        statement = queries.one(self._tables, user_id, document_id, view)
        if found := (await self._session.execute(statement)).mappings().first():
            if uploads is not None:
                await uploads.discard(self._session)
            return replace(rows.document(found, view), stored_before=True)
        ended = (await self._session.execute(versioned.ends(vt, mine, [document_id]))).first()
        if ended is not None:  # it was deleted once
            start, version = max(start, ended.ended), max(version, ended.newest + 1)
        values = _values(user_id, document_id, read, key)
        row = versioned.new_row(stamp, values, known_from=start, version=version)
        await self._session.execute(insert(vt.table).values(row))
        for passage in passages:
            passage |= {"known_from": start, "event_at": start}
        search = SearchService(self._session, self._embedding)
        await search.store(user_id, passages, links, list(links), stamp, held=True)
        return rows.document(row, view)

    def _passages(
        self, user_id: str, document_id: uuid.UUID, read: _Read, stamp: Stamp
    ) -> tuple[list[dict[str, Any]], dict[uuid.UUID, Sequence[Source]]]:
        """The memories that hold the text, as rows, and where each is from."""
        new: list[dict[str, Any]] = []
        links: dict[uuid.UUID, Sequence[Source]] = {}
        about = {"document_id": str(document_id), "filename": read.about.filename}
        for number, (piece, vector) in enumerate(zip(read.pieces, read.vectors, strict=True), 1):
            metadata = {**about, "page": piece.page, "chunk": number}
            name = _passage_name(document_id, number)
            memory = NewMemory(piece.text, MemoryType.DOCUMENT, metadata, external_id=name)
            row = memory_row(user_id, memory, stamp)
            row[self._tables.vector_column] = vector
            new.append(row)
            span = {"page": piece.page, "start": piece.start, "end": piece.end}
            links[row["memory_id"]] = [Source("document", str(document_id), span)]
        return new, links

    # ------------------------------------------------------------ changes

    async def update(
        self, user_id: str, document_id: MemoryRef, changes: Mapping[str, Any], *, origin: str
    ) -> Document:
        """Appends a version with what is said of the file changed; its passages stay. Raises NotFoundError."""
        values = _changes(changes)
        row = await self._locked(user_id, document_id)
        stamp = self._session.stamp(origin)
        mine = queries.owned(self._tables, user_id, row["document_id"])
        now = await versioned.append(self._session, self._tables.documents, row, values, stamp, where=mine)
        return rows.document(now, View(now=stamp.at))

    async def delete(self, user_id: str, document_id: MemoryRef, *, origin: str) -> None:
        """Ends a document and its passages; earlier moments still see them, and the object stays for those.

        Raises NotFoundError.
        """
        row = await self._locked(user_id, document_id)
        stamp = self._session.stamp(origin)
        memories, links = queries.passages(self._tables, user_id, row["document_id"])
        mine = queries.owned(self._tables, user_id, row["document_id"])
        for vt, where in (
            (self._tables.documents, mine),
            (self._tables.embeddings, memories),
            (self._tables.memory_sources, links),
        ):
            current = await versioned.lock_current(self._session, vt, where)
            await versioned.close_rows(self._session, vt, [found["id"] for found in current], stamp, where=where)

    async def _locked(self, user_id: str, document_id: MemoryRef) -> Row:
        key = checks.identifier(document_id, "document_id")
        mine = queries.owned(self._tables, checks.name(user_id, "user_id"), key)
        await self._session.hold(user_id)
        if found := await versioned.lock_current(self._session, self._tables.documents, mine):
            return found[0]
        raise _unknown(user_id, document_id)

    # ------------------------------------------------------------ out

    async def get(self, user_id: str, document_id: MemoryRef, view: View) -> Document | None:
        """The document as the view knows it, None when it knows none of that id."""
        row = (await self._session.execute(self._one(user_id, document_id, view))).mappings().first()
        return None if row is None else rows.document(row, view)

    async def list(self, scope: Scope, *, cursor: str | None, limit: int) -> Page[Document]:
        """A page of documents, the last written first."""
        checks.name(scope.user_id, "user_id")
        checks.limit(limit)
        version, last = (None, None) if cursor is None else position(cursor)
        statement = queries.page(self._tables, scope.shape, after=cursor is not None)
        values = scope.values(version=version, id=last, limit=limit + 1)
        found = (await self._session.execute(statement, values)).mappings().all()
        shown = found[:limit]
        items = tuple(rows.document(row, scope.view) for row in shown)
        return Page(items, cursor_of(shown[-1]) if len(found) > limit else None)

    async def search(
        self,
        scope: Scope,
        query: str,
        *,
        limit: int,
        query_embedding: Sequence[float] | None,
        explain: bool,
        timezone: tzinfo,
    ) -> "list[FileHit]":
        """The passages of files that fit a query best."""
        search = SearchService(self._session, self._embedding, self._ranking)
        hits = await search.search(
            scope, query, limit=limit, query_embedding=query_embedding, explain=explain, timezone=timezone
        )
        came_from = [next(source for source in hit.memory.sources if source.kind == "document") for hit in hits]
        ids = sorted({uuid.UUID(source.id) for source in came_from})
        statement = queries.several(self._tables, scope.user_id, ids, scope.view)
        found = (await self._session.execute(statement)).mappings() if ids else ()
        documents = {str(row["document_id"]): rows.document(row, scope.view) for row in found}
        return [
            FileHit(
                document=documents[source.id],
                memory=hit.memory,
                score=hit.score,
                explanation=hit.explanation,
                **{name: (source.span or {}).get(name) for name in ("page", "start", "end")},
            )
            for hit, source in zip(hits, came_from, strict=True)
        ]

    async def text(self, user_id: str, document_id: MemoryRef, view: View, *, page: int | None = None) -> str:
        """What was read from a document, or from one of its pages; raises NotFoundError."""
        key = checks.identifier(document_id, "document_id")
        if page is not None:
            checks.whole(page, "page", 1, checks.MAX_PLACE)
        statement = queries.text_of(self._tables, checks.name(user_id, "user_id"), key, view)
        row = (await self._session.execute(statement)).first()
        if row is None:
            raise _unknown(user_id, document_id)
        pages = (row.extracted_text or "").split(PAGE_BREAK)
        if page is None:
            return "\n\n".join(filter(None, pages))
        if page > len(pages):
            raise NotFoundError(f"document {document_id} has no page {page}; it has {len(pages)}")
        return pages[page - 1]

    async def stored(self, user_id: str, document_id: MemoryRef, view: View) -> StoredFile:
        """Where the bytes of a document are; raises NotFoundError, also where they were left out of an import."""
        document = await self.get(user_id, document_id, view)
        if document is None:
            raise _unknown(user_id, document_id)
        if _lacks_bytes(document):
            raise NotFoundError(
                f"the bytes of {show(document.filename)} (document {document_id}) are not here: they were left out "
                "when the user was exported or imported; upload the file again, or read its text with get_text()"
            )
        if document.object_key is not None:
            return StoredFile(document.filename, document.object_key, b"")
        if document.source_type == "upload":
            raise NotFoundError(
                f"the bytes of document {document_id} were left behind when the user was moved here; "
                "get_text has what was read from them"
            )
        return StoredFile(document.filename, None, (await self.text(user_id, document_id, view)).encode())

    async def history(self, user_id: str, document_id: MemoryRef, view: View) -> Versions:
        """All versions the view knows of, newest first; raises NotFoundError when there is none."""
        key = checks.identifier(document_id, "document_id")
        mine = queries.owned(self._tables, checks.name(user_id, "user_id"), key)
        result = await self._session.execute(versioned.history(self._tables.documents, mine, view))
        versions = [rows.document(row, view) for row in result.mappings()]
        if not versions:
            raise _unknown(user_id, document_id)
        return versions

    def _one(self, user_id: str, document_id: MemoryRef, view: View) -> Any:
        key = checks.identifier(document_id, "document_id")
        return queries.one(self._tables, checks.name(user_id, "user_id"), key, view)

    def _present(self) -> View:
        return View(now=self._session.clock.now())


def _lacks_bytes(document: Document) -> bool:
    """Whether it was imported without them; one made from text has none to lack."""
    return document.object_key is None and document.source_type == "upload"


def _document_id(user_id: str, filename: str, hash: str) -> uuid.UUID:
    """The same for the same bytes under the same name: a file that is deleted and uploaded again is one document."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"document/{len(user_id)}/{len(filename)}/{user_id}{filename}{hash}")


def _passage_name(document_id: uuid.UUID, number: int) -> str:
    """The external id of a document's passage, numbered from 1 on."""
    return f"{document_id}/{number}"


def _values(user_id: str, document_id: uuid.UUID, read: _Read, key: str | None) -> dict[str, Any]:
    about, text = read.about, read.text
    first = external_key(user_id, _passage_name(document_id, 1)) if read.pieces else None
    return {
        "document_id": document_id,
        "user_id": user_id,
        "filename": about.filename,
        "title": None if text.title is None else text.title[:500],
        "file_type": text.file_type,
        "mime_type": text.mime_type,
        "file_size": read.size,
        "object_key": key,
        "extracted_text": PAGE_BREAK.join(page.text for page in text.pages),
        "embedding_id": first,
        "category": about.category,
        "tags": list(about.tags),
        "metadata_": about.metadata,
        "source_type": read.source_type,
        "page_count": len(text.pages),
        "chunk_count": len(read.pieces),
        "content_hash": read.hash,
        "warnings": list(text.warnings),
    }


def _category(value: object) -> str:
    return checks.name(value, "category", limit=MAX_CATEGORY)


def _tags(value: Any) -> tuple[str, ...]:
    """In one order, each once: the same tags are the same content."""
    tags = {checks.name(tag, "tags", limit=MAX_TAG) for tag in checks.items(value, "tags", "texts")}
    if len(tags) > MAX_TAGS:
        raise InvalidInputError(f"tags holds {len(tags)} tags; at most {MAX_TAGS} are accepted")
    return tuple(sorted(tags))


def _changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in changes.items() if value is not UNCHANGED}
    if not given:
        raise InvalidInputError(f"nothing to update; pass at least one of {', '.join(changes)}")
    values: dict[str, Any] = {}
    for name, value in given.items():
        match name:
            case "category":
                values["category"] = _category(value)
            case "tags":
                values["tags"] = list(_tags(value))
            case _:
                values["metadata_"] = checks.metadata(value)
    return values


def _reading(progress: Progress | None) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(FileProgress("reading", done, total))


def _tell(progress: Progress | None, stage: Any, done: int, total: int) -> None:
    if progress is not None:
        progress(FileProgress(stage, done, total))


def _unknown(user_id: str, document_id: MemoryRef) -> NotFoundError:
    return NotFoundError(f"user {user_id!r} has no document {document_id}")
