"""`nm.files`."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from memground.errors import ConfigurationError, InvalidInputError
from memground.filters import And, F, Filter, parse
from neuromem import checks
from neuromem.db import Session
from neuromem.facades.context import Context, Where
from neuromem.providers.storage import ObjectStorage
from neuromem.queries.scope import Scope
from neuromem.services.files import MAX_CATEGORY, MAX_SECONDS, MAX_TAG, FileService, NewFile, Progress
from neuromem.services.search import UNCHANGED
from neuromem.types import DEFAULT_ORIGIN, Document, FileHit, MemoryRef, MemoryType, Metadata, Page


class FilesReader:
    """Reads files: what is known of them, what is written in them, their bytes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, user_id: str, document_id: MemoryRef) -> Document | None:
        """One document, or None when the user has none by this id (now, or at the moment of the view)."""
        async with self._context.source.read() as session:
            return await self._service(session).get(user_id, document_id, self._context.view())

    async def list(
        self,
        user_id: str,
        *,
        category: str | None = None,
        tags: Sequence[str] | None = None,
        file_type: str | None = None,
        where: Where | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Document]:
        """A page of the user's documents, the last written first; `.cursor` leads to the next.

        Of a category, with all of the tags, of a type ("text", "markdown", "html", "pdf", "docx"). `where`: a filter
        over `filename`, `title`, `file_type`, `mime_type`, `file_size`, `pages`, `category`, `tags`, `metadata`,
        `source_type`, `content_hash`, `origin`, `known_from`, `created_at`, `document_id`.
        """
        filter = _filter(where, category=category, tags=tags, file_type=file_type)
        scope = Scope(user_id, self._context.view(), where=filter)
        async with self._context.source.read() as session:
            return await self._service(session).list(scope, cursor=cursor, limit=limit)

    async def search(
        self,
        user_id: str,
        query: str,
        *,
        limit: int = 10,
        category: str | None = None,
        tags: Sequence[str] | None = None,
        file_type: str | None = None,
        document_id: MemoryRef | None = None,
        where: Where | None = None,
        as_of: datetime | None = None,
        query_embedding: Sequence[float] | None = None,
        explain: bool = False,
        timezone: str | None = None,
    ) -> "list[FileHit]":
        """The passages of files that fit `query` best by meaning and by word, each with its document and page.

        Only of documents as `list` would give them for `category`, `tags`, `file_type` and `where`, or of one
        (`document_id`). The other arguments are those of `search`. `recall` finds passages too, among all else.
        """
        checks.query(query)
        of_files = _filter(where, category=category, tags=tags, file_type=file_type, document_id=document_id)
        scope = Scope(user_id, self._context.view(as_of), [MemoryType.DOCUMENT], in_files=True, of_files=of_files)
        ranking = self._context.ranking.reaching(checks.limit(limit))
        zone = self._context.zone(timezone)
        async with self._context.source.read() as session:
            service = FileService(session, self._context.embedding, self._context.storage, ranking=ranking)
            return await service.search(
                scope, query, limit=limit, query_embedding=query_embedding, explain=explain, timezone=zone
            )

    async def get_text(self, user_id: str, document_id: MemoryRef, *, page: int | None = None) -> str:
        """What was read from a document, or from one of its pages (from 1 on). Raises NotFoundError."""
        async with self._context.source.read() as session:
            return await self._service(session).text(user_id, document_id, self._context.view(), page=page)

    async def download(self, user_id: str, document_id: MemoryRef) -> bytes:
        """The bytes that were uploaded; of a document made from text, that. Raises NotFoundError, UnavailableError."""
        async with self._context.source.read() as session:
            stored = await self._service(session).stored(user_id, document_id, self._context.view())
        return stored.text if stored.key is None else await self._storage().download(stored.key)

    async def download_url(self, user_id: str, document_id: MemoryRef, *, expires_in: int = 3600) -> str:
        """An address anybody can download the bytes from for `expires_in` seconds (at most seven days).

        Raises NotFoundError, and InvalidInputError for a document made from text, which is in no storage.
        """
        checks.whole(expires_in, "expires_in", 1, MAX_SECONDS)
        async with self._context.source.read() as session:
            stored = await self._service(session).stored(user_id, document_id, self._context.view())
        if stored.key is None:
            raise InvalidInputError(f"document {document_id} was made from text and is in no storage; use download()")
        return await self._storage().get_presigned_url(stored.key, expires_in)

    async def history(self, user_id: str, document_id: MemoryRef) -> "list[Document]":
        """All versions of what is known of a document, newest first; raises NotFoundError."""
        async with self._context.source.read() as session:
            return await self._service(session).history(user_id, document_id, self._context.view())

    def _service(self, session: Session) -> FileService:
        context = self._context
        return FileService(session, context.embedding, context.storage, processor=context.files, policy=context.jobs)

    def _storage(self) -> ObjectStorage:
        if self._context.storage is None:
            raise ConfigurationError(
                "this mind was opened without a storage; pass the storage= the file was stored with"
            )
        return self._context.storage


class FilesFacade(FilesReader):
    """Files: their bytes in the storage, their text as memories that recall finds, with page and place."""

    async def upload(
        self,
        user_id: str,
        filename: str,
        data: bytes | Path,
        *,
        category: str = "general",
        tags: Sequence[str] = (),
        metadata: Metadata | None = None,
        known_at: datetime | None = None,
        origin: str = DEFAULT_ORIGIN,
        progress: Progress | None = None,
    ) -> Document:
        """Stores a file (plain text, Markdown, HTML, PDF, Word) and remembers its text, all or nothing of it.

        What it is is told from its content. The same bytes under the same name are one document: stored again they
        change nothing, and the answer says `stored_before`. The text is embedded by as few calls as the model allows.
        `progress` is called with a `FileProgress` now and then. `known_at`: since when it was known, for imports
        (default: now). Raises InvalidInputError (not readable, too large), ConfigurationError (no storage),
        ProviderError or UnavailableError (the model or the storage), ConflictError (given up meanwhile).
        """
        about = NewFile(filename, category, tags, metadata, known_at)
        async with self._context.write() as session:
            return await self._service(session).upload(user_id, data, about, origin=origin, progress=progress)

    async def create_from_text(
        self,
        user_id: str,
        title: str,
        text: str,
        *,
        category: str = "general",
        tags: Sequence[str] = (),
        metadata: Metadata | None = None,
        known_at: datetime | None = None,
        origin: str = DEFAULT_ORIGIN,
        progress: Progress | None = None,
    ) -> Document:
        """Stores a text as a document, in the database alone; otherwise as `upload`. `title` is its filename, too."""
        about = NewFile(title, category, tags, metadata, known_at)
        async with self._context.source.session() as session:
            return await self._service(session).create_from_text(user_id, text, about, origin=origin, progress=progress)

    async def update(
        self,
        user_id: str,
        document_id: MemoryRef,
        *,
        category: str = UNCHANGED,
        tags: Sequence[str] = UNCHANGED,
        metadata: Metadata | None = UNCHANGED,
        origin: str = DEFAULT_ORIGIN,
    ) -> Document:
        """Changes what is said of a document; what is not given stays. Equal content makes no version.

        Raises NotFoundError, InvalidInputError.
        """
        changes = {"category": category, "tags": tags, "metadata": metadata}
        async with self._context.source.session() as session:
            return await self._service(session).update(user_id, document_id, changes, origin=origin)

    async def delete(self, user_id: str, document_id: MemoryRef, *, origin: str = DEFAULT_ORIGIN) -> None:
        """Forgets a document and its passages from now on; earlier moments still see and download it.

        Its bytes stay in the storage for those, until they are erased. Raises NotFoundError.
        """
        async with self._context.source.session() as session:
            await self._service(session).delete(user_id, document_id, origin=origin)


def _filter(
    where: Where | None,
    *,
    category: str | None,
    tags: Sequence[str] | None,
    file_type: str | None,
    document_id: MemoryRef | None = None,
) -> Filter | None:
    """All of it as one filter over documents."""
    parts: list[Filter] = []
    if (given := parse(where)) is not None:
        parts.append(given)
    if category is not None:
        parts.append(F("category") == checks.name(category, "category", limit=MAX_CATEGORY))
    if tags is not None:
        named = [checks.name(tag, "tags", limit=MAX_TAG) for tag in checks.items(tags, "tags", "texts")]
        parts += [F("tags").contains(tag) for tag in named]
    if file_type is not None:
        parts.append(F("file_type") == checks.name(file_type, "file_type", limit=50))
    if document_id is not None:
        parts.append(F("document_id") == str(checks.identifier(document_id, "document_id")))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else And(tuple(parts))
