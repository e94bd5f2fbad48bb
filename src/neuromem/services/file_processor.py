"""FileProcessor: the bytes of a file become pages of text."""

import asyncio
from collections.abc import Callable

from memground.errors import InvalidInputError
from memground.text import check_text, show
from neuromem import checks
from neuromem.documents import DocumentText, FileLimits
from neuromem.documents.process import read_in_process
from neuromem.documents.reading import plain_document

MAX_FILENAME = 500


class FileProcessor:
    """Reads plain text, Markdown, HTML, PDF and Word (.docx) files, within `limits`.

    What a file is is told from its content. Anything but Unicode text is read by a process of its own, which is ended
    when it takes too long or too much memory: no file can hang or crash the program.
    """

    def __init__(self, limits: FileLimits | None = None) -> None:
        checks.instance(limits, "limits", FileLimits | None, "a FileLimits")
        self.limits = limits or FileLimits()

    async def process(
        self, filename: str, data: bytes, *, progress: Callable[[int, int], None] | None = None
    ) -> DocumentText:
        """The text of a file. `filename` is what it is called, not where it lies. `progress` is called with the pages
        done and the pages in all.

        Raises ``InvalidInputError`` for a file that cannot be read (empty, broken, encrypted, of another type, without
        any text) or goes beyond a limit, ``ConfigurationError`` when the packages of the extra ``files`` are missing.
        """
        check_text(filename, "filename", limit=MAX_FILENAME)
        checks.function(progress, "progress")
        if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"data must be bytes, got {type(data).__name__} {show(data)}")
        if not data:
            raise InvalidInputError(f"{filename} is empty")
        self.limits.check("bytes", len(data), f"{filename} has")
        report = progress or _nobody
        document = await asyncio.to_thread(plain_document, filename, data, self.limits)
        if document is None:
            return await read_in_process(filename, data, self.limits, report)
        report(1, 1)
        return document


def _nobody(done: int, total: int) -> None:
    pass
