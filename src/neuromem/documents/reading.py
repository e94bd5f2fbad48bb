"""One file into text, by what its content is. No time or memory is limited here: see `process`."""

import re
from collections.abc import Callable, Sequence

from memground.errors import InvalidInputError
from neuromem.documents.limits import FileLimits
from neuromem.documents.plain import clean, guessed_text, is_readable, unicode_text
from neuromem.documents.sniffing import is_marked, is_named_otherwise, kind_of, kind_of_text
from neuromem.documents.text import MIME_TYPES, DocumentPage, DocumentText, FileType

type Progress = Callable[[int, int], None]
"""Called with pages done and pages in all."""

_HEADING = re.compile(r"^#{1,6}[ \t]++([^\n]++)$", re.MULTILINE)
_LONGEST_TITLE = 500


def plain_document(filename: str, data: bytes, limits: FileLimits) -> DocumentText | None:
    """The document, if it is plain text or Markdown in Unicode; None if more is needed to tell or to read it."""
    if is_marked(data) or is_named_otherwise(filename):
        return None
    text = unicode_text(data)
    if text is None or not is_readable(text) or kind_of_text(filename, text) == "html":
        return None
    return _text_document(filename, text, (), limits)


def read_document(filename: str, data: bytes, limits: FileLimits, progress: Progress) -> DocumentText:
    """The document, whatever it is. Raises InvalidInputError for what cannot be read, ConfigurationError when a
    package is missing that reads it."""
    kind = kind_of(filename, data)
    if kind == "pdf":
        from neuromem.documents.pdf import pdf_pages

        title, texts, warnings = pdf_pages(filename, data, limits, progress)
        return _document(filename, "pdf", title, texts, warnings)
    if kind == "zip":
        from neuromem.documents.word import word_text

        read = _of_one_page(filename, "docx", word_text(filename, data, limits), limits)
    elif kind == "html":
        from neuromem.documents.html import html_text

        read = _of_one_page(filename, "html", html_text(filename, data), limits)
    elif (text := unicode_text(data)) is not None:
        read = _text_document(filename, text, (), limits)
    else:
        text, warning = guessed_text(filename, data)
        read = _text_document(filename, text, (warning,), limits)
    progress(1, 1)
    return read


def _text_document(filename: str, text: str, warnings: tuple[str, ...], limits: FileLimits) -> DocumentText:
    limits.check("characters", len(text), f"{filename} has")
    return _of_one_page(filename, kind_of_text(filename, text), (None, clean(text), warnings), limits)


def _of_one_page(
    filename: str, kind: FileType, read: tuple[str | None, str, tuple[str, ...]], limits: FileLimits
) -> DocumentText:
    title, text, warnings = read
    limits.check("characters", len(text), f"{filename} has")
    if kind != "text" and not (title or "").strip() and (heading := _HEADING.search(text)):
        title = heading[1].rstrip("# \t")
    return _document(filename, kind, title, [text], warnings)


def _document(
    filename: str, kind: FileType, title: str | None, texts: Sequence[str], warnings: tuple[str, ...]
) -> DocumentText:
    if not any(text.strip() for text in texts):
        raise InvalidInputError(f"{filename} holds no text")
    pages = tuple(DocumentPage(number, text) for number, text in enumerate(texts, 1))
    title = " ".join(clean(title or "").split())[:_LONGEST_TITLE]
    return DocumentText(kind, MIME_TYPES[kind], title or None, pages, warnings)
