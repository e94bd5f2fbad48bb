"""What a query asks of each store.

A filter stays a tree up to the store, which compiles it for its own language beside its statements (PostgreSQL:
`memground.postgres.filter_sql`). Here it is decided which store gets it: one that cannot apply filters is asked
without, and its answer is finished on truth.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from memground.errors import UnsupportedError
from omnimem.models import Scope, SearchQuery, read_filters
from omnimem.storage.base import Capabilities, Selection

SEMANTIC, KEYWORD = "semantic", "keyword"
MAX_DEPTH = 1_000
"""Candidates an arm proposes at most."""


@dataclass(frozen=True)
class Plan:
    """A query made ready: what is meant, which arms look for it and how much each counts.

    `depth`: candidates of each arm. `start`: candidates that earlier parts of the listing had.
    """

    selection: Selection
    weights: dict[str, float]
    depth: int
    start: int = 0


def plan(query: SearchQuery, scope: Scope, as_of: datetime | None, depth: int | None, start: int) -> Plan:
    """The plan of a query. Raises InvalidInputError for a filter on fields there are none of."""
    arms = {"semantic": (SEMANTIC,), "keyword": (KEYWORD,)}.get(query.mode, (SEMANTIC, KEYWORD))
    weights = {arm: float(query.weights.get(arm, 1.0)) for arm in arms} if query.text is not None else {}
    return Plan(
        selection=Selection(scope, read_filters(query.filters), as_of),
        weights={arm: weight for arm, weight in weights.items() if weight > 0},
        depth=depth or min(MAX_DEPTH, max(100, 10 * query.limit)),
        start=start,
    )


def asked_of(selection: Selection, capabilities: Capabilities, arm: str) -> Selection:
    """The part of a selection a store decides. Raises UnsupportedError where it cannot answer about the past."""
    if selection.as_of is not None and not capabilities.as_of:
        raise UnsupportedError(f"the {arm} index in use keeps only the present, so it cannot answer as_of=")
    return selection if capabilities.filters else replace(selection, filter=None)
