"""Filters over JSON-like documents and typed columns: a tree, its JSON form and its meaning.

::

    (F("data.priority") >= 3) & ~F("metadata.topic").in_(["a", "b"])
    F("data.items").any((F("price") > 3) & (F("name") == "x"))      # one and the same array element

    {"data.priority": {"gte": 3}, "not": {"metadata.topic": {"in": ["a", "b"]}}}
    {"data.items": {"any": {"price": {"gt": 3}, "name": "x"}}}

A path is dot separated and starts with a root the caller names (``metadata``, ``importance``). A segment with dots,
quotes or brackets is written in double quotes (``data."a.b".c``, with ``\\"`` and ``\\\\`` inside them). ``[*]`` may
follow a segment and changes nothing: arrays always fan out. In the JSON form the keys ``and``, ``or`` and ``not`` are
logic; a field of that name is written in quotes (``{"\\"not\\"": 1}``).

:func:`matches` defines what a filter means; whatever compiles filters for a database must agree with it, after
:func:`check` has compared the filter with the fields there are.
"""

from memground.filters.jsonform import from_json, parse, to_json
from memground.filters.meaning import FieldKind, check, matches, positive
from memground.filters.tree import And, AnyElement, Comparison, F, Filter, Not, Or
from memground.filters.values import Operator, Scalar, split_path

__all__ = [
    "And",
    "AnyElement",
    "Comparison",
    "F",
    "FieldKind",
    "Filter",
    "Not",
    "Operator",
    "Or",
    "Scalar",
    "check",
    "from_json",
    "matches",
    "parse",
    "positive",
    "split_path",
    "to_json",
]
