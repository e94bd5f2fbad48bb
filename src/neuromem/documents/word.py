"""Word (.docx) into text: what kind of archive a file is, and paragraphs and tables in order."""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from memground.errors import InvalidInputError
from memground.extras import missing_package
from neuromem.documents.limits import FileLimits
from neuromem.documents.plain import tidy
from neuromem.documents.sniffing import ACCEPTED

_MOST_PARTS = 10_000
_TYPES = "[Content_Types].xml"
_DOCUMENT = "wordprocessingml.document.main+xml"
_OTHERS = (
    ("wordprocessingml.template", "a Word template"),
    ("spreadsheetml", "an Excel workbook"),
    ("presentationml", "a PowerPoint presentation"),
)
_MIME_OTHERS = {
    b"application/vnd.oasis.opendocument.text": "an OpenDocument text",
    b"application/epub+zip": "an EPUB book",
}
_MACROS = re.compile(r"(?:^|/)vba[^/]*\.(?:bin|xml)$", re.IGNORECASE)
_HEADING = re.compile(r"heading ([1-9])")
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_CHARACTERS = {f"{_W}tab": "\t", f"{_W}ptab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_ABSENT = {f"{_W}del", f"{_W}moveFrom", f"{_W}pPr", f"{_W}rPr", f"{_W}tblPr", f"{_W}sdtPr", f"{_MC}Fallback"}


def word_text(filename: str, data: bytes, limits: FileLimits) -> tuple[str | None, str, tuple[str, ...]]:
    """Title, text and no warnings. Headings become lines that begin with `#`, rows of tables one line each.

    What a change would delete is left out, what one would insert is there. Raises InvalidInputError for archives that
    are no Word document.
    """
    _check_archive(filename, data, limits)
    try:
        docx: Any = import_module("docx")  # types enough to open, not to walk
    except ImportError:
        raise missing_package("python-docx", "files") from None
    try:
        document = docx.Document(io.BytesIO(data))
        text = tidy("\n\n".join(_blocks(document.element.body, _levels(document))))
        return document.core_properties.title or None, text, ()
    except MemoryError:
        raise
    except Exception as error:  # on a broken document: of zipfile, lxml, python-docx, down to KeyError
        if "unknown error" in str(error):  # so libxml2 says that memory has run out
            raise MemoryError from error
        raise InvalidInputError(
            f"{filename} is a broken Word document ({type(error).__name__}: {str(error)[:200]})"
        ) from error


def _check_archive(filename: str, data: bytes, limits: FileLimits) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            names = {part.filename for part in parts}
            if len(parts) > _MOST_PARTS:
                raise InvalidInputError(f"{filename} is an archive of {len(parts):,} files, which no document has")
            if any(part.flag_bits & 1 for part in parts):
                raise InvalidInputError(f"{filename} is encrypted with a password; save it without one")
            limits.check("expanded", sum(part.file_size for part in parts), f"{filename} would unpack to")
            types = archive.read(_TYPES).decode(errors="replace") if _TYPES in names else ""
            if "macroEnabled" in types or any(map(_MACROS.search, names)):
                raise InvalidInputError(f"{filename} holds macros; save it as .docx, without them")
            if _DOCUMENT not in types:
                raise InvalidInputError(f"{filename} is {_kind(archive, types)}; {ACCEPTED}")
            for part in parts:
                if part.filename.endswith((".xml", ".rels")):
                    _check_part(filename, part.filename, archive.read(part))
    except InvalidInputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise InvalidInputError(f"{filename} is a broken archive ({error}); was it downloaded whole?") from None


def _kind(archive: zipfile.ZipFile, types: str) -> str:
    if types:
        return next((name for sign, name in _OTHERS if sign in types), "an Office file that is no Word document")
    try:
        return _MIME_OTHERS.get(archive.open("mimetype").read(100), "a zip archive")
    except KeyError:
        return "a zip archive"


def _check_part(filename: str, part: str, content: bytes) -> None:
    """Refuse definitions of entities: no Word document has them, and they are how small XML becomes large."""
    if b"<!DOCTYPE" in content or (b"\x00" in content and b"<!DOCTYPE" in content.replace(b"\x00", b"")):
        raise InvalidInputError(f"{filename}: its part {part} defines a document type (XML entities); it is not read")


def _levels(document: Any) -> dict[str, int]:
    """The level of headings, by the id of their style or of one made from it."""
    levels: dict[str, int] = {}
    for style in document.styles:
        ancestor: Any = style
        for _ in range(10):
            name = (getattr(ancestor, "name", None) or "").lower()
            if name == "title" or (found := _HEADING.fullmatch(name)):
                levels[style.style_id] = 1 if name == "title" else min(int(found[1]), 6)  # type: ignore[index]
                break
            ancestor = getattr(ancestor, "base_style", None)
    return levels


def _blocks(parent: Any, levels: dict[str, int]) -> Iterator[str]:
    """Paragraphs and tables below an element, in order."""
    for element in parent:
        if element.tag == f"{_W}p":
            text = "".join(_runs(element, levels))
            style = element.find(f"{_W}pPr/{_W}pStyle")
            level = 0 if style is None else levels.get(style.get(f"{_W}val"), 0)
            yield f"{'#' * level} {' '.join(text.split())}" if level and text.strip() else text
        elif element.tag == f"{_W}tbl":
            yield "\n".join(_rows(element, levels))
        elif isinstance(element.tag, str) and element.tag not in _ABSENT:  # a comment's is a function
            yield from _blocks(element, levels)


def _rows(table: Any, levels: dict[str, int]) -> Iterator[str]:
    for row in _nearest(table, "tr"):
        yield " | ".join(" ".join(" ".join(_blocks(cell, levels)).split()) for cell in _nearest(row, "tc"))


def _nearest(parent: Any, name: str) -> Iterator[Any]:
    """Elements of that name below `parent`, not those inside one another or inside a table within."""
    for element in parent:
        if element.tag == f"{_W}{name}":
            yield element
        elif isinstance(element.tag, str) and element.tag not in _ABSENT:
            yield from _nearest(element, name)


def _runs(parent: Any, levels: dict[str, int]) -> Iterator[str]:
    """The characters of a paragraph; text boxes in it stand on lines of their own."""
    for element in parent:
        tag = element.tag
        if tag == f"{_W}t":
            yield element.text or ""
        elif tag in _CHARACTERS:
            yield _CHARACTERS[tag]
        elif tag == f"{_W}txbxContent":
            yield "\n" + "\n".join(_blocks(element, levels)) + "\n"
        elif isinstance(tag, str) and tag not in _ABSENT:
            yield from _runs(element, levels)
