"""What the other rooms are built of: JSON-able values, where a thing came from, a part of a listing."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, Literal, cast

type Metadata = Mapping[str, Any]
type MemoryRef = str | uuid.UUID
DEFAULT_ORIGIN = "agent"


class Value:
    """A frozen result that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values; times as ISO 8601, ids as strings."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(cast(Any, self))}


def _plain(value: Any) -> Any:
    match value:
        case Value():
            return value.to_dict()
        case datetime():
            return value.isoformat()
        case uuid.UUID():
            return str(value)
        case Mapping():
            return {str(k): _plain(v) for k, v in cast(Mapping[Any, Any], value).items()}
        case str():
            return value
        case Sequence():
            return [_plain(v) for v in value]  # pyright: ignore[reportUnknownVariableType]
        case _ if is_dataclass(value):
            return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Source(Value):
    """What a memory came from: a message, a file, or (an insight) another memory; and where in it."""

    kind: Literal["message", "document", "memory"]
    id: str
    span: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Page[T](Value):
    """Part of a listing; pass `cursor` to get the next part, None at the end."""

    items: tuple[T, ...]
    cursor: str | None = None
