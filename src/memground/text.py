"""Checks and small functions on text that both systems need."""

import math
import re
import reprlib
import unicodedata
from collections.abc import Mapping
from typing import Any, cast

from memground.errors import InvalidInputError

MAX_TEXT = 1_000_000
"""Characters one text may have. Longer things are files."""

_repr = reprlib.Repr(maxstring=80, maxother=80)

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f]")
_SENTENCE = re.compile(r"[^.!?。！？]+[.!?。！？]*")
# Not "may", "will" or "us": a month, a name and a country.
_ASKING = frozenset(
    (  # noqa: SIM905 - reads better than a hundred quoted words
        "what which who whom whose when where why how do does did done doing is are was were be been being am has have "
        "had having can could would shall should might must i me my we our you your he him his she her it its they "
        "them their this that these those there any some about from up out into than then so too very just if of"
    ).split()
)
_ASKING_CJK = re.compile(
    "为什么|什么时候|什么|怎么样|怎么|哪里|哪儿|哪个|哪些|哪|多少|多久|是不是|有没有|吗|呢|谁|几|请问"
)
_WORD = re.compile(r"[^\W_]+", re.UNICODE)


def show(value: object) -> str:
    """A short repr for messages, safe on huge and deeply nested values."""
    try:
        return _repr.repr(value)
    except ValueError:  # a number of more digits than Python writes
        return f"a {type(value).__name__} of thousands of digits"


def check_text(value: object, name: str, *, limit: int = MAX_TEXT, empty: bool = False) -> str:
    """`value` if it is a text PostgreSQL can hold and people can read back.

    Raises InvalidInputError for another type, NUL characters, lone surrogates, more than `limit` characters and,
    unless `empty`, for a text of white space only.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a str, got {type(value).__name__} {show(value)}")
    if len(value) > limit:
        raise InvalidInputError(f"{name} has {len(value):,} characters; at most {limit:,} are accepted")
    if "\x00" in value:
        raise InvalidInputError(f"{name} holds a NUL character at position {value.index(chr(0))}; remove it")
    if match := _SURROGATE.search(value):
        raise InvalidInputError(
            f"{name} holds the lone surrogate U+{ord(match[0]):04X} at position {match.start()}, "
            "which is no character; decode the text with errors='replace' first"
        )
    if not empty and not value.strip():
        raise InvalidInputError(f"{name} is empty; pass a text with at least one visible character")
    return value


def has_cjk(text: str) -> bool:
    """Whether the text holds Chinese, Japanese or Korean characters, which need segmentation."""
    return _CJK.search(text) is not None


def segment(text: str) -> str:
    """The text with a space around every CJK character, so that a word-splitting index sees each of them."""
    return _CJK.sub(r" \g<0> ", text)


def fold(text: str) -> str:
    """One form for texts that people would call the same: NFKC, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def question_share(text: str) -> float:
    """The share of the text's sentences that ask, 0 to 1."""
    sentences = [sentence for sentence in _SENTENCE.findall(text) if _WORD.search(sentence)]
    return sum(sentence.rstrip().endswith(("?", "？")) for sentence in sentences) / len(sentences) if sentences else 0.0


def telling(query: str) -> str:
    """The query without the words that only make it a question; the whole query where nothing else is left.

    "What does Mara do for work?" is about Mara and work: a turn that says "he does" is no answer.
    """
    left = _ASKING_CJK.sub(" ", " ".join(word for word in query.split() if _bare(word) not in _ASKING))
    return left if _WORD.search(left) else query


def _bare(word: str) -> str:
    """A word as it stands in a list: lower case, without punctuation around it and without 's, 're, 'd or 'll."""
    return re.sub(r"['’](s|re|d|ll|ve|m)$", "", fold(word).strip(".,;:!?()[]\"'…"))


_JSON_DEPTH = 32
_JSON_SIZE = 1_000_000


def check_json(value: Any, name: str) -> Any:
    """A copy of `value` made of what JSON and PostgreSQL both hold: dict, list, str, bool, None, int64, finite float.

    Raises InvalidInputError naming the place (`metadata.a[2]`) for anything else, for nesting deeper than 32 and for
    more than 1,000,000 characters and entries in all.
    """
    budget = [_JSON_SIZE]
    return _json(value, name, _JSON_DEPTH, budget)


def _json(value: Any, place: str, depth: int, budget: list[int]) -> Any:
    budget[0] -= len(value) if isinstance(value, str) else 1
    if budget[0] < 0:
        raise InvalidInputError(f"{place.partition('.')[0]} is larger than {_JSON_SIZE:,} characters and entries")
    if depth < 0:
        raise InvalidInputError(f"{place[:80]}… is nested deeper than {_JSON_DEPTH} levels")
    match value:
        case None | bool():
            return value
        case str():
            return check_text(str.__str__(value), place, empty=True)  # str() of an enum's member gives its name
        case int():
            if not -(2**63) <= value < 2**63:
                raise InvalidInputError(f"{place} is {value}, which does not fit 64 bits; pass it as a string")
            return int(value)
        case float():
            if not math.isfinite(value):
                raise InvalidInputError(f"{place} is {value}, which JSON cannot hold; pass None or a finite number")
            return float(value)
        case Mapping():
            copy: dict[str, Any] = {}
            for key, item in cast(Mapping[Any, Any], value).items():
                if not isinstance(key, str):
                    raise InvalidInputError(
                        f"{place} has the key {key!r} of type {type(key).__name__}; keys must be str"
                    )
                budget[0] -= len(key)
                check_text(key, f"a key of {place}", empty=True)
                copy[key] = _json(item, f"{place}.{key}", depth - 1, budget)
            return copy
        case list() | tuple():
            return [_json(item, f"{place}[{i}]", depth - 1, budget) for i, item in enumerate(value)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case _:
            raise InvalidInputError(
                f"{place} is a {type(value).__name__}, which JSON cannot hold; "
                "accepted: dict, list, str, int, float, bool, None (write times with .isoformat())"
            )
