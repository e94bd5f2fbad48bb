"""Everything that is known about one thing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from memground.names import normal_name, pattern
from memground.words import keys, words
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import entities as queries
from neuromem.queries import graph
from neuromem.queries.scope import Scope
from neuromem.services import rows
from neuromem.services.graph_memory import fact
from neuromem.types import EntityProfile, Source

_TIMES = frozenset({"known_from", "known_to", "recorded_at", "created_at", "valid_from", "valid_to", "event_at"})
MOST_NAMES = 20
"""Names of one thing that texts are searched for."""


class EntityService:
    """Profiles of what goes by a name."""

    def __init__(self, session: Session, most: int = queries.MOST_MENTIONS) -> None:
        """`most`: how many memories and messages each are counted."""
        self._session = session
        self._most = most
        self._tables = session.tables

    async def profile(self, scope: Scope, entity: str, *, limit: int) -> EntityProfile:
        """What memories, graph and conversations know, as the scope's view sees it.

        First its other names are looked up; all else is one statement.
        """
        checks.name(scope.user_id, "user_id")
        checks.limit(limit)
        asked = normal_name(entity, "entity")
        view, shape = scope.view, scope.shape
        named = scope.values(names=[asked], keys=keys(scope.user_id, [asked]))
        found = await self._session.fetch(graph.nodes_named(self._tables, Scope(scope.user_id, view).shape), named)
        nodes = [rows.graph_node(row, view) for row in found]
        names = [*dict.fromkeys([*(name for node in nodes for name in (node.node_id, *node.aliases)), asked])]
        searched = {name: keys(scope.user_id, words(name)) for name in names[:MOST_NAMES]}
        searched = {name: numbers for name, numbers in searched.items() if numbers}
        values = {
            **named,
            "limit": limit,
            "pool": limit,
            "true_at": view.valid_at or view.now,
            "mention_words": ["{" + ",".join(map(str, numbers)) + "}" for numbers in searched.values()],
            "mention_patterns": [pattern(name) for name in searched],
        }
        (row,) = await self._session.fetch(queries.profile(self._tables, shape, self._most), values)
        counts = [row[name] for name in ("relation_count", "memory_count", "message_count")]
        most = queries.MOST_RELATIONS, self._most, self._most
        return EntityProfile(
            entity=entity,
            user_id=scope.user_id,
            names=tuple(names),
            nodes=tuple(rows.graph_node(_row(item), view) for item in row["nodes"] or ()),
            relations=tuple(fact(_row(item)) for item in row["relations"] or ()),
            memories=tuple(rows.memory(_row(item), view, _sources(item)) for item in row["memories"] or ()),
            messages=tuple(rows.message(_row(item), view) for item in row["messages"] or ()),
            relation_count=min(counts[0], most[0]),
            memory_count=min(counts[1], most[1]),
            message_count=min(counts[2], most[2]),
            first_mentioned=row["first"],
            last_mentioned=row["last"],
            complete=all(count <= bound for count, bound in zip(counts, most, strict=True)),
        )


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    """A row that came as JSON, its times as times."""
    return {
        name: datetime.fromisoformat(value) if name in _TIMES and value is not None else value
        for name, value in item.items()
    }


def _sources(item: Mapping[str, Any]) -> list[Source]:
    found: list[list[Any]] = sorted(item["sources"] or [], key=lambda source: (source[0], source[1]))
    return [Source(kind, key, span) for kind, key, span in found]
