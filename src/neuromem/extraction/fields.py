"""One field of a model's answer at a time: what it can be read as, or None. Nothing here raises."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, cast

from memground.clock import as_utc
from memground.errors import InvalidInputError
from memground.names import term
from memground.text import check_json
from neuromem.types import Emotion

MAX_CONTENT = 4_000
MAX_NAME = 255
MAX_ENTITIES = 50
_MAX_LIST, _MAX_DEPTH = 100, 8

_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"[-+]?\d{1,15}(?:\.\d{1,15})?")
_MONTH = re.compile(r"(\d{4})(?:[-/.](\d{1,2}))?")
_LEVELS = {
    "very low": 0.1,
    "low": 0.3,
    "medium": 0.6,
    "moderate": 0.6,
    "high": 0.9,
    "very high": 1.0,
    "低": 0.3,
    "中": 0.6,
    "中等": 0.6,
    "高": 0.9,
}


def text(value: object, limit: int) -> str | None:
    """A text that says something, without what PostgreSQL cannot hold; a longer one ends in "…"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = _written(value)
    if not isinstance(value, str):
        return None
    # Cut first: a text of megabytes need not be read to its end.
    found = _SURROGATE.sub("", value[: limit * 4].replace("\x00", "")).strip()
    if not found:
        return None
    return found if len(found) <= limit else found[: limit - 1].rstrip() + "…"


def name(value: object, limit: int = MAX_NAME) -> str | None:
    """A name on one line; an object may hold it as its "name"."""
    if isinstance(value, Mapping):
        value = cast("Mapping[Any, Any]", value).get("name")
    found = text(value, limit)
    return " ".join(found.split()) or None if found else None


def whole_name(value: object) -> str | None:
    """A name that is not too long: a part of one would be the name of something else."""
    found = name(value, MAX_NAME + 1)
    return found if found and len(found) <= MAX_NAME else None


def kind(value: object) -> str | None:
    """A type of things in snake case."""
    try:
        return term(name(value, 100), "type")
    except InvalidInputError:
        return None


def names(value: object) -> tuple[str, ...]:
    """A list of names, each once; a text may list them with commas."""
    if isinstance(value, str):
        value = re.split(r"[,;，；、]", value[: MAX_NAME * MAX_ENTITIES])
    if not isinstance(value, list):
        return ()
    found = (name(item) for item in cast("list[object]", value)[: MAX_ENTITIES * 4])
    return tuple(dict.fromkeys(item for item in found if item))[:MAX_ENTITIES]


def number(value: object) -> float | None:
    """A finite number, also one written as a text ("0.8", "8/10", "85%")."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = _NUMBER.search(value[:100])
        value = float(match[0]) if match else None
    if not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def confidence(value: object) -> float | None:
    """0 to 1: a share, a percentage, or a word such as "high"."""
    if isinstance(value, str) and (level := _LEVELS.get(value.strip().lower()[:20])) is not None:
        return level
    found = number(value)
    if found is None or found < 0:
        return None
    if found > 1 and (found > 10 or (isinstance(value, str) and "%" in value)):
        found /= 100
    elif found > 1:
        found /= 10
    return min(found, 1.0)


def importance(value: object) -> int | None:
    """1 to 10: a number, a share of 1, or a word such as "high"."""
    level = _LEVELS.get(value.strip().lower()[:20]) if isinstance(value, str) else None
    found = level if level is not None else number(value)
    if found is None:
        return None
    return round(min(max(found * 10 if 0 < found < 1 else found, 1), 10))


def moment(value: object, timezone: tzinfo) -> datetime | None:
    """An ISO 8601 time in UTC; without an offset it is the user's local one, a date its first instant."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 1000 <= value <= 9999 else None
    if not isinstance(value, str) or len(value) > 50:
        return None
    written = value.strip()
    try:
        if match := _MONTH.fullmatch(written):
            found = datetime(int(match[1]), int(match[2] or 1), 1)  # noqa: DTZ001 - the zone follows
        else:
            found = datetime.fromisoformat(written)
        return as_utc(found if found.tzinfo else found.replace(tzinfo=timezone), "time")
    except (ValueError, OverflowError, InvalidInputError):
        return None


def period(start: object, end: object, timezone: tzinfo) -> tuple[datetime | None, datetime | None]:
    """valid_from and valid_to; an end that does not lie after its start is none."""
    first, last = moment(start, timezone), moment(end, timezone)
    return first, None if first is not None and last is not None and last <= first else last


def emotion(value: object) -> Emotion | None:
    """What was felt, where at least its valence is a number."""
    if not isinstance(value, Mapping):
        return None
    given = cast("Mapping[Any, Any]", value)
    valence, arousal = number(given.get("valence")), number(given.get("arousal"))
    if valence is None:
        return None
    return Emotion(min(max(valence, -1.0), 1.0), min(max(arousal or 0.0, 0.0), 1.0), name(given.get("label"), 50))


def numbers(value: object, highest: int) -> tuple[int, ...]:
    """Numbers of turns from 1 to `highest`, in order, each once; texts may hold them ("turn 3")."""
    items = cast("list[object]", value)[:1000] if isinstance(value, list) else [value]
    found: set[int] = set()
    for item in items:
        if isinstance(item, str):
            found.update(int(digits) for digits in re.findall(r"\d{1,9}", item[:1000]))
        elif (found_number := number(item)) is not None:
            found.add(int(found_number))
    return tuple(sorted(number for number in found if 1 <= number <= highest))


def key(value: object) -> str | None:
    """The key of a profile in snake case."""
    found = name(value)
    return "_".join(re.findall(r"[^\W_]+", found.lower()))[:MAX_NAME] or None if found else None


def profile_value(value: object, depth: int = _MAX_DEPTH) -> Any:
    """A value of a profile as JSON holds it, or None where it says nothing. `depth`: of lists inside each other."""
    match value:
        case str():
            found = text(value, 1_000)
            return None if found is None or found.lower() in _NOTHING else found
        case list() if depth:
            kept = [profile_value(item, depth - 1) for item in cast("list[object]", value)[:_MAX_LIST]]
            return [item for item in kept if item is not None] or None
        case list():
            return None
        case _:
            try:
                found = check_json(value, "value")
            except InvalidInputError:
                return None
            return None if found in ({}, None) or len(str(found)) > 10_000 else found


_NOTHING = frozenset({"null", "none", "unknown", "n/a", "not specified", "not mentioned", "未知", "无", "未提及"})


def _written(value: float) -> str | None:
    """A number as a text, where it is one people write."""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else None
    return str(value) if math.isfinite(value) else None


def first(given: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The value of the first of `keys` that has one."""
    return next((given[key] for key in keys if given.get(key) is not None), None)
