"""Whose a memory is: six dimensions, all independent of each other, and names of your own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args
from urllib.parse import unquote

from memground.errors import InvalidInputError
from memground.text import show
from omnimem.models.base import Value, name, optional_name

Dimension = Literal["tenant_id", "user_id", "app_id", "group_id", "agent_id", "run_id"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
MAX_NAMESPACE = 32
_PREFIX = "ns."

type Namespace = Mapping[str, str]
"""Dimensions of your own: `{"project": "p1", "env": "prod"}`."""


@dataclass(frozen=True)
class Scope(Value):
    """Tenant, user, app, group, agent and run, in any combination, and a namespace.

    Written with a memory it says whose it is. Asked with, it admits the memories that have all it names: equal
    dimensions, and every key of the namespace with that value. The empty scope admits everything.
    """

    tenant_id: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    group_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    namespace: Namespace | None = None

    def __post_init__(self) -> None:
        for dimension in DIMENSIONS:
            optional_name(getattr(self, dimension), f"scope.{dimension}")
        given = self.namespace
        if given is not None and not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"scope.namespace must be a dict of str, got {type(given).__name__} {show(given)}")
        if given and len(given) > MAX_NAMESPACE:
            raise InvalidInputError(f"scope.namespace has {len(given)} keys; at most {MAX_NAMESPACE} are accepted")
        checked = {
            name(key, "a key of scope.namespace"): name(value, f"scope.namespace[{show(key)}]")
            for key, value in sorted(cast("Mapping[Any, Any]", given or {}).items(), key=lambda item: str(item[0]))
        }
        self._settle(namespace=checked or None)

    def __hash__(self) -> int:
        return hash((self.dimensions, self.tags))

    @property
    def dimensions(self) -> tuple[tuple[Dimension, str], ...]:
        """The dimensions it names, with their values."""
        return tuple((d, value) for d in DIMENSIONS if (value := getattr(self, d)) is not None)

    @property
    def tags(self) -> tuple[str, ...]:
        """The namespace as sorted tags `ns.key:value`, with `:` and `%` percent-encoded in key and value."""
        if not self.namespace:
            return ()
        return tuple(sorted(f"{_PREFIX}{_coded(k)}:{_coded(v)}" for k, v in self.namespace.items()))

    def is_only(self, dimension: Dimension | None) -> bool:
        """Whether it names this dimension and nothing else; None: nothing at all."""
        return not self.tags and [d for d, _ in self.dimensions] == ([] if dimension is None else [dimension])

    @classmethod
    def with_tags(cls, dimensions: Mapping[str, str | None], tags: tuple[str, ...] | list[str]) -> "Scope":
        """The scope that has these dimensions and tags: the way back from what is stored."""
        pairs = (tag.removeprefix(_PREFIX).partition(":") for tag in tags)
        namespace = {unquote(key): unquote(value) for key, _, value in pairs}
        return cls.stored(**{d: dimensions.get(d) for d in DIMENSIONS}, namespace=namespace or None)

    def admits(self, other: "Scope") -> bool:
        """Whether what is asked for by this scope may be something of `other`."""
        return all(getattr(other, d) == value for d, value in self.dimensions) and set(self.tags) <= set(other.tags)

    def narrowed(self, by: "Scope") -> "Scope":
        """Both scopes at once. Raises InvalidInputError where they name different values: nothing is in both."""
        merged = dict(self.dimensions)
        for dimension, value in by.dimensions:
            if merged.setdefault(dimension, value) != value:
                raise InvalidInputError(
                    f"scope.{dimension}={value!r} lies outside the scope this client is bound to "
                    f"({dimension}={merged[dimension]!r})"
                )
        namespace = dict(self.namespace or {})
        for key, value in (by.namespace or {}).items():
            if namespace.setdefault(key, value) != value:
                raise InvalidInputError(
                    f"scope.namespace[{key!r}]={value!r} lies outside the scope this client is bound to "
                    f"({key}={namespace[key]!r})"
                )
        return Scope(**merged, namespace=namespace or None)

    def to_dict(self) -> dict[str, Any]:
        """Only what is named."""
        return {**dict(self.dimensions), **({"namespace": dict(self.namespace)} if self.namespace else {})}


EVERYTHING = Scope()


def read_scope(value: object) -> Scope:
    """A scope as callers may give it: a Scope, its JSON form, or None for the empty one."""
    match value:
        case None:
            return EVERYTHING
        case Scope():
            return value
        case Mapping():
            return Scope.from_dict(cast("Mapping[str, Any]", value))
        case _:
            raise InvalidInputError(
                f"scope must be a Scope such as Scope(user_id='anna'), got {type(value).__name__} {show(value)}"
            )


def _coded(text: str) -> str:
    return text.replace("%", "%25").replace(":", "%3A")
