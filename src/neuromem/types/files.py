"""Files, what is found in them, and how far an upload is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from neuromem.types.answers import Explanation
from neuromem.types.memories import Memory
from neuromem.types.values import Metadata, Value


@dataclass(frozen=True, slots=True)
class Document(Value):
    """A file, in one of its versions.

    `document_id` names the file, `record_id` this version of it. `file_type`: "text", "markdown", "html", "pdf" or
    "docx", told from the content; `file_size` in bytes. `pages`: how many it has; `chunks`: in how many memories its
    text lies. `content_hash`: the SHA-256 of its bytes. `warnings`: what could not be read. `source_type`: "upload", or
    "text" for one made by `create_from_text`. `object_key`: where the storage keeps it; None for one made from text.
    `stored_before`: the user had this file already, so that this call stored nothing.
    """

    document_id: str
    record_id: str
    user_id: str
    filename: str
    title: str | None
    file_type: str | None
    mime_type: str | None
    file_size: int | None
    category: str
    tags: tuple[str, ...]
    metadata: Metadata
    pages: int
    chunks: int
    source_type: str | None
    content_hash: str | None
    object_key: str | None
    warnings: tuple[str, ...]
    version: int
    known_from: datetime
    known_to: datetime | None
    recorded_at: datetime
    origin: str
    created_at: datetime
    updated_at: datetime
    stored_before: bool = False


@dataclass(frozen=True, slots=True)
class FileHit(Value):
    """A passage found in a file: `memory.content`, which lies on `page` (from 1 on) at [start, end) of its text."""

    document: Document
    memory: Memory
    score: float
    page: int | None = None
    start: int | None = None
    end: int | None = None
    explanation: Explanation | None = None

    @property
    def text(self) -> str:
        """The passage."""
        return self.memory.content


@dataclass(frozen=True, slots=True)
class FileProgress(Value):
    """How far an upload is: so many of so many pages read, chunks embedded, or files stored."""

    stage: Literal["reading", "embedding", "storing"]
    done: int
    total: int
