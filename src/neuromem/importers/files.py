"""Opening what people have: files, folders, zip archives, standard input; in UTF-8 or UTF-16."""

import codecs
import hashlib
import io
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from neuromem.errors import InvalidInputError
from neuromem.importers import chatgpt, claude, jsonl, locomo, mem0
from neuromem.importers.detect import FORMATS, Detected, detect
from neuromem.importers.items import Fact, Item, Turn
from neuromem.importers.reading import Reading

STDIN = "-"
_HEAD = 1 << 18
"""Bytes looked at to tell the format."""
_MAX_RATIO = 200
_SMALL = 100_000_000
"""Chats compress to a tenth; more than this many bytes at more than _MAX_RATIO is a bomb."""
_WANTED = re.compile(r"(?:^|/)conversations(?:-\d+)?\.json$", re.IGNORECASE)
_ALSO = re.compile(r"(?:^|/)(?:memories\.json|[^/]+\.jsonl)$", re.IGNORECASE)
_JUNK = re.compile(r"(?:^|/)(?:__MACOSX/|\._)")


class Reader(Protocol):
    """What every format's module has: a function that reads a stream of UTF-8 item by item."""

    def __call__(self, stream: BinaryIO, reading: Reading) -> Iterator[Item]: ...


READERS: dict[str, Reader] = {
    "jsonl": jsonl.items,
    "chatgpt": chatgpt.items,
    "claude": claude.items,
    "mem0": mem0.items,
    "locomo": locomo.items,
}


@dataclass(frozen=True)
class _Part:
    """One stream of records: a file, or a member of an archive."""

    name: str
    size: int
    open: Callable[[], BinaryIO]


class Export:
    """Files of one export, opened one after the other and read once through `items`.

    `paths`: files, zip archives, folders that hold an unpacked export, or "-" for standard input. `format`: one of
    FORMATS, or None to tell by the content. `tools`: whether calls of tools and their output are read, too.
    Raises InvalidInputError, here or while reading, for what cannot be read.
    """

    def __init__(self, paths: Sequence[Path | str], *, format: str | None = None, tools: bool = False) -> None:
        if format is not None and format not in FORMATS:
            raise InvalidInputError(f"format={format!r} is not known; accepted: {', '.join(FORMATS)}")
        if not paths:
            raise InvalidInputError("no file is given; pass at least one, or - for standard input")
        self._wanted = format
        self._tools = tools
        self._paths = [Path(path).expanduser() for path in paths]
        self._parts = [part for path in self._paths for part in _parts(path)]
        self.formats: set[str] = set()
        self.position = 0
        """Bytes read, of `size`."""

    @property
    def size(self) -> int | None:
        """Bytes in all, unpacked; None where standard input is among them."""
        return None if self.reads_stdin else sum(part.size for part in self._parts)

    @property
    def reads_stdin(self) -> bool:
        return any(str(path) == STDIN for path in self._paths)

    @cached_property
    def origin(self) -> str:
        """Names this import for `undo`: the same files give the same origin."""
        first = "stdin" if str(self._paths[0]) == STDIN else self._paths[0].resolve().name
        more = f"+{len(self._paths) - 1}" if len(self._paths) > 1 else ""
        if self.reads_stdin:
            return f"import:{first}{more}"
        whole = hashlib.blake2b(digest_size=4)
        for part in self._parts:
            with part.open() as stream, _naming(part.name):
                while data := stream.read(1 << 20):
                    whole.update(data)
        return f"import:{first[:200]}{more}@{whole.hexdigest()}"

    def items(self, *, only: str | None = None) -> Iterator[Item]:
        """Everything in order; `only`: of this owner.

        Raises InvalidInputError when the files hold several owners' and `only` does not say whose are meant: they must
        not end in one memory.
        """
        owners: set[str] = set()
        for part in self._parts:
            for item in self._read(part):
                if isinstance(item, Turn | Fact) and not _belongs(item, only, owners):
                    continue
                yield item

    def check_owners(self) -> None:
        """Reads the formats that may hold several owners' through once; raises as `items` does, before it is late."""
        if self.reads_stdin:
            return
        owners: set[str] = set()
        for part in self._parts:
            for item in self._read(part, owned=True):
                if isinstance(item, Turn | Fact):
                    _belongs(item, None, owners)
        self.position = 0

    def _read(self, part: _Part, *, owned: bool = False) -> Iterator[Item]:
        with self._open(part) as (stream, found):
            self.formats.add(found.format)
            if found.owned or not owned:
                stem = Path(part.name).stem if part.name != STDIN else "default"
                reading = Reading(part.name, stem, found.root, found.prefix, self._tools)
                yield from READERS[found.format](stream, reading)

    @contextmanager
    def _open(self, part: _Part) -> Generator[tuple[BinaryIO, Detected]]:
        with part.open() as raw, _naming(part.name):
            counted = io.BufferedReader(_Counted(raw, self._count), _HEAD)
            stream = _as_utf8(counted)
            yield stream, detect(stream.peek(_HEAD), part.name, self._wanted)

    def _count(self, read: int) -> None:
        self.position += read


def _belongs(item: Turn | Fact, only: str | None, owners: set[str]) -> bool:
    """Whether the item is the owner's; raises when it is the second owner's and none was chosen."""
    if only is not None:
        return item.owner == only
    if item.owner is not None and item.owner not in owners:
        owners.add(item.owner)
        if len(owners) > 1:
            raise InvalidInputError(
                f"more than one owner's memories are here ({', '.join(sorted(owners))}, perhaps others); "
                "choose one with --only, so that they are not mixed in one memory"
            )
    return True


def _parts(path: Path) -> list[_Part]:
    if str(path) == STDIN:
        return [_Part(STDIN, 0, lambda: sys.stdin.buffer)]
    try:
        if path.is_dir():
            return _folder(path)
        size = path.stat().st_size
        with path.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from None
    if magic[:2] == b"PK":
        return _archive(path)
    if path.suffix.lower() == ".zip":
        raise InvalidInputError(f"{path} is no zip archive, whatever its name says; was it downloaded whole?")
    return [_Part(path.name, size, lambda: path.open("rb"))]


def _folder(path: Path) -> list[_Part]:
    files = {str(found.relative_to(path).as_posix()): found for found in path.rglob("*") if found.is_file()}
    parts = [
        _Part(name, files[name].stat().st_size, lambda found=files[name]: found.open("rb")) for name in _chosen(files)
    ]
    if not parts:
        raise InvalidInputError(f"{path} holds no conversations.json; pass the file itself")
    return parts


def _archive(path: Path) -> list[_Part]:
    """The members that hold conversations. Nothing is unpacked to disk, so their names can do no harm."""
    with _naming(path.name), zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    chosen = [members[name] for name in _chosen(members)]
    if not chosen:
        raise InvalidInputError(f"{path} holds no conversations.json; is it an export of ChatGPT or Claude?")
    for info in chosen:
        if info.flag_bits & 1:
            raise InvalidInputError(f"{path} is encrypted; unpack it and pass the folder")
        if info.file_size > _SMALL and info.file_size > _MAX_RATIO * info.compress_size:
            raise InvalidInputError(
                f"{path}: {info.filename!r} would unpack from {info.compress_size:,} to {info.file_size:,} bytes, "
                "which no chat does; it is not read"
            )
    return [
        _Part(f"{path.name}/{Path(i.filename).name}", i.file_size, lambda i=i: _member(path, i.filename))
        for i in chosen
    ]


def _member(path: Path, name: str) -> BinaryIO:
    with zipfile.ZipFile(path) as archive:  # the open member keeps the file
        return cast(BinaryIO, archive.open(name))


def _chosen(names: "dict[str, Path] | dict[str, zipfile.ZipInfo]") -> list[str]:
    kept = sorted(name for name in names if not _JUNK.search(name))
    if numbered := [name for name in kept if _WANTED.search(name)]:
        return numbered
    return [name for name in kept if _ALSO.search(name)]


@contextmanager
def _naming(name: str) -> Generator[None]:
    """What the libraries raise on a broken file becomes an error that names it."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InvalidInputError(f"{name} is a broken zip archive ({error}); was it downloaded whole?") from None
    except OSError as error:
        raise InvalidInputError(f"{name} cannot be read: {error.strerror or error}") from None


class _Counted(io.RawIOBase):
    """A stream that says how much of it was read; a read gives all that is asked for, but at the end."""

    def __init__(self, raw: BinaryIO, count: Callable[[int], None]) -> None:
        self._raw = raw
        self._count = count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        filled = 0
        while filled < len(buffer) and (data := self._raw.read(len(buffer) - filled)):
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        self._count(filled)
        return filled


class _Recoded(io.RawIOBase):
    """UTF-16 as UTF-8."""

    def __init__(self, stream: "io.BufferedReader[Any]", encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self._rest:
            data = self._stream.read(1 << 16)
            self._rest = self._decoder.decode(data, final=not data).encode()
            if not data:
                break
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def _as_utf8(stream: "io.BufferedReader[Any]") -> "io.BufferedReader[Any]":
    """The stream after its byte order mark, recoded where it is UTF-16."""
    head = stream.peek(4)[:4]
    if head.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
    elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return io.BufferedReader(_Recoded(stream, "utf-16"), _HEAD)
    elif len(head) == 4 and b"\x00" in head:
        return io.BufferedReader(_Recoded(stream, "utf-16-le" if head[1] == 0 else "utf-16-be"), _HEAD)
    return stream
