"""Which fields of a memory are searched, and how: `IndexHint` and its paths.

A path starts with `data` or `metadata` and names members with dots: `data.summary`. `[*]` goes into every element of
an array, `[3]` into one: `data.items[*].desc`. A name with dots, quotes or brackets is written in double quotes,
`data."a.b".c`, with `\\"` and `\\\\` inside them. What a path does not lead to is left out.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from memground.errors import InvalidInputError
from memground.text import show
from omnimem.models.base import Value, items, name

MAX_FIELDS = 32
MAX_PATH = 255
MAX_STEPS = 32
MAX_VECTORS = 64
"""Vectors one memory may have."""
TEXT = "text"
"""The name of the vector of the main text."""
_EVERY = -1
_KEY = re.compile(r'"((?:[^"\\]|\\["\\])+)"|([^."\[\]\s][^."\[\]]*)')
_PLACE = re.compile(r"\[(\*|0|[1-9][0-9]{0,5})\]")
_BARE = re.compile(r'[^."\[\]\s][^."\[\]]*')

type Step = str | int
"""A member's name, a place in an array, or -1 for every place."""


@dataclass(frozen=True)
class IndexHint(Value):
    """How fields of `data` and `metadata` take part in search; without one only the text does.

    `vector_concat_fields`: put behind the text, and embedded with it. `vector_fields`: embedded on their own, each
    element of an array under its own name (`data.items[0].desc`). `fulltext_fields`: their words are found as the
    text's are.
    """

    vector_concat_fields: Sequence[str] = ()
    vector_fields: Sequence[str] = ()
    fulltext_fields: Sequence[str] = ()

    def __post_init__(self) -> None:
        for field in ("vector_concat_fields", "vector_fields", "fulltext_fields"):
            paths = tuple(items(getattr(self, field), f"index_hint.{field}", "paths"))
            if len(paths) > MAX_FIELDS:
                raise InvalidInputError(f"index_hint.{field} has {len(paths)} paths; at most {MAX_FIELDS} are accepted")
            for path in paths:
                parse_path(path)
            self._settle(**{field: tuple(dict.fromkeys(paths))})

    def vector_texts(self, text: str | None, document: Mapping[str, Any]) -> dict[str, str]:
        """What is embedded, by the name of its field. `document` has the roots `data` and `metadata`.

        Raises InvalidInputError where that would be more than 64 vectors.
        """
        parts = [text] if text else []
        parts += [found for path in self.vector_concat_fields for _, found in texts_at(path, document)]
        texts = {TEXT: "\n".join(parts)} if parts else {}
        for path in self.vector_fields:
            for place, found in texts_at(path, document):
                texts[place] = found
                if len(texts) > MAX_VECTORS:
                    raise InvalidInputError(
                        f"index_hint.vector_fields lead to more than {MAX_VECTORS} texts ({path!r}); "
                        "name fewer fields, or put them behind the text by vector_concat_fields"
                    )
        return texts

    def words_of(self, text: str | None, document: Mapping[str, Any]) -> str:
        """The text whose words are found: the main one and the fulltext fields."""
        found = [part for path in self.fulltext_fields for _, part in texts_at(path, document)]
        return "\n".join([*([text] if text else []), *found])


NO_HINT = IndexHint()


@lru_cache(maxsize=1_024)
def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of a path. Raises InvalidInputError when it is malformed, too long or starts elsewhere."""
    name(path, "an index_hint path", limit=MAX_PATH)
    steps: list[Step] = []
    position = 0
    while True:
        if (key := _KEY.match(path, position)) is None:
            raise _malformed(path, position)
        steps.append(key[2] or re.sub(r"\\(.)", r"\1", key[1]))
        position = key.end()
        while place := _PLACE.match(path, position):
            steps.append(_EVERY if place[1] == "*" else int(place[1]))
            position = place.end()
        if position == len(path):
            break
        if path[position] != ".":
            raise _malformed(path, position)
        position += 1
    if steps[0] not in ("data", "metadata") or len(steps) == 1:
        raise InvalidInputError(f"index_hint path {show(path)} must lead into data or metadata, such as data.summary")
    if len(steps) > MAX_STEPS:
        raise InvalidInputError(
            f"index_hint path {show(path)} has {len(steps)} steps; at most {MAX_STEPS} are accepted"
        )
    return tuple(steps)


def texts_at(path: str, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(place, text) of all a path leads to, in order. An array at its end is one text, its elements line by line."""
    for place, value in _walk(parse_path(path), document, ""):
        if text := "\n".join(_scalars(value)).strip():
            yield place, text


def _walk(steps: tuple[Step, ...], value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if not steps:
        yield place, value
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        if isinstance(value, Mapping) and step in value:
            written = step if _BARE.fullmatch(step) else json.dumps(step, ensure_ascii=False)
            yield from _walk(rest, value[step], f"{place}.{written}" if place else written)
    elif isinstance(value, list):
        found = cast("list[Any]", value)
        for index in range(len(found)) if step == _EVERY else [step]:
            if index < len(found):
                yield from _walk(rest, found[index], f"{place}[{index}]")


def _scalars(value: Any) -> Iterator[str]:
    """The text of a value: a string, a number, or those of an array. Objects, null and booleans say nothing."""
    match value:
        case str():
            yield value
        case bool() | None:
            return
        case int() | float():
            yield json.dumps(value)
        case list():
            for item in cast("list[Any]", value):
                if not isinstance(item, list):
                    yield from _scalars(item)
        case _:
            return


def _malformed(path: str, position: int) -> InvalidInputError:
    return InvalidInputError(
        f"index_hint path {show(path)} is malformed at character {position}; accepted: such as data.summary, "
        'data.items[*].desc, data."a.b".c'
    )
