"""One message a line, as JSON: role, content, session, timestamp, speaker, external_id, metadata.

A JSON array of such objects is read, too. A message without an id is named by what it says and where it stands, so that
the same file read again, or with more lines at its end, gives the same ids.
"""

import json
from collections.abc import Generator, Iterator, Mapping
from datetime import datetime
from typing import Any, BinaryIO, cast

from neuromem.errors import InvalidInputError
from neuromem.importers.items import Draft, Item, Remark, conversation, digest, identifier, moment, text_of
from neuromem.importers.reading import Reading, records

_ALIASES = {
    "role": ("role", "sender"),
    "content": ("content", "text", "message"),
    "session": ("session", "session_id", "conversation_id", "thread_id"),
    "timestamp": ("timestamp", "created_at", "time", "date", "ts"),
    "speaker": ("speaker", "name"),
    "external_id": ("external_id", "id", "message_id"),
    "user": ("user", "user_id"),
    "metadata": ("metadata",),
}
MAX_LINE = 64_000_000
"""Bytes of a line; a longer one is left out instead of filling the memory."""
_WAITING = 100
"""Messages without a time that may stand before the first that has one, per session."""


type _Record = tuple[str, dict[str, Any]] | Remark | InvalidInputError
"""A message as it stands, with its place; or why there is none; or that the file cannot be read any further."""


class _Session:
    """What is remembered of a session while its messages pass: where it stands, and who waits for a time."""

    def __init__(self) -> None:
        self.time: datetime | None = None
        self.said: Any = None
        self.place = 0
        self.waiting: list[Draft] = []
        self.timeless = False


def items(stream: BinaryIO, reading: Reading) -> Iterator[Item]:
    """The turns in order."""
    sessions: dict[tuple[str | None, str], _Session] = {}
    broken: InvalidInputError | None = None
    found = _array(stream, reading) if reading.root == "array" else _lines(stream, reading)
    for record in found:
        if isinstance(record, InvalidInputError):
            broken = record  # but first what waits for a time
            continue
        if isinstance(record, Remark):
            yield record
            continue
        place, raw = record
        fields = {field: _first(raw, names) for field, names in _ALIASES.items()}
        name = identifier(fields["session"]) or reading.stem
        owner = identifier(fields["user"])
        session = sessions.setdefault((owner, name), _Session())
        yield from _placed(session, name, owner, _draft(place, raw, fields, session, name))
    for (owner, name), session in sessions.items():
        yield from conversation(name, session.waiting, owner=owner)
    if broken is not None:
        raise broken


def _placed(session: _Session, name: str, owner: str | None, draft: Draft) -> Iterator[Item]:
    """Gives the draft the session's time where it has none; the first ones wait for it."""
    try:
        session.time = moment(draft.timestamp) or session.time
    except ValueError:
        yield Remark("time not understood", f"{draft.place}: {str(draft.timestamp)[:40]!r}", lost=False)
    draft.timestamp = session.time
    if session.time is None and not session.timeless and len(session.waiting) < _WAITING:
        session.waiting.append(draft)
        return
    drafts = [*session.waiting, draft]
    session.waiting, session.timeless = [], True
    yield from conversation(name, drafts, owner=owner)


def _lines(stream: BinaryIO, reading: Reading) -> Generator[_Record]:
    number = 0
    while line := stream.readline(MAX_LINE):
        number += 1
        place = f"{reading.name}: line {number}"
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
            yield Remark(f"longer than {MAX_LINE:,} bytes", place)
            continue
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Remark("no JSON", f"{place}: {error}")
            continue
        if isinstance(value, dict):
            yield place, cast(dict[str, Any], value)
        else:
            yield Remark("no JSON object", place)


def _array(stream: BinaryIO, reading: Reading) -> Generator[_Record]:
    try:
        for number, value in enumerate(records(stream, reading), start=1):
            place = f"{reading.name}: message {number}"
            if isinstance(value, dict):
                yield place, cast(dict[str, Any], value)
            else:
                yield Remark("no JSON object", place)
    except InvalidInputError as error:
        yield error


def _first(raw: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((raw[name] for name in names if raw.get(name) is not None), None)


def _draft(place: str, raw: Mapping[str, Any], fields: Mapping[str, Any], session: _Session, name: str) -> Draft:
    content, time = text_of(fields["content"]), fields["timestamp"]
    session.place = session.place + 1 if time in (None, session.said) else 0
    after = session.said if time is None else None
    session.said = session.said if time is None else time
    external_id = identifier(fields["external_id"])
    if external_id is None:
        texts = (str(part) for part in (fields["role"], fields["speaker"], time, content, after, session.place))
        external_id = digest(name, *texts)
    known = {alias for names in _ALIASES.values() for alias in names}
    further = {key: value for key, value in raw.items() if key not in known}
    own = fields["metadata"]
    return Draft(
        place=place,
        role=fields["role"],
        content=content,
        timestamp=time,
        external_id=external_id,
        speaker=fields["speaker"],
        metadata={**further, **cast(dict[str, Any], own)} if isinstance(own, dict) else further,
    )
