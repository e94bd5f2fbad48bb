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
_SENTENCE = re.compile(r"[^.!?。！？]+[.!?。！？]*")
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


def fold(text: str) -> str:
    """One form for texts that people would call the same: NFKC, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def question_share(text: str) -> float:
    """The share of the text's sentences that ask, 0 to 1."""
    sentences = [sentence for sentence in _SENTENCE.findall(text) if _WORD.search(sentence)]
    return sum(sentence.rstrip().endswith(("?", "？")) for sentence in sentences) / len(sentences) if sentences else 0.0


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


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number and what there is so much of: "1 turn", "2,000 memories"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
