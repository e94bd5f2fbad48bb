"""A model's answer, read as JSON whatever it is wrapped in."""

import json
import re
from collections.abc import Mapping
from typing import Any, SupportsIndex, cast

import json_repair

from memground.errors import ProviderError

MAX_ANSWER = 1_000_000
MAX_REPAIR = 100_000
"""Characters of an answer that is JSON, and of one that must be repaired, which takes time."""

_THOUGHT = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_EXCERPT = 120
_GLANCES = 5
"""How often a character may be read on average while an answer is repaired."""


def read_json(answer: object, model: str = "the model") -> dict[str, Any] | list[Any]:
    """The JSON object or list in an answer: bare, in a code fence or amid prose, and repaired where it is broken.

    Raises ProviderError saying what came instead.
    """
    if not isinstance(answer, str):
        raise ProviderError(f"{model} answered with {type(answer).__name__} instead of a text")
    if len(answer) > MAX_ANSWER:
        raise ProviderError(f"{model} answered with {len(answer):,} characters; at most {MAX_ANSWER:,} are read")
    text = _without_thoughts(answer).strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _repaired(text, model)
    if not isinstance(found, dict | list):
        raise ProviderError(f"{model} answered without JSON: {_excerpt(answer)}")
    return cast("dict[str, Any] | list[Any]", found)


def _without_thoughts(answer: str) -> str:
    """In one pass: a pattern from <think> to </think> would look for the end anew from each of many beginnings."""
    said: list[str] = []
    end, begun = 0, None
    for tag in _THOUGHT.finditer(answer):
        if begun is None and not tag[1]:
            begun = tag.start()
        elif begun is not None and tag[1]:
            said.append(answer[end:begun])
            end, begun = tag.end(), None
    return "".join([*said, answer[end:]])


class _Glanced(str):
    """A text that is looked into only so often: the time json_repair takes over garbage grows with its square.

    What can be repaired is read about twice.
    """

    def __init__(self, text: str) -> None:
        self._left = _GLANCES * len(text) + 10_000

    def __getitem__(self, place: "SupportsIndex | slice[Any, Any, Any]", /) -> str:
        self._left -= 1
        if self._left < 0:
            raise ValueError("it is read again and again")
        return super().__getitem__(place)


def _repaired(text: str, model: str) -> object:
    if not re.search(r"[\[{]", text):
        return None
    if len(text) > MAX_REPAIR:
        raise ProviderError(
            f"{model} answered with {len(text):,} characters of broken JSON; at most {MAX_REPAIR:,} are repaired"
        )
    try:
        return json_repair.loads(_Glanced(text))
    except (ValueError, RecursionError) as error:
        raise ProviderError(f"{model} answered with JSON that cannot be repaired ({error}): {_excerpt(text)}") from None


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…")


def listed(section: object, essential: str) -> list[object]:
    """A section as a list; one item may stand alone, an object may number its items."""
    match section:
        case list():
            return cast("list[object]", section)
        case dict():
            given = cast("dict[Any, object]", section)
            return [given] if essential in given else list(given.values())
        case None | "" | bool():
            return []
        case _:
            return [section]


def lower_keys(given: Mapping[Any, Any]) -> dict[str, Any]:
    """An object by its keys in lower case, without blanks around them."""
    return {str(key).strip().lower(): value for key, value in given.items()}
