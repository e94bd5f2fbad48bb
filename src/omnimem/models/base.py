"""What all models share: frozen values that are checked when made and written as JSON, and the checks themselves."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import datetime
from typing import Any, Self, cast

from memground.clock import as_utc
from memground.errors import InvalidInputError
from memground.text import check_text, show

MAX_NAME = 255


class Value:
    """A frozen value. `to_dict` and `from_dict` are its JSON form, both ways."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values; times as ISO 8601."""
        return {item.name: plain(getattr(self, item.name)) for item in fields(cast(Any, self))}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The value of a JSON form. Raises InvalidInputError for an unknown field or a value that is not accepted."""
        return cls(**cls._read(known_fields(cls, value)))

    @classmethod
    def _read(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The fields as the constructor takes them; for models whose fields are models themselves."""
        return given

    @classmethod
    def stored(cls, **given: Any) -> Self:
        """A value that was checked when it was written: read back without checking it again."""
        made = object.__new__(cls)
        for name, value in given.items():
            object.__setattr__(made, name, value)
        return made

    def _settle(self, **checked: Any) -> None:
        """Puts what was checked in the place of what was given."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    match value:
        case Value():
            return value.to_dict()
        case datetime():
            return value.isoformat()
        case str():
            return str.__str__(value)
        case Mapping():
            return {str(key): plain(item) for key, item in cast(Mapping[Any, Any], value).items()}
        case list() | tuple():
            return [plain(item) for item in cast(Sequence[Any], value)]
        case _:
            return value


def known_fields(model: type, value: object) -> dict[str, Any]:
    """The members of a JSON object, all of them fields of the model."""
    names = [item.name for item in fields(cast(Any, model)) if item.init]
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{model.__name__} is read from an object, got {type(value).__name__} {show(value)}")
    given = cast(Mapping[Any, Any], value)
    if unknown := [show(key) for key in given if key not in names]:
        raise InvalidInputError(f"{model.__name__} has no field {', '.join(unknown)}; accepted: {', '.join(names)}")
    needed = [
        item.name
        for item in fields(cast(Any, model))
        if item.init and item.default is MISSING and item.default_factory is MISSING
    ]
    if missing := [key for key in needed if key not in given]:
        raise InvalidInputError(f"{model.__name__} lacks {', '.join(missing)}")
    return {str(key): item for key, item in given.items()}


def name(value: object, what: str, *, limit: int = MAX_NAME) -> str:
    """A short identifying text."""
    return check_text(value, what, limit=limit)


def optional_name(value: object, what: str, *, limit: int = MAX_NAME) -> str | None:
    return None if value is None else name(value, what, limit=limit)


def moment(value: object, what: str) -> datetime:
    """An instant in UTC, also from its ISO 8601 text."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidInputError(
                f"{what}={show(value)} is no time; accepted: an aware datetime or ISO 8601 text, such as "
                "2026-01-31T09:00:00+00:00"
            ) from None
    return as_utc(cast(datetime, value), what)


def optional_moment(value: object, what: str) -> datetime | None:
    return None if value is None else moment(value, what)


def whole(value: object, what: str, lowest: int, highest: int) -> int:
    """A whole number within bounds, both included."""
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise InvalidInputError(
            f"{what}={show(value)} is not accepted; pass a whole number from {lowest:,} to {highest:,}"
        )
    return value


def items(value: object, what: str, accepted: str) -> Sequence[Any]:
    """The items of a list or tuple; a text is none, though Python would walk its characters."""
    if not isinstance(value, list | tuple):
        raise InvalidInputError(f"{what} must be a list of {accepted}, got {type(value).__name__} {show(value)}")
    return cast(Sequence[Any], value)


def instance(value: object, what: str, kind: type | types.UnionType, accepted: str) -> None:
    if not isinstance(value, kind):
        raise InvalidInputError(f"{what} must be {accepted}, got {type(value).__name__} {show(value)}")
