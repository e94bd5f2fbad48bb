"""The nodes of a filter, and ``F`` that makes them. Every node is checked when it is made."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

from memground.errors import InvalidInputError
from memground.filters.values import Operator, Scalar, checked_value, join_path, show, split_path

MAX_DEPTH = 64
MAX_NODES = 1_000


class Filter:
    """Base of the tree. Combine with ``&``, ``|`` and ``~``; immutable, compared by value.

    A tree that exists is well-formed and within the limits: 64 levels, 1,000 nodes.
    """

    depth: int
    """Levels from here down, 1 for a comparison."""
    nodes: int
    """Nodes in this tree, itself included."""

    def __and__(self, other: "Filter") -> "And":
        # Joining into an existing group keeps `f1 & f2 & ... & f500` flat instead of 500 levels deep.
        return And((*_parts(self, And), *_parts(other, And)))

    def __or__(self, other: "Filter") -> "Or":
        return Or((*_parts(self, Or), *_parts(other, Or)))

    def __invert__(self) -> "Not":
        return Not(self)

    def __bool__(self) -> bool:
        raise InvalidInputError(
            "a filter has no truth value: combine with & | ~ instead of and/or/not, use between(lo, hi) for lo < F < hi"
        )


@dataclass(frozen=True)
class Comparison(Filter):
    """One operator on one path. ``value``: a scalar; a tuple for lists and between; a bool for exists.

    ``path`` is kept in its one canonical spelling, datetimes in UTC; ``segments`` is the path unquoted.
    """

    path: str
    op: Operator
    value: Scalar | tuple[Scalar, ...]
    segments: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _settle_path(self)
        object.__setattr__(self, "value", checked_value(self.path, self.op, self.value))
        _measure(self, ())

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The value as a tuple, of one for operators that take one."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


@dataclass(frozen=True)
class And(Filter):
    """All parts hold; at least one part."""

    parts: tuple[Filter, ...]

    def __post_init__(self) -> None:
        _settle_group(self, "and", self.parts)


@dataclass(frozen=True)
class Or(Filter):
    """Any part holds; at least one part."""

    parts: tuple[Filter, ...]

    def __post_init__(self) -> None:
        _settle_group(self, "or", self.parts)


@dataclass(frozen=True)
class Not(Filter):
    """Exactly the complement of ``part``."""

    part: Filter

    def __post_init__(self) -> None:
        _measure(self, (self.part,))


@dataclass(frozen=True)
class AnyElement(Filter):
    """The object at ``path``, or one object in an array there, satisfies ``part``, whose paths start inside it."""

    path: str
    part: Filter
    segments: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _settle_path(self)
        _measure(self, (self.part,))


class F:  # noqa: PLW1641 (== makes a filter, so a field cannot be hashed)
    """A field to compare: ``F("data.priority") >= 3``. Each comparison answers a :class:`Filter`.

    A field holding an array compares by its elements: ``F("data.tags") == "x"`` is true when any element is "x".
    """

    def __init__(self, path: str) -> None:
        split_path(path)
        self.path = path

    def __repr__(self) -> str:
        return f"F({self.path!r})"

    def __eq__(self, value: object) -> Comparison:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._compare("eq", value)

    def __ne__(self, value: object) -> Comparison:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._compare("ne", value)

    def __gt__(self, value: Scalar) -> Comparison:
        return self._compare("gt", value)

    def __ge__(self, value: Scalar) -> Comparison:
        return self._compare("gte", value)

    def __lt__(self, value: Scalar) -> Comparison:
        return self._compare("lt", value)

    def __le__(self, value: Scalar) -> Comparison:
        return self._compare("lte", value)

    def in_(self, values: Sequence[Scalar]) -> Comparison:
        """Equal to one of ``values``; no values match nothing."""
        return self._compare("in", values)

    def not_in(self, values: Sequence[Scalar]) -> Comparison:
        """The complement of :meth:`in_`, so true for a missing field too."""
        return self._compare("not_in", values)

    def exists(self, present: bool = True) -> Comparison:
        """A value other than null is there (an empty array or object counts); with False, none is."""
        return self._compare("exists", present)

    def contains(self, value: Scalar) -> Comparison:
        """The field is an array with an element equal to ``value``."""
        return self._compare("contains", value)

    def contains_any(self, values: Sequence[Scalar]) -> Comparison:
        """The field is an array holding at least one of ``values``."""
        return self._compare("contains_any", values)

    def contains_all(self, values: Sequence[Scalar]) -> Comparison:
        """The field is one array holding every one of ``values``."""
        return self._compare("contains_all", values)

    def between(self, low: Scalar, high: Scalar) -> Comparison:
        """One value v with ``low <= v <= high``; both ends of one type."""
        return self._compare("between", (low, high))

    def any(self, part: Filter) -> AnyElement:
        """One object in the array here satisfies ``part``, whose paths start inside that object."""
        return AnyElement(self.path, part)

    def _compare(self, op: Operator, value: object) -> Comparison:
        return Comparison(self.path, op, cast("Scalar", value))


def too_deep() -> InvalidInputError:
    return InvalidInputError(f"the filter is nested more than {MAX_DEPTH} levels deep; flatten its groups")


def too_large() -> InvalidInputError:
    return InvalidInputError(
        f"the filter has more than {MAX_NODES} nodes; use in, contains_any or contains_all for lists of values"
    )


def _parts(node: Filter, group: type[And] | type[Or]) -> tuple[Filter, ...]:
    return node.parts if isinstance(node, group) else (node,)


def _settle_path(node: Comparison | AnyElement) -> None:
    segments = split_path(node.path)
    object.__setattr__(node, "segments", segments)
    object.__setattr__(node, "path", join_path(segments))


def _settle_group(node: And | Or, name: str, given: Iterable[Filter]) -> None:
    parts = tuple(given)
    if not parts:
        raise InvalidInputError(f"an empty {name!r} group; give at least one part, or no filter at all")
    object.__setattr__(node, "parts", parts)
    _measure(node, parts)


def _measure(node: Filter, parts: tuple[Filter, ...]) -> None:
    # Sizes are kept on every node as it is made, so no walk ever meets a tree too deep for recursion.
    for part in parts:
        if not isinstance(part, Filter):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(
                f"{show(part)} is not a filter; make one with a comparison such as F('data.x') == 1"
            )
    depth = 1 + max((part.depth for part in parts), default=0)
    nodes = 1 + sum(part.nodes for part in parts)
    if depth > MAX_DEPTH:
        raise too_deep()
    if nodes > MAX_NODES:
        raise too_large()
    object.__setattr__(node, "depth", depth)
    object.__setattr__(node, "nodes", nodes)
