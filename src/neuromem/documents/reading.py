"""One file into text, by what its content is."""

import re
from collections.abc import Callable

from memground.errors import InvalidInputError
from neuromem.documents.limits import FileLimits
from neuromem.documents.plain import clean, is_readable, unicode_text
from neuromem.documents.sniffing import kind_of_text, suffix
from neuromem.documents.text import MIME_TYPES, DocumentPage, DocumentText, FileType

type Progress = Callable[[int, int], None]
"""Called with pages done and pages in all."""

_CLAIMS = {".pdf": "PDF", ".docx": "Word document"}
_NOT_TEXT = (b"%PDF-", b"{\\rtf", b"%!PS")
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S[^\n]*?)[ \t#]*$", re.MULTILINE)
ACCEPTED = "plain text, Markdown, HTML, PDF, Word (.docx)"


def plain_document(filename: str, data: bytes, limits: FileLimits) -> DocumentText | None:
    """The document, if it is plain text or Markdown in Unicode; None if more is needed to tell or to read it."""
    if data.lstrip()[:8].startswith(_NOT_TEXT) or suffix(filename) in _CLAIMS:
        return None
    text = unicode_text(data)
    if text is None or not is_readable(text) or (kind := kind_of_text(filename, text)) == "html":
        return None
    limits.check("characters", len(text), f"{filename} has")
    text = clean(text)
    heading = _HEADING.search(text) if kind == "markdown" else None
    return document(filename, kind, heading[1] if heading else None, [text])


def document(
    filename: str, kind: FileType, title: str | None, texts: list[str], warnings: tuple[str, ...] = ()
) -> DocumentText:
    """The pages as a document. Raises InvalidInputError when there is no text in them."""
    if not any(text.strip() for text in texts):
        raise InvalidInputError(f"{filename} holds no text")
    pages = tuple(DocumentPage(number, text) for number, text in enumerate(texts, 1))
    title = " ".join(clean(title or "").split())[:500]
    return DocumentText(kind, MIME_TYPES[kind], title or None, pages, warnings)
