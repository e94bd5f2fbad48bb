"""The words of a text, as keyword search compares them.

English words are stemmed; Chinese, Japanese and Korean texts, which write no spaces, are read as single characters and
pairs of neighbours. A text and a question go through the same function, so they meet whatever the language.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, cast

import Stemmer

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f"
# A run of CJK characters, or words held together by what does not end one: 3.14, TP-1364, ann@example.org, well-known.
_RUN = re.compile(rf"([{_CJK}]+)|[^\W_{_CJK}]+(?:[-._/@:+,&][^\W_{_CJK}]+)*")
_PART = re.compile(r"[^\W_]+")
_CLITIC = re.compile(r"(?:n['’]t|['’](?:s|re|d|ll|ve|m))\b")
_ACCENT = re.compile(r"[\u0300-\u036f]")
_JOINED_PARTS = 4
"""Longer compounds are paths and addresses, which nobody writes as one word."""

# What says nothing about what a text is about, in statements and in questions. Not "may", "will" or "us": a month, a
# name and a country.
_EMPTY = frozenset(
    (  # noqa: SIM905 - reads better than a hundred quoted words
        "a an the and or but if then so too very just of in on at to by for with from as into out up than not no nor "
        "what which who whom whose when where why how do does did done doing is are was were be been being am has have "
        "had having can could would shall should might must i me my we our you your he him his she her it its they "
        "them their this that these those there any some about such own same both each few more most other only again "
        "here once because until while during before after above below between through"
    ).split()
)
_ASKING_CJK = re.compile(
    "为什么|什么时候|什么|怎么样|怎么|哪里|哪儿|哪个|哪些|哪|多少|多久|是不是|有没有|吗|呢|谁|几|请问"
)
_stem = cast(Callable[[str], str], cast(Any, Stemmer).Stemmer("english").stemWord)


def words(text: str) -> list[str]:
    """The words of a text in its order, repeated as there; empty for a text without a letter or digit.

    Words that only hold a sentence together are left out, unless the text has no others. A compound gives its parts and
    the whole: "TP-1364" is found by "1364" and by "TP1364".
    """
    telling: list[str] = []
    empty: list[str] = []
    for run in _RUN.finditer(_folded(text)):
        if run[1]:
            characters = run[1]
            telling += characters
            telling += map("".join, pairwise(characters))
            continue
        parts = _PART.findall(run[0])
        for part in parts:
            (empty if part in _EMPTY else telling).append(_stem(part))
        if 1 < len(parts) <= _JOINED_PARTS:
            telling.append("".join(parts))
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
    found: list[int] = []
    for term in terms:
        state = prefix.copy()
        state.update(term.encode())
        found.append(int.from_bytes(state.digest(), signed=True))
    return found


def _folded(text: str) -> str:
    """Lower case, compatible forms made one, accents and clitics ('s, n't) gone."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFKD", text)))
    return _CLITIC.sub("", text.casefold())
