"""Names of things: one form for those that people would call the same, and which of them a text holds.

A name stands in a text as words: "ann" is not in "planning", "new york" is in "New_York's mayor". Scripts that write no
spaces between words (Chinese, Japanese, Thai …) have no such bounds: 李雷 is in 我认识李雷.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

from memground.errors import InvalidInputError
from memground.text import check_text, show
from memground.words import UNSPACED

LONGEST = 255
SPAN = 10
"""Most words (or characters, where they are not spaced) that a name has, to be found in a text by `spans`."""
MOST_SPANS = 3_000

_UNSPACED = re.compile(f"[{UNSPACED}]")
_SPACES = str.maketrans(dict.fromkeys("_-\u2010\u2011\u2012\u2013\u2014\u2015\u2212", " "))
EDGE = " .,;:!?\"'`´‘’“”«»()[]{}<>|\\/。，、；：！？「」『』《》（）【】…·"
"""What may stand around a name without being part of it. Not "+" and "#": C++ is not C."""
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def plain(text: str) -> str:
    """A text in the form of names: NFKC, lower case, nothing invisible, `_` and `-` as spaces, single spaces."""
    if not text.isascii():
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
        text = unicodedata.normalize("NFKC", text)
    folded = text.casefold()
    if not folded.isascii():
        folded = unicodedata.normalize("NFKC", folded)
    return " ".join(folded.translate(_SPACES).split())


def normal_name(name: object, what: str = "name") -> str:
    """The one form of a name; see `plain`. Quotes and full stops around it are no part of it.

    Raises InvalidInputError for what is no text, holds nothing to see, or is longer than 255 characters.
    """
    text = plain(check_text(name, what, limit=LONGEST))
    normal = text.strip(EDGE) or text
    if not normal:
        raise InvalidInputError(f"{what}={show(name)} holds no visible character")
    return check_text(normal, what, limit=LONGEST)


def term(text: object, what: str, *, limit: int = 100) -> str:
    """A type or relation as one word in snake_case: "Lives in", "livesIn" and "LIVES-IN" are lives_in.

    Raises InvalidInputError for what is no text, holds no letter or digit, or is longer than `limit` characters.
    """
    spaced = plain(_HUMP.sub(" ", check_text(text, what, limit=limit)))
    found = "_".join("".join(c if _is_letter(c) else " " for c in spaced).split())
    if not found:
        raise InvalidInputError(f"{what}={show(text)} holds no letter or digit; pass a name such as 'lives_in'")
    return check_text(found, what, limit=limit)


def names_in(text: str, names: Iterable[str]) -> set[str]:
    """Those of the names, each in its normal form, that the text holds as words."""
    searched = plain(text)
    return {name for name in names if name in searched and _holds(searched, name)}


def pattern(name: str) -> str:
    """A normal name as PostgreSQL finds it in a text: a regular expression for `~`, whatever the database's locale.

    Fits where `names_in` says that the text (in NFKC) holds the name, but for letters whose lower case is longer (ß).
    """
    letters = "".join(_GAP if character == " " else _any_case(character) for character in name)
    begins, ends = (_joins(character) for character in (name[0], name[-1]))
    return (_BEGIN if begins else "") + letters + (_END if ends else "")


_GAP = r"[[:space:]_\-\u2010-\u2015\u2212]+"
_BEGIN = f"(?:^|[^[:alnum:]]|[{UNSPACED}])"
_END = f"(?:$|[^[:alnum:]]|[{UNSPACED}])"


def _any_case(character: str) -> str:
    forms = {form for form in (character, character.upper(), character.title()) if len(form) == 1}
    return "[" + "".join(rf"\{form}" if form in r"\]^-[" else form for form in sorted(forms)) + "]"


def spans(text: str) -> list[str]:
    """Every part of the text that could be a name in its normal form: up to `SPAN` neighbouring words each.

    At most `MOST_SPANS`, those of a long text's beginning.
    """
    searched = plain(text)
    places = list(_words(searched))
    found: dict[str, None] = {}
    for number, (start, _) in enumerate(places):
        if searched[start] in EDGE:
            continue
        for _, end in places[number : number + SPAN]:
            if searched[end - 1] not in EDGE:
                found[searched[start:end]] = None
        if len(found) >= MOST_SPANS:
            break
    return list(found)[:MOST_SPANS]


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Where words begin and end. A character that joins no other is a word of its own."""
    start = 0
    while start < len(text):
        if text[start] == " ":
            start += 1
            continue
        end = start + 1
        while _joins(text[start]) and end < len(text) and _joins(text[end]):
            end += 1
        yield start, end
        start = end


def _holds(text: str, name: str) -> bool:
    place = text.find(name)
    while place >= 0:
        end = place + len(name)
        begins = place == 0 or not (_joins(text[place - 1]) and _joins(name[0]))
        if begins and (end == len(text) or not (_joins(name[-1]) and _joins(text[end]))):
            return True
        place = text.find(name, place + 1)
    return False


@lru_cache(maxsize=4_096)
def _is_letter(character: str) -> bool:
    """Letters, digits and the marks on them."""
    return unicodedata.category(character)[0] in "LNM"


@lru_cache(maxsize=4_096)
def _joins(character: str) -> bool:
    """Whether the character makes one word with its neighbours."""
    return _is_letter(character) and _UNSPACED.match(character) is None
