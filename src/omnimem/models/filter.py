"""What is searched for, and what is found. The filter language is `memground.filters`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast, get_args, overload

from memground.errors import InvalidInputError
from memground.filters import And, F, FieldKind, Filter, check, parse, to_json
from memground.text import check_text, show
from omnimem.models.base import Value, instance, items, name, optional_moment, whole
from omnimem.models.memory import Memory

Mode = Literal["hybrid", "semantic", "keyword"]
MODES: tuple[str, ...] = get_args(Mode)
MAX_QUERY = 10_000
MAX_LIMIT = 1_000
MAX_WEIGHT = 1_000.0

FIELDS: Mapping[str, FieldKind] = {
    "data": "json",
    "metadata": "json",
    "sources": "json",
    "text": "text",
    "type": "text",
    "memory_id": "text",
    "record_id": "text",
    "version": "number",
    "created_time": "datetime",
    "event_time": "datetime",
    "valid_time_from": "datetime",
    "valid_time_to": "datetime",
}
"""The fields a filter may name, and what their values are."""


@dataclass(frozen=True)
class SearchFilters(Value):
    """Usual conditions by name, all of which hold, beside a filter of your own.

    `types`: of one of these. `event_from`, `event_to`: happened in [from, to). `valid_at`: true in the world then
    (both ends of a memory's valid time included; open where it has none).
    """

    where: Filter | Mapping[str, Any] | None = None
    types: Sequence[str] = ()
    event_from: datetime | None = None
    event_to: datetime | None = None
    valid_at: datetime | None = None

    def __post_init__(self) -> None:
        self._settle(
            where=parse(self.where),
            types=tuple(str.__str__(name(kind, "types", limit=50)) for kind in items(self.types, "types", "str")),
            **{key: optional_moment(getattr(self, key), key) for key in ("event_from", "event_to", "valid_at")},
        )

    @property
    def filter(self) -> Filter | None:
        """All of it as one filter; None admits everything. Raises InvalidInputError for a field there is none of."""
        parts: list[Filter] = [cast(Filter, self.where)] if self.where is not None else []
        if self.types:
            parts.append(F("type").in_(self.types))
        if self.event_from is not None:
            parts.append(F("event_time") >= self.event_from)
        if self.event_to is not None:
            parts.append(F("event_time") < self.event_to)
        if self.valid_at is not None:
            parts.append(~(F("valid_time_from") > self.valid_at))
            parts.append(~(F("valid_time_to") < self.valid_at))
        if not parts:
            return None
        return check(parts[0] if len(parts) == 1 else And(tuple(parts)), FIELDS)

    def to_dict(self) -> dict[str, Any]:
        where = cast("Filter | None", self.where)
        return {**super().to_dict(), "where": None if where is None else to_json(where)}


type Filters = Filter | Mapping[str, Any] | SearchFilters | None
"""What callers pass as `filters=`: a filter, its JSON form, or SearchFilters."""


def read_filters(value: Filters) -> Filter | None:
    """The one filter meant; None admits everything."""
    return (value if isinstance(value, SearchFilters) else SearchFilters(value)).filter


@dataclass(frozen=True)
class SearchQuery(Value):
    """A search as a value. `text` None: whatever passes the filters, newest first.

    `mode`: by meaning, by word, or both. `weights`: how much each counts in "hybrid". `as_of`: what was known then.
    `strict`: an index that cannot be asked is an error, instead of a warning beside what the other found.
    """

    text: str | None = None
    mode: Mode = "hybrid"
    filters: Filters = None
    limit: int = 10
    as_of: datetime | None = None
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    explain: bool = False
    cursor: str | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if self.text is not None:
            check_text(self.text, "query", limit=MAX_QUERY)
        if self.mode not in MODES:
            raise InvalidInputError(f"mode={show(self.mode)} is not accepted; pass one of {', '.join(MODES)}")
        whole(self.limit, "limit", 1, MAX_LIMIT)
        instance(self.explain, "explain", bool, "True or False")
        instance(self.strict, "strict", bool, "True or False")
        instance(self.weights, "weights", Mapping, 'a dict such as {"semantic": 2, "keyword": 1}')
        for arm, weight in self.weights.items():
            if arm not in ("semantic", "keyword"):
                raise InvalidInputError(f"weights has {show(arm)}; accepted: semantic, keyword")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= MAX_WEIGHT:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidInputError(f"weights[{arm!r}]={show(weight)} is not accepted; pass 0 to {MAX_WEIGHT:g}")
        given = self.filters
        self._settle(
            filters=given if isinstance(given, SearchFilters) else SearchFilters(given),
            as_of=optional_moment(self.as_of, "as_of"),
            weights=dict(self.weights),
        )

    @classmethod
    def _read(cls, given: dict[str, Any]) -> dict[str, Any]:
        filters = given.get("filters")
        names = {"where", "types", "event_from", "event_to", "valid_at"}
        if isinstance(filters, Mapping) and filters and set(cast("Mapping[str, Any]", filters)) <= names:
            return {**given, "filters": SearchFilters.from_dict(cast("Mapping[str, Any]", filters))}
        return given


@dataclass(frozen=True)
class ArmHit(Value):
    """Where a hit stood in one arm: its rank from 1, the arm's own score, and what that added to the hit's score.

    `field`: whose vector was nearest, in the semantic arm.
    """

    arm: str
    rank: int
    score: float
    added: float
    field: str | None = None


@dataclass(frozen=True)
class Explanation(Value):
    """Why a hit stands where it stands. `indexed_record`: the record the index knew, where it is not the one shown.
    `filtered_on_truth`: an index could not tell whether it passes the filter; the truth could."""

    arms: tuple[ArmHit, ...]
    indexed_record: str | None = None
    filtered_on_truth: bool = False


@dataclass(frozen=True)
class SearchHit(Value):
    """A memory that was found. Scores compare within one result."""

    memory: Memory
    score: float
    explanation: Explanation | None = None


class _Items[T](Value):
    """A part of a listing that is read like a list."""

    def _listed(self) -> tuple[T, ...]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[T]:
        return iter(self._listed())

    def __len__(self) -> int:
        return len(self._listed())

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        return self._listed()[place]


@dataclass(frozen=True)
class SearchResult(_Items[SearchHit]):
    """Hits, best first. `warnings`: what kept the search from being as good as it could be. `cursor`: the next part."""

    hits: tuple[SearchHit, ...]
    warnings: tuple[str, ...] = ()
    cursor: str | None = None

    def _listed(self) -> tuple[SearchHit, ...]:
        return self.hits


@dataclass(frozen=True)
class Page[T](_Items[T]):
    """A part of a listing; pass `cursor` to get the next one, None at the end."""

    items: tuple[T, ...]
    cursor: str | None = None

    def _listed(self) -> tuple[T, ...]:
        return self.items
