"""What a file is, by its content; its name breaks ties only."""

import re
from importlib import import_module
from pathlib import PurePath
from typing import Any, Literal

from memground.errors import InvalidInputError
from memground.extras import missing_package
from neuromem.documents.plain import is_readable, unicode_text

ACCEPTED = "accepted: plain text, Markdown, HTML, PDF, Word (.docx)"
_NAMED: dict[str, tuple[str, str]] = {".pdf": ("pdf", "PDF"), ".docx": ("zip", "Word document")}
_SPOKEN = {"pdf": "a PDF", "zip": "an archive (Word, zip …)", "html": "HTML", "text": "plain text"}
_HTML = re.compile(
    r"\s*+(?:<\?xml[^>]*+>\s*+|<!--(?:(?!-->).)*+-->\s*+)*+<(?:!doctype\s++html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_HTML_NAMES = {".html", ".htm", ".xhtml", ".shtml"}
_MARKDOWN_NAMES = {".md", ".markdown", ".mdown", ".mkd"}
_LOOKED_AT = 4096
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")

type Kind = Literal["pdf", "zip", "html", "text"]


def kind_of(filename: str, data: bytes) -> Kind:
    """Raises InvalidInputError for what is not read, and for a name that promises something else than is there."""
    kind = _kind_of_content(filename, data)
    promised, spoken = _NAMED.get(suffix(filename), (kind, ""))
    if promised != kind:
        raise InvalidInputError(f"{filename} is no {spoken}, though it is called one, but {_SPOKEN[kind]}; rename it")
    return kind


def kind_of_text(filename: str, text: str) -> Literal["text", "markdown", "html"]:
    """Markdown is a text whose name says so."""
    if suffix(filename) in _HTML_NAMES or _HTML.match(text[:_LOOKED_AT]):
        return "html"
    return "markdown" if suffix(filename) in _MARKDOWN_NAMES else "text"


def suffix(filename: str) -> str:
    return PurePath(filename).suffix.lower()


def is_named_otherwise(filename: str) -> bool:
    """Whether the name promises a PDF or a Word document, so that a text called so is refused."""
    return suffix(filename) in _NAMED


def is_marked(data: bytes) -> bool:
    """Whether the first bytes say that it is no text, though they are characters (PDF, RTF, PostScript)."""
    return data[:_LOOKED_AT].lstrip()[:8].startswith((b"%PDF-", b"{\\rtf", b"%!PS"))


def _kind_of_content(filename: str, data: bytes) -> Kind:
    head = data[:1024]
    if b"%PDF-" in head and (is_marked(data) or b"%%EOF" in data or suffix(filename) == ".pdf"):
        return "pdf"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if data.startswith(_OLE):
        if _ENCRYPTED in data:
            raise InvalidInputError(f"{filename} is encrypted with a password; save it without one")
        raise InvalidInputError(f"{filename} is of an old Office format (.doc, .xls …); save it as .docx or PDF")
    # None of them Unicode: older encodings have the characters of tags and line ends where ASCII does.
    text = unicode_text(data) if b"\x00" in data else data.decode("latin-1")
    if is_marked(data) or text is None or not is_readable(text):
        raise InvalidInputError(_refused(filename, data))
    return "html" if kind_of_text(filename, text) == "html" else "text"


def _refused(filename: str, data: bytes) -> str:
    name = _signature(data)
    what = f"seems to be a {name}" if name else "is neither text nor a document"
    return f"{filename} {what}; {ACCEPTED}"


def _signature(data: bytes) -> str:
    """What the content says it is, of some thousands of known formats; "" where it says nothing."""
    try:
        puremagic: Any = import_module("puremagic")  # has too little type information
    except ImportError:
        raise missing_package("puremagic", "files") from None
    try:
        found = puremagic.magic_string(data[: 1 << 16])
    except Exception:  # noqa: BLE001 - it raises for what it does not know, and whatever its scanners meet
        return ""
    return found[0].name if found else ""
