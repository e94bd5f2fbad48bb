"""PDF into pages of text, by pypdf."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from memground.errors import InvalidInputError
from memground.extras import missing_package
from neuromem.documents.limits import FileLimits
from neuromem.documents.plain import tidy

if TYPE_CHECKING:
    from pypdf import PdfReader

_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})


def pdf_pages(
    filename: str, data: bytes, limits: FileLimits, progress: Callable[[int, int], None]
) -> tuple[str | None, list[str], tuple[str, ...]]:
    """Title, the text of each page, and what could not be read.

    Raises InvalidInputError, and ConfigurationError where the package for PDF or for its encryption by AES is missing.
    """
    reader, total = _opened(filename, data)
    limits.check("pages", total, f"{filename} has")
    texts: list[str] = []
    warnings: list[str] = []
    characters = 0
    for index in range(total):
        try:
            texts.append(tidy(reader.pages[index].extract_text().translate(_LIGATURES)))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - broken PDFs raise all there is, and other pages may be whole
            warnings.append(f"page {index + 1} cannot be read ({_said(error)})")
            texts.append("")
        characters += len(texts[-1])
        limits.check("characters", characters, f"{filename} has more than")
        progress(index + 1, total)
    if len(warnings) == total:
        raise InvalidInputError(f"{filename} is a broken PDF: {warnings[0]}")
    if not characters:
        raise InvalidInputError(
            f"{filename} has {total:,} pages but no text in them; are they pictures? Make it searchable (OCR) first"
        )
    return _title(reader), texts, tuple(warnings)


def _opened(filename: str, data: bytes) -> "tuple[PdfReader, int]":
    try:
        from pypdf import PdfReader
        from pypdf.errors import DependencyError
    except ImportError:
        raise missing_package("pypdf", "files") from None
    try:
        reader = PdfReader(io.BytesIO(data))
        # Many are encrypted with an empty password, which only says what may be done with them.
        if reader.is_encrypted and not reader.decrypt(""):
            raise InvalidInputError(f"{filename} is encrypted with a password; save it without one")
        total = len(reader.pages)
    except (InvalidInputError, MemoryError):
        raise
    except DependencyError:
        raise missing_package("cryptography", "files") from None
    except Exception as error:  # what pypdf and Python raise on broken files is without end
        raise InvalidInputError(f"{filename} is a broken PDF ({_said(error)}); was it downloaded whole?") from error
    if not total:
        raise InvalidInputError(f"{filename} is a PDF without pages; was it downloaded whole?")
    return reader, total


def _title(reader: "PdfReader") -> str | None:
    try:
        title = reader.metadata.title if reader.metadata else None
    except Exception:  # noqa: BLE001 - a broken title is no reason to lose the text
        return None
    return title if isinstance(title, str) else None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
