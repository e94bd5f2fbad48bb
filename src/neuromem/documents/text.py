"""What was read from a file."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

type FileType = Literal["text", "markdown", "html", "pdf", "docx"]

MIME_TYPES: dict[FileType, str] = {
    "text": "text/plain",
    "markdown": "text/markdown",
    "html": "text/html",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}


class _Value:
    """Of the standard library alone, because the process that reads files has to start fast."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return asdict(self)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]


@dataclass(frozen=True, slots=True)
class DocumentPage(_Value):
    """The text of one page, with lines ended by a single line feed. `number` counts from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class DocumentText(_Value):
    """A file's text in pages: a PDF's own, one page for every other type.

    `file_type` and `mime_type` are what the content is, whatever the file's name says. `title` is the one the file
    gives itself, or its first heading. Headings of HTML and Word are lines that begin with one to six `#`. `warnings`
    name what could not be read, such as a broken page (its text is empty). Some page has text.
    """

    file_type: FileType
    mime_type: str
    title: str | None
    pages: tuple[DocumentPage, ...]
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The pages that hold text, with an empty line between them."""
        return "\n\n".join(page.text for page in self.pages if page.text)


@dataclass(frozen=True, slots=True)
class DocumentChunk(_Value):
    """A piece of a page: `text` is `page.text[start:end]` of the page with the number `page`."""

    text: str
    page: int
    start: int
    end: int
