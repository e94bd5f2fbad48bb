"""Whether two memories say the same. Decides on texts and times alone; knows no database.

Two memories too many cost a line of context; one lost is lost. So two texts say the same only when one of them holds
every word of the other, in its order and from its beginning: "lives in Porto" and "lives in Porto, near the river", but
not "has 2 cats" and "has 3 cats", "likes tea" and "likes no tea", "Anna moved" and "Anna's brother moved".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, cast

from memground.names import plain
from memground.text import fold
from neuromem.extraction.policy import HygieneRules

type Verdict = Literal["same", "richer", "different"]

_SAME_EVENT = timedelta(days=1)
"""Episodes told with times further apart than this are two events, however alike their words."""

_FILLING = frozenset(
    ("a", "an", "the", "is", "are", "am", "really", "very", "quite", "just", "also", "too", "currently", "now")
)
"""Words that come and go between tellings of the same thing."""

_TURNING = frozenset(
    (  # noqa: SIM905 - reads better than forty quoted words
        "not no never none nobody nothing without neither nor hardly except but unless cannot can't don't doesn't "
        "isn't aren't won't didn't wasn't stop stopped quit ended former formerly previously ex used was were had "
        "longer anymore until till if maybe perhaps"
    ).split()
)
_TURNING_CJK = ("不", "没", "别", "无", "未", "非", "曾", "过去", "以前", "停", "除", "但", "如果", "可能", "也许")
"""Words that turn what stands before them into something else."""

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\s\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_PUNCTUATION = ".,;:!?\"'()[]…。，！？；：、“”‘’（）「」"


@dataclass(frozen=True, slots=True)
class Statement:
    """What is compared: a text, when it is true, and whether it tells of one event."""

    content: str
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    event: bool = False


def compare(new: Statement, old: Statement, similarity: float, rules: HygieneRules) -> Verdict:
    """Whether `new` says the `same` as `old` or less, the same and more (`richer`), or something `different`.

    `similarity`: the cosine of their vectors. Equal texts are the same whatever their vectors.
    """
    if _another_time(new, old):
        return "different"
    if fold(new.content) == fold(old.content):
        return "same"
    told, known = _told(new.content), _told(old.content)
    if not told or not known:
        return "different"
    if told == known:
        return "same"
    if similarity < rules.near_duplicate:
        return "different"
    short, long = sorted((told, known), key=len)
    if long[: len(short)] != short or _turns(long[len(short) :]):
        return "different"
    return "richer" if len(told) > len(known) else "same"


def says_just(content: str, statement: str) -> bool:
    """Whether a text says a statement in its words, and nothing else: names may be written in any of their forms."""
    told = _told(plain(content))
    return bool(told) and told == _told(plain(statement))


def beginning(content: str) -> str:
    """The first word that counts: texts that begin otherwise never say the same."""
    told = _told(content)
    return told[0] if told else fold(content)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a memory that was told again: nothing is lost, the surer telling counts."""
    entities = [*_entities(old), *_entities(new)]
    together = {**new, **old}
    if entities:
        together["entities"] = list(dict.fromkeys(entities))
    sure = [value for value in (old.get("confidence"), new.get("confidence")) if isinstance(value, int | float)]
    if sure:
        together["confidence"] = max(sure)
    return together


def _entities(metadata: Mapping[str, Any]) -> Sequence[Any]:
    value = metadata.get("entities")
    return [str(name) for name in cast("list[Any]", value)] if isinstance(value, list) else []


def _another_time(new: Statement, old: Statement) -> bool:
    """Whether the two are about different times: another event, or true again after it had ended."""
    if new.event or old.event:
        if new.valid_from is None or old.valid_from is None:
            return False
        return abs(new.valid_from - old.valid_from) >= _SAME_EVENT
    return old.valid_to is not None and new.valid_to != old.valid_to


def _turns(further: Sequence[str]) -> bool:
    joined = "".join(further)
    return not _TURNING.isdisjoint(further) or any(word in joined for word in _TURNING_CJK)


@lru_cache(maxsize=4_096)
def _told(content: str) -> tuple[str, ...]:
    """The words in their order. Not stemmed: "lived" is not "lives". Signs stay: C is not C++, 5 is not -5."""
    tokens = (token.strip(_PUNCTUATION) for token in _TOKEN.findall(fold(content)))
    return tuple(token for token in tokens if token and token not in _FILLING)
