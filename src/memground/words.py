"""The words of a text, as keyword search compares them.

English words are stemmed; scripts that write no spaces between words (Chinese, Japanese, Thai …), and Korean, whose
words carry their particles, are read as single characters and pairs of neighbours. A text and a question go through the
same function, so they meet whatever the language.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, cast

import Stemmer

UNSPACED = (
    r"\u3005-\u3007\u3040-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
)
_JOINING = r"\-._/@:+,&'"
"""Characters that, between letters or digits, do not end a word: 3.14, TP-1364, ann@example.org, well-known."""

_RUN = re.compile(rf"([{UNSPACED}]+)|[^ {_JOINING}{UNSPACED}]+(?:[{_JOINING}][^ {_JOINING}{UNSPACED}]+)*")
_PIECE = re.compile(rf"[^{_JOINING}]+")
_PART = re.compile(r"[0-9]+|[^0-9]+")
_NEGATED = re.compile(r"\b[a-z]+n't\b")
_CLITIC = re.compile(r"\b'(?:s|re|d|ll|ve|m)\b")
_MAX_JOINED = 4
"""Longer compounds are paths, addresses and codes, which nobody writes in another way."""

# What says nothing about what a text is about, in statements and in questions. Not "may", "will" or "us": a month, a
# name and a country.
_EMPTY = frozenset(
    (  # noqa: SIM905 - reads better than a hundred quoted words
        "a an the and or but if then so too very just of in on at to by for with from as into out up than not no nor "
        "what which who whom whose when where why how do does did done doing is are was were be been being am has have "
        "had having can could would shall should might must i me my we our you your he him his she her it its they "
        "them their this that these those there any some about such own same both each few more most other only again "
        "here once because until while during before after above below between through mine ours yours hers theirs "
        "myself yourself himself herself itself ourselves yourselves themselves much many cannot dont didnt doesnt "
        "isnt im ive"
    ).split()
)
_ASKING_CJK = re.compile(
    "为什么|什么时候|什么|怎么样|怎么|哪里|哪儿|哪个|哪些|哪|多少|多久|是不是|有没有|吗|呢|谁|几|请问"
)
_stem = cast(Callable[[str], str], cast(Any, Stemmer).Stemmer("english").stemWord)


def words(text: str) -> list[str]:
    """The words of a text in its order, repeated as there; empty for a text without a letter or digit.

    Words that only hold a sentence together are left out, unless the text has no others. A compound gives its parts and
    the whole: "TP-1364" is found by "1364" and by "TP1364", and the other way about.
    """
    telling: list[str] = []
    empty: list[str] = []
    for run in _RUN.finditer(_folded(text)):
        if run[1]:
            telling += run[1]
            telling += map("".join, pairwise(run[1]))
            continue
        pieces = _PIECE.findall(run[0])
        for piece in pieces:
            (empty if piece in _EMPTY else telling).append(_stem(piece))
            if not piece.isalpha() and len(pieces) <= _MAX_JOINED:
                parts = _PART.findall(piece)
                telling += map(_stem, parts) if 1 < len(parts) <= _MAX_JOINED else ()
        if 1 < len(pieces) <= _MAX_JOINED and not _EMPTY.issuperset(pieces):
            telling.append(_stem("".join(pieces)))
    return telling or empty


def asked(query: str) -> list[str]:
    """The different words of a question, without those that only make it one."""
    return list(dict.fromkeys(words(_ASKING_CJK.sub(" ", query)) or words(query)))


def keys(owner: str, terms: Iterable[str]) -> list[int]:
    """Each word as a number of its owner's own (signed, 64 bits).

    The same word of two owners gives two numbers: an index over them holds every owner's words apart, so a search costs
    what the owner's own rows cost, and what others wrote changes no score.
    """
    prefix = hashlib.blake2b(owner.encode() + b"\x00", digest_size=8)
    numbers: dict[str, int] = {}
    for term in (terms := list(terms)):
        if term not in numbers:
            state = prefix.copy()
            state.update(term.encode())
            numbers[term] = int.from_bytes(state.digest(), signed=True)
    return [numbers[term] for term in terms]


def _folded(text: str) -> str:
    """One form for what people would call the same: lower case, without accents and clitics ('s), words and spaces."""
    plain = text.isascii()
    text = (text if plain else unicodedata.normalize("NFKD", text)).casefold().translate(_MEANING)
    if "'" in text:
        text = _CLITIC.sub("", _NEGATED.sub("not", text))
    return text if plain else unicodedata.normalize("NFC", text)


class _Meaning(dict[int, str]):
    """What a character is to a word, found when it is first met: part of it, a space, or nothing."""

    def __missing__(self, code: int) -> str:
        self[code] = meaning = _meaning(chr(code))
        return meaning


def _meaning(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category[0] in "LN":
        return character
    if category in ("Mc", "Mn"):
        # Vowels of Indian and south-east Asian scripts are marks without a class, or with one of their own. Accents,
        # and the points that Arabic and Hebrew seldom write, have others.
        own = unicodedata.combining(character)
        return character if own in (0, 7, 8, 9) or 84 <= own <= 132 else ""
    return "" if category in ("Me", "Cf") else " "


_MEANING = _Meaning(
    {
        **{ord(character): character for character in "-._/@:+,&'"},
        **dict.fromkeys(map(ord, "‘’ʼ"), "'"),
        0x2010: "-",  # the hyphen that is no minus
        0x200B: " ",  # zero width space: where Khmer and Thai may break a line
        0x0640: "",  # stretches Arabic words
        0x034F: "",  # joins marks
        **dict.fromkeys([*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)], ""),  # choose how the last one looks
        # Letters with a stroke, and joined ones, that Unicode does not take apart.
        **str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}),
    }
)
