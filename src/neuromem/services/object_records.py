"""The bytes of files among the records of an export: how they are written, and how those of strangers are read.

::

    {"record": "object", "key": "documents/…/file.pdf", "part": 1, "data": "…"}

They follow the rows, file after file, each in parts numbered from 1 on. `key` is what rows of documents name; `data` is
base64. How many bytes a file has, and their SHA-256, its document says.
"""

import base64
import binascii
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from memground.errors import InvalidInputError
from memground.text import check_text, show
from neuromem import checks
from neuromem.documents import FileLimits

OBJECT = "object"
PART_BYTES = 256 * 1024
_MOST_PART = 4 * PART_BYTES
_LONGEST_KEY = 500


def object_records(key: str, data: bytes) -> Iterator[dict[str, Any]]:
    """The bytes of one file as records."""
    for part, start in enumerate(range(0, max(1, len(data)), PART_BYTES), 1):
        piece = base64.b64encode(data[start : start + PART_BYTES]).decode()
        yield {"record": OBJECT, "key": key, "part": part, "data": piece}


@dataclass(frozen=True)
class NamedObject:
    """What rows say of a file that is stored."""

    document_id: uuid.UUID
    size: int
    sha256: str
    file_type: str | None


@dataclass(frozen=True)
class Piece:
    """Bytes of the object that is called `key` in the export."""

    key: str
    data: bytes


@dataclass
class _Coming:
    """The object whose parts are being read."""

    key: str
    about: NamedObject
    parts: int = 0
    size: int = 0
    hash: Any = field(default_factory=hashlib.sha256)


class ObjectRecords:
    """Reads the object records of an export, and believes none of them. What rows name it keeps in memory.

    `limits`: how large a file may be (None: of any size).
    """

    def __init__(self, limits: FileLimits | None) -> None:
        self._limits = limits
        self._coming: _Coming | None = None
        self._whole: set[str] = set()
        self.named: dict[str, NamedObject] = {}

    @property
    def begun(self) -> bool:
        """Whether an object was read already, after which no rows follow."""
        return self._coming is not None or bool(self._whole)

    @property
    def count(self) -> int:
        """How many are here whole."""
        return len(self._whole)

    def name(self, row: Mapping[str, Any]) -> None:
        """A row of a document names an object, which must come. Raises InvalidInputError."""
        key = check_text(row["object_key"], "object_key", limit=_LONGEST_KEY)
        sha256 = check_text(row["content_hash"], "content_hash", limit=64)
        size = checks.whole(row["file_size"], "file_size", 0, checks.MAX_PLACE)
        if self._limits is not None:
            self._limits.check("bytes", size, f"file_size: {show(row['filename'])} has")
        named = NamedObject(row["document_id"], size, sha256, row["file_type"])
        known = self.named.setdefault(key, named)
        if (known.document_id, known.size, known.sha256) != (named.document_id, size, sha256):
            raise InvalidInputError(f"object_key={show(key)} is another document's, or of other bytes")

    def read(self, told: Mapping[str, Any]) -> Piece:
        """The bytes a record holds. Raises InvalidInputError."""
        key = told.get("key")
        about = self.named.get(key) if isinstance(key, str) else None
        if not isinstance(key, str) or about is None:
            raise InvalidInputError(f"key={show(key)} is named by no row of documents")
        coming = self._coming
        if key in self._whole or (coming is not None and coming.key != key):
            begun = show(key if coming is None else coming.key)
            raise InvalidInputError(f"key={show(key)}: the parts of {begun} come once, one after the other")
        if coming is None:
            coming = self._coming = _Coming(key, about)
        if told.get("part") != coming.parts + 1 or isinstance(told.get("part"), bool):
            raise InvalidInputError(f"part={show(told.get('part'))} is not the next of {show(key)}: {coming.parts + 1}")
        data = _bytes(told.get("data"))
        coming.parts += 1
        coming.size += len(data)
        coming.hash.update(data)
        if coming.size > about.size or (not data and about.size):
            raise InvalidInputError(f"data: {show(key)} has {about.size:,} bytes as its document says, and others came")
        if coming.size == about.size:
            self._end(coming)
        return Piece(key, data)

    def _end(self, coming: _Coming) -> None:
        if (found := coming.hash.hexdigest()) != coming.about.sha256:
            raise InvalidInputError(
                f"the bytes of {show(coming.key)} are not those of its document: "
                f"content_hash={show(coming.about.sha256)}, theirs is {found}"
            )
        self._whole.add(coming.key)
        self._coming = None

    def finish(self) -> None:
        """There are no more. Raises InvalidInputError where one is missing."""
        if missing := next((key for key in self.named if key not in self._whole), None):
            raise InvalidInputError(
                f"the bytes of {show(missing)} (document {self.named[missing].document_id}) are missing or cut off"
            )


def _bytes(value: object) -> bytes:
    try:
        if not isinstance(value, str) or len(value) > _MOST_PART * 4 // 3 + 4:
            raise ValueError
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raise InvalidInputError(
            f"data={show(value)} is not accepted; pass base64 of at most {_MOST_PART:,} bytes"
        ) from None
