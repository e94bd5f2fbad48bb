"""A user's memory as records, one JSON object each: how they are written, and how those of strangers are read.

::

    {"record": "header", "format": "neuromem-user", "version": 1, "user_id": "anna", "exported_at": "…", "model": "…",
     "dims": 384, "revision": "0004", "vectors": true, "rows": {"embeddings": 12, …}}
    {"record": "row", "table": "embeddings", "values": {"memory_id": "…", "content": "likes tea", …}}
    {"record": "end", "records": 120, "rows": {"embeddings": 12, …}, "sha256": "…"}

Ids are texts, times ISO 8601, a vector is base64 of its numbers, two bytes each (IEEE 754, the high byte first). The
checksum is over all records before the last, each as JSON with sorted keys and without blanks, and a line feed behind.
"""

import base64
import binascii
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
from sqlalchemy import UUID, BigInteger, Boolean, Column, DateTime, Float, Integer, SmallInteger, String
from sqlalchemy.dialects.postgresql import JSONB

from memground.clock import as_utc, nanoseconds
from memground.errors import InvalidInputError
from memground.postgres.prepared import Record
from memground.text import MAX_TEXT, check_json, check_text, question_share, show
from memground.view import KNOWN_SINCE
from memground.words import keys, words
from neuromem import checks
from neuromem.models import Tables
from neuromem.queries.moving import VECTOR, Part, parts
from neuromem.services.graph import node_values
from neuromem.services.kv import named_entry

FORMAT, VERSION = "neuromem-user", 1

_SENT_HEADER = 4  # dimensions and flags, which pgvector sends before the numbers
_SKEW = timedelta(minutes=5)
"""How far apart the clocks of two servers may be."""
_MOST_TEXT = 100_000_000
_RECORDED = ("known_from", "known_to", "recorded_at", "created_at")
_BITS: Mapping[type[Any], int] = {SmallInteger: 16, Integer: 32, BigInteger: 64}

type Values = dict[str, Any]


class Checksum:
    """The checksum of records, and how many they are."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.records = 0

    def add(self, record: Mapping[str, Any]) -> int:
        """Counts a record in; returns about how many bytes it has. Raises InvalidInputError for what is no JSON."""
        try:
            text = json.dumps(dict(record), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"it is no JSON object: {str(error)[:100]}") from None
        line = text.encode("utf-8", "surrogatepass")
        self._hash.update(line)
        self._hash.update(b"\n")
        self.records += 1
        return len(line)

    def __str__(self) -> str:
        return self._hash.hexdigest()


def row_record(part: Part, row: Record) -> dict[str, Any]:
    """A row as a record."""
    return {"record": "row", "table": part.name, "values": {name: _plain(value) for name, value in row.items()}}


def _plain(value: Any) -> Any:
    match value:
        case uuid.UUID():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat()
        case bytes():
            return base64.b64encode(value[_SENT_HEADER:]).decode()
        case _:
            return value


@dataclass(frozen=True)
class Header:
    """Whose export it is, and what made it."""

    user_id: str
    exported_at: datetime
    model: str
    dims: int
    rows: Mapping[str, int]


class Records:
    """Reads the records of an export one after the other, and believes none of them.

    Gives rows as they are to be stored for `user_id`: whatever is said of them elsewhere, what follows from the user's
    id, and what only helps to search, is made anew. `model`: the model (id and dimensions) whose vectors can be used.
    """

    def __init__(self, tables: Tables, user_id: str, model: tuple[str, int], now: datetime) -> None:
        self._parts = {part.name: part for part in parts(tables)}
        self._user, self._model, self._now = user_id, model, now
        self._checksum = Checksum()
        self._header: Header | None = None
        self._ended = False
        self._entries: dict[uuid.UUID, uuid.UUID] = {}
        self.counts: Counter[str] = Counter()
        self.size = 0

    @property
    def header(self) -> Header:
        if self._header is None:
            raise InvalidInputError("the export is empty; its first record is its header")
        return self._header

    @property
    def number(self) -> int:
        """Of the record that is read."""
        return self._checksum.records

    def read(self, record: object) -> tuple[Part, Values] | None:
        """The row a record holds, None where it holds none. Raises InvalidInputError, naming the record's number."""
        before = self._checksum.records
        try:
            return self._read(record)
        except InvalidInputError as error:
            raise InvalidInputError(f"record {before + 1} of the export: {error}") from None

    def finish(self) -> None:
        """There are no more records."""
        if not self._ended:
            _ = self.header  # says it where there is nothing at all
            raise InvalidInputError(
                f"the export is cut off: it ends with record {self.number} instead of its end record; export it again"
            )

    def _read(self, record: object) -> tuple[Part, Values] | None:
        if not isinstance(record, Mapping):
            raise InvalidInputError(f"it is no JSON object but {type(record).__name__} {show(record)}")
        told = cast(Mapping[str, Any], record)
        if self._ended:
            raise InvalidInputError("it follows the end record; an export has one end")
        kind, checksum = told.get("record"), str(self._checksum)
        self.size = self._checksum.add(told)
        if (kind == "header") is not (self._header is None):
            raise InvalidInputError("the header is the first record, and only the first")
        match kind:
            case "header":
                self._header = _header(told, self._now)
            case "row":
                return self._row(told)
            case "end":
                self._end(told, checksum)
            case _:
                raise InvalidInputError(f"record={show(kind)} is unknown; accepted: header, row, end")
        return None

    def _end(self, told: Mapping[str, Any], checksum: str) -> None:
        for where, said in (("header", self.header.rows), ("end record", told.get("rows"))):
            if said != dict(self.counts):
                raise InvalidInputError(
                    f"the {where} speaks of {_many(said)}, but {_many(dict(self.counts))} came; "
                    "records are missing or were added"
                )
        if told.get("sha256") != checksum:
            raise InvalidInputError("the checksum is another one: records were changed or left out; export it again")
        self._ended = True

    def _row(self, told: Mapping[str, Any]) -> tuple[Part, Values] | None:
        table, given = told.get("table"), told.get("values")
        part = self._parts.get(table) if isinstance(table, str) else None
        if part is None:
            raise InvalidInputError(f"table={show(table)} is unknown; accepted: {', '.join(self._parts)}")
        if not isinstance(given, Mapping):
            raise InvalidInputError(f"values must be a JSON object, got {type(given).__name__} {show(given)}")
        values = cast(Mapping[str, Any], given)
        if unknown := [name for name in values if name not in part.columns]:
            raise InvalidInputError(
                f"{part.name} has no column {show(unknown[0])}; was the export made by a newer version?"
            )
        row = {column.name: self._value(column, name, values.get(name)) for name, column in part.columns.items()}
        if row[part.owner] != self.header.user_id:
            raise InvalidInputError(f"{part.owner}={show(row[part.owner])} is not the user of the header")
        self.counts[part.name] += 1
        if part.vt is not None:
            self._check_version(row)
        row[part.owner] = self._user
        if rule := _RULES.get(part.name):
            rule(self, row)
        if part.vectors and not self._usable:
            if part.name != "embeddings":
                return None  # a row that is nothing but its vector
            row[part.columns[VECTOR].name] = None
        return part, row

    @property
    def _usable(self) -> bool:
        return (self.header.model, self.header.dims) == self._model

    def _value(self, column: Column[Any], name: str, value: Any) -> Any:
        if value is None:
            # JSON's null is a value of a column that needs one. A vector is made anew where there is none.
            if column.nullable or (isinstance(column.type, JSONB) and name == "value"):
                return None
            raise InvalidInputError(f"{name} is missing")
        if name == VECTOR:
            return _vector(value, self.header.dims)
        return _checked(column, name, value)

    def _check_version(self, row: Values) -> None:
        latest = self._now + _SKEW
        for name in _RECORDED:
            if row[name] is not None and not KNOWN_SINCE <= row[name] <= latest:
                raise InvalidInputError(
                    f"{name}={row[name].isoformat()} lies before {KNOWN_SINCE.year} or in the future "
                    f"(it is {self._now.isoformat()})"
                )
        if row["known_to"] is not None and row["known_to"] < row["known_from"]:
            raise InvalidInputError(f"known_to: the version ends ({row['known_to'].isoformat()}) before it begins")
        if row["version"] > nanoseconds(latest + timedelta(days=366)):
            raise InvalidInputError(f"version={row['version']} lies in the future")

    # ------------------------------------------------------------ what is asked of a row of one table

    def _memory(self, row: Values) -> None:
        _shape(row, "metadata_", dict)
        check_text(row["content"], "content")
        checks.importance(row["importance"])
        checks.validity(row["valid_from"], row["valid_to"])
        row["words"] = keys(self._user, words(row["content"]))

    def _message(self, row: Values) -> None:
        _shape(row, "metadata_", dict)
        content = check_text(row["content"], "content")
        checks.whole(row["seq"], "seq", 1, checks.MAX_PLACE)
        row["question_share"] = question_share(content)
        said = content if row["speaker"] is None else f"{row['speaker']} {content}"
        row["words"] = keys(self._user, words(said))

    def _session(self, row: Values) -> None:
        checks.whole(row["message_count"], "message_count", 0, checks.MAX_PLACE)

    def _horizon(self, row: Values) -> None:
        if row["before"] > self._now + _SKEW:
            raise InvalidInputError(
                f"before={row['before'].isoformat()} lies in the future (it is {self._now.isoformat()})"
            )

    def _entry(self, row: Values) -> None:
        """An entry is named by whose it is, so that set again it is the same."""
        named = named_entry(row["namespace"], self._user, row["key"])
        if named != row["entry_id"]:
            self._entries[row["entry_id"]] = named
            row["entry_id"] = named

    def _link(self, row: Values) -> None:
        _shape(row, "span", dict)
        row["derived_id"] = self._entries.get(row["derived_id"], row["derived_id"])

    def _node(self, row: Values) -> None:
        _shape(row, "properties", dict)
        properties = row["properties"]
        if "name" in properties:
            checks.name(properties["name"], "properties.name")
        for alias in checks.items(properties.get("aliases", []), "properties.aliases", "names"):
            checks.name(alias, "properties.aliases")
        row |= node_values(self._user, row["node_type"], row["node_id"], properties)

    def _edge(self, row: Values) -> None:
        _shape(row, "properties", dict)
        checks.validity(row["valid_from"], row["valid_to"])

    def _document(self, row: Values) -> None:
        _shape(row, "metadata_", dict)
        _shape(row, "tags", list)
        row["object_key"] = None  # a key of another storage, or of another user's file


_RULES: Mapping[str, Callable[[Records, Values], None]] = {
    "embeddings": Records._memory,  # pyright: ignore[reportPrivateUsage]
    "conversations": Records._message,  # pyright: ignore[reportPrivateUsage]
    "conversation_sessions": Records._session,  # pyright: ignore[reportPrivateUsage]
    "history_horizons": Records._horizon,  # pyright: ignore[reportPrivateUsage]
    "key_values": Records._entry,  # pyright: ignore[reportPrivateUsage]
    "memory_sources": Records._link,  # pyright: ignore[reportPrivateUsage]
    "graph_nodes": Records._node,  # pyright: ignore[reportPrivateUsage]
    "graph_edges": Records._edge,  # pyright: ignore[reportPrivateUsage]
    "documents": Records._document,  # pyright: ignore[reportPrivateUsage]
}


def _header(told: Mapping[str, Any], now: datetime) -> Header:
    if told.get("format") != FORMAT:
        raise InvalidInputError(f"format={show(told.get('format'))} is none of ours; an export's is {FORMAT!r}")
    if told.get("version") != VERSION:
        raise InvalidInputError(f"version={show(told.get('version'))} is not understood; this program reads {VERSION}")
    exported_at = _time(told.get("exported_at"), "exported_at")
    if exported_at > now + _SKEW:
        raise InvalidInputError(f"exported_at={exported_at.isoformat()} lies in the future (it is {now.isoformat()})")
    rows = told.get("rows")
    if not isinstance(rows, Mapping):
        raise InvalidInputError(f"rows must say how many rows there are of each table, got {show(rows)}")
    return Header(
        user_id=checks.name(told.get("user_id"), "user_id"),
        exported_at=exported_at,
        model=checks.name(told.get("model"), "model"),
        dims=checks.whole(told.get("dims"), "dims", 1, 16_000),
        rows={str(name): count for name, count in cast(Mapping[Any, Any], rows).items() if count},
    )


def _checked(column: Column[Any], name: str, value: Any) -> Any:
    match column.type:
        case UUID():
            return checks.identifier(value, name)
        case DateTime():
            return _time(value, name)
        case Boolean():
            if isinstance(value, bool):
                return value
            raise InvalidInputError(f"{name}={show(value)} is not accepted; pass true or false")
        case Float():
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
                return float(value)
            raise InvalidInputError(f"{name}={show(value)} is no finite number")
        case Integer() as kind:
            most = 2 ** (next(_BITS[cls] for cls in type(kind).__mro__ if cls in _BITS) - 1)
            return checks.whole(value, name, -most, most - 1)
        case String() as kind:  # Text, too
            limit = kind.length or (MAX_TEXT if name == "content" else _MOST_TEXT)
            return check_text(value, name, limit=limit, empty=bool(column.nullable))
        case JSONB():
            return check_json(value, name)
        case kind:
            raise TypeError(f"{column} is a {kind!r}, of which no export knows how to write it")


def _time(value: Any, name: str) -> datetime:
    try:
        return as_utc(datetime.fromisoformat(value), name)
    except (TypeError, ValueError):  # InvalidInputError is one, too, and says less
        raise InvalidInputError(f"{name}={show(value)} is no time; accepted: ISO 8601 with a time zone") from None


def _vector(value: Any, dims: int) -> bytes:
    """The numbers as sent, checked."""
    try:
        sent = base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidInputError(f"{VECTOR}={show(value)} is no base64") from None
    numbers = np.frombuffer(sent, ">f2") if len(sent) == 2 * dims else np.empty(0)
    if not numbers.size or not np.isfinite(numbers).all() or not numbers.any():
        raise InvalidInputError(f"{VECTOR} has {len(sent)} bytes; accepted: {dims} finite numbers of 2, not all zero")
    return sent


def numbers(sent: bytes) -> list[float]:
    """The vector that `_vector` has checked."""
    return np.frombuffer(sent, ">f2").astype(np.float32).tolist()


def _shape(row: Values, name: str, kind: type[Any]) -> None:
    if row[name] is not None and not isinstance(row[name], kind):
        accepted = "a JSON object" if kind is dict else "a list"
        raise InvalidInputError(f"{name} must be {accepted}, got {type(row[name]).__name__} {show(row[name])}")


def _many(counts: Any) -> str:
    return f"{sum(counts.values()):,} rows" if isinstance(counts, Mapping) else show(counts)  # pyright: ignore
