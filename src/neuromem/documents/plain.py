"""Bytes that are characters: decoding, and telling texts from everything else."""

import codecs
import re

from memground.errors import InvalidInputError
from memground.extras import missing_package

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HEAD = 4096
_CONTROLS = [chr(code) for code in range(32) if chr(code) not in "\t\n\r\f\v\b\x1b"]
_MOST_CONTROLS = 0.01
_LITTLE_CHAOS = 0.1
_LINE_ENDS = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
_UNWANTED = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufeff]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_SPACED_END = re.compile(r"(?<![^\S\n])[^\S\n]++\n")
_EMPTY_LINES = re.compile(r"\n{3,}+")


def unicode_text(data: bytes) -> str | None:
    """The text, if it is Unicode: by its byte order mark, UTF-16 without one, or valid UTF-8."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], encoding)
    head = data[:_HEAD]
    if b"\x00" in head:
        zeros = head[0::2].count(0), head[1::2].count(0)
        encoding = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
        # Text that is mostly Latin has a zero in most pairs, always on one side.
        return _strict(data, encoding) if min(zeros) == 0 and max(zeros) > len(head) // 4 else None
    return _strict(data, "utf-8")


def is_readable(text: str) -> bool:
    """Whether the characters are a text's: no NUL, hardly any other control character."""
    controls = sum(map(text.count, _CONTROLS))
    return "\x00" not in text and controls <= len(text) * _MOST_CONTROLS


def guessed_text(filename: str, data: bytes) -> tuple[str, str]:
    """The text in whatever older encoding it most probably has, and a warning that says which."""
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        raise missing_package("charset-normalizer", "files") from None
    matches = from_bytes(data)
    best = matches.best()
    western = next((match for match in matches if "cp1252" in match.could_be_from_charset), None)
    # Between code pages of Latin letters the marks differ little, and most texts there are are Western European.
    if best and western and western.chaos <= _LITTLE_CHAOS and western.coherence >= best.coherence:
        best = western
    text = "" if best is None else str(best)
    if best is None or not is_readable(text):
        raise InvalidInputError(f"{filename} is no text in any known encoding; save it as UTF-8")
    return text, f"the encoding is not Unicode, and was guessed to be {best.encoding}"


def clean(text: str) -> str:
    """Lines ended by a line feed, without what PostgreSQL or a reader cannot use: NULs, control characters, halves of
    surrogate pairs (replaced by U+FFFD)."""
    if _SURROGATES.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _UNWANTED.sub("", _LINE_ENDS.sub("\n", text))


def tidy(text: str) -> str:
    """Cleaned, without white space at the ends of lines and with at most one empty line at a time."""
    return _EMPTY_LINES.sub("\n\n", _SPACED_END.sub("\n", clean(text))).strip()


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None
