"""Pages in chunks of a size that can be embedded, cut where a reader would pause."""

import re
import unicodedata
from collections.abc import Iterator

from memground.errors import InvalidInputError
from memground.text import show
from neuromem.documents.text import DocumentChunk, DocumentText

# Possessive, and begun only where a run of marks begins: linear on any text.
_LATIN_END = r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+"
_SENTENCE_END = rf"(?:{_LATIN_END}\s++|[。！？]++[”’』」）】]*+\s*+)"
_PAUSES = tuple(
    re.compile(pattern)
    for pattern in (
        r"\n[ \t]*+(?=#{1,6} )",  # before a heading
        r"\n[ \t]*+\n\s*+",
        rf"(?:{_LATIN_END}|[。！？]++[”’』」）】]*+)[ \t]*+\n\s*+",
        r"\n\s*+",
        _SENTENCE_END,
        r"[,;:]\s++|[，、；：]\s*+",
        r"\s++",
    )
)
"""Where to cut, the best first; the cut is where the match ends."""
_STARTS = tuple(re.compile(pattern) for pattern in (r"\n\s*+", _SENTENCE_END, r"[，、；：]\s*+", r"\s++"))
"""Where an overlap may begin, the best first."""
_HEADING = re.compile(r"#{1,6} ")
_AHEAD = 200
"""How far beyond a chunk is looked for what may follow a cut, such as white space."""


def chunks(document: DocumentText, *, characters: int = 1000, overlap: int = 100) -> tuple[DocumentChunk, ...]:
    """The document in pieces of at most `characters`, in order, none over two pages.

    Cut before a heading, between paragraphs, lines, sentences (Chinese too), clauses or words: the first of these found
    in a chunk's second half. Only a word of half a chunk's length is cut. A chunk repeats up to `overlap` characters of
    the one before it on its page, from the beginning of a line, sentence or word on. Every visible character is in some
    chunk; no chunk begins or ends with white space. The same text gives the same chunks.
    """
    if type(characters) is not int or not 20 <= characters <= 100_000:
        raise InvalidInputError(
            f"characters={show(characters)} is not accepted; pass a whole number from 20 to 100,000"
        )
    if type(overlap) is not int or not 0 <= overlap <= characters // 2:
        raise InvalidInputError(
            f"overlap={show(overlap)} is not accepted; pass a whole number from 0 to half of characters={characters}"
        )
    return tuple(
        DocumentChunk(page.text[start:end], page.number, start, end)
        for page in document.pages
        for start, end in _spans(page.text, characters, overlap)
    )


def _spans(text: str, characters: int, overlap: int) -> Iterator[tuple[int, int]]:
    start, last = _skip_blank(text, 0), len(text.rstrip())
    while start < last:
        cut = last if last - start <= characters else _cut(text, start, characters)
        yield start, start + len(text[start:cut].rstrip())
        if cut >= last:
            return
        start = _skip_blank(text, _overlapping(text, max(start + 1, cut - overlap), cut))


def _skip_blank(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _cut(text: str, start: int, characters: int) -> int:
    """Where a chunk that begins at `start` ends; what follows is the next one's."""
    low, high = start + characters // 2, start + characters
    after_heading = 0
    for pause in _PAUSES:
        matches = pause.finditer(text, low, high + _AHEAD)
        for cut in reversed([match.end() for match in matches if match.start() <= high]):
            if cut > high and len(text[start:cut].rstrip()) > characters:
                continue
            if not _is_in_heading(text, start, cut):
                return cut
            after_heading = after_heading or cut
    if after_heading:
        return after_heading
    while high > low + 1 and unicodedata.combining(text[high]):
        high -= 1
    return high


def _is_in_heading(text: str, start: int, cut: int) -> bool:
    """Whether the line that ends before the cut, or holds it, is a heading."""
    end = cut
    while end > start and text[end - 1].isspace():
        end -= 1
    return _HEADING.match(text, text.rfind("\n", start, end) + 1 or start) is not None


def _overlapping(text: str, low: int, cut: int) -> int:
    """Where the next chunk begins, from `low` on; at the cut if there is no good place before it."""
    for start in _STARTS:
        match = start.search(text, low - 1, cut)
        if match and low <= match.end() < cut:
            return match.end()
    return cut
