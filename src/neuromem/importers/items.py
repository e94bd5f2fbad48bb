"""What readers give: turns and facts made storable, and remarks on what was left out or changed."""

import hashlib
import json
import math
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from memground.text import MAX_TEXT
from neuromem import checks
from neuromem.errors import InvalidInputError
from neuromem.types import NewMemory, NewMessage

NAME_LENGTH = 255
"""Characters of a role, a speaker, an id."""

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_MILLISECONDS = 1e11
"""Seconds since 1970 of the year 5138: a larger number counts something smaller."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A message in its session. `owner`: whose it is where a file holds several people's."""

    session_id: str
    message: NewMessage
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """A memory; its external id makes a second import add nothing."""

    memory: NewMemory
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """Something left out (`lost`) or stored in another form: why, and where it stood."""

    reason: str
    place: str
    lost: bool = True


type Item = Turn | Fact | Remark


@dataclass(slots=True)
class Draft:
    """A message as a file has it: anything may be missing or wrong."""

    place: str
    role: Any
    content: Any
    timestamp: Any = None
    external_id: Any = None
    speaker: Any = None
    metadata: Any = None


def conversation(
    session_id: str, drafts: Iterable[Draft], *, begun: Any = None, owner: str | None = None
) -> Iterator[Item]:
    """The turns of one conversation in order.

    A turn without a time takes that of the turn before, the first ones that of the first turn that has one, and where
    none has, `begun`.
    """
    last: datetime | None = None
    waiting: list[Draft] = []
    for draft in drafts:
        try:
            last = moment(draft.timestamp) or last
        except ValueError:
            yield Remark("time not understood", f"{draft.place}: {str(draft.timestamp)[:40]!r}", lost=False)
        if last is None:
            waiting.append(draft)
            continue
        for earlier in waiting:
            yield from _turns(session_id, replace(earlier, timestamp=last), owner)
        waiting.clear()
        yield from _turns(session_id, replace(draft, timestamp=last), owner)
    try:
        start = moment(begun)
    except ValueError:
        start = None
    for draft in waiting:
        yield from _turns(session_id, replace(draft, timestamp=start), owner)


def fact(place: str, memory: NewMemory, owner: str | None) -> Iterator[Item]:
    """A memory whose content and metadata are made storable."""
    content = yield from _text(memory.content, place)
    if content is None:
        return
    if len(content) > MAX_TEXT:
        yield Remark(f"longer than {MAX_TEXT:,} characters", place)
        return
    metadata = yield from _metadata(memory.metadata, place)
    yield Fact(replace(memory, content=content, metadata=metadata), owner)


def moment(value: Any) -> datetime | None:
    """A time as files write it: ISO 8601 (without a zone: UTC), or seconds or milliseconds since 1970.

    None for what is missing (null, "", 0). Raises ValueError for anything else.
    """
    if isinstance(value, datetime):
        return value
    if value in (None, "", 0) or isinstance(value, bool):
        return None
    try:
        if isinstance(value, str) and not re.fullmatch(r"\d{6,}(\.\d+)?", value):
            at = datetime.fromisoformat(value.strip().removesuffix(" UTC"))
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        seconds = float(value)
        if not math.isfinite(seconds):
            raise ValueError(f"{value} is no time")
        return datetime.fromtimestamp(seconds / 1000 if abs(seconds) > _MILLISECONDS else seconds, UTC)
    except (TypeError, OverflowError, OSError) as error:
        raise ValueError(str(error)) from None


def identifier(value: Any) -> str | None:
    """An id or a name as a short text without what cannot be stored; None where there is none."""
    if value is None or isinstance(value, dict | list | bool):
        return None
    text = _UNSTORABLE.sub("", str(value)).strip()
    if len(text) > NAME_LENGTH:  # cut, and still another one than its neighbours
        text = f"{text[: NAME_LENGTH - 33]}-{digest(text)}"
    return text or None


def digest(*parts: str | None) -> str:
    """32 characters that name these texts."""
    whole = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = b"" if part is None else part.encode("utf-8", "surrogatepass")
        whole.update(b"%d:" % (-1 if part is None else len(data)) + data)
    return whole.hexdigest()


def text_of(value: Any) -> str | None:
    """A text, or the texts of a list of parts ({"type": "text", "text": …}); None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [cast(Mapping[str, Any], p).get("text") if isinstance(p, dict) else p for p in cast(list[Any], value)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return None


def _turns(session_id: str, draft: Draft, owner: str | None) -> Iterator[Item]:
    content = yield from _text(draft.content, draft.place)
    if content is None:
        return
    metadata = yield from _metadata(draft.metadata, draft.place)
    whole = NewMessage(
        role=(identifier(draft.role) or "user")[:50],
        content=content,
        timestamp=draft.timestamp,
        external_id=identifier(draft.external_id),
        speaker=identifier(draft.speaker),
        metadata=metadata,
    )
    if len(content) <= MAX_TEXT:
        yield Turn(session_id, whole, owner)
        return
    yield Remark(f"longer than {MAX_TEXT:,} characters, split", draft.place, lost=False)
    for number, part in enumerate(_split(content), start=1):
        name = None if whole.external_id is None else f"{whole.external_id[: NAME_LENGTH - 8]}#{number}"
        yield Turn(session_id, replace(whole, content=part, external_id=name), owner)


def _text(value: Any, place: str) -> Generator[Remark, None, str | None]:
    """Yields remarks and returns the storable text, or None."""
    if not isinstance(value, str):
        yield Remark("no text", place)
        return None
    cleaned = _cleaned(value)
    if not cleaned.strip():
        yield Remark("empty", place)
        return None
    if cleaned != value:
        yield Remark("NUL characters or lone surrogates, cleaned", place, lost=False)
    return cleaned


def _metadata(value: Any, place: str) -> Generator[Remark, None, dict[str, Any] | None]:
    """Yields remarks and returns what of it can be stored."""
    if not value:
        return None
    try:
        return checks.metadata(_storable(value))
    except InvalidInputError as error:
        yield Remark("metadata that cannot be stored", f"{place}: {error}", lost=False)
        return None


def _storable(value: Any) -> Any:
    match value:
        case str():
            return _cleaned(value)
        case dict():
            return {_cleaned(str(k)): _storable(v) for k, v in cast(dict[Any, Any], value).items()}
        case list():
            return [_storable(v) for v in cast(list[Any], value)]
        case _:
            return value


def _cleaned(value: str) -> str:
    """Without NUL characters, and with U+FFFD for surrogates that are no character; pairs become what they mean."""
    if _UNSTORABLE.search(value) is None:
        return value
    return value.replace("\x00", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _split(content: str) -> Iterator[str]:
    """Parts of at most MAX_TEXT characters, at ends of lines where there are some."""
    start = 0
    while start < len(content):
        end = start + MAX_TEXT
        if end < len(content):
            end = max(content.rfind("\n", start + MAX_TEXT // 2, end), 0) + 1 or end
        if (part := content[start:end]).strip():
            yield part
        start = end


def as_dict(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one: exports leave out what they do not have."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return cast(list[Any], value) if isinstance(value, list) else []


def compact(value: Any) -> str:
    """JSON on one line, the same for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
