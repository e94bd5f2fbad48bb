"""The graph: nodes, edges, what lies beside a thing, how two things hang together."""

import base64
import binascii
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, insert

from memground.clock import Stamp
from memground.errors import InvalidInputError, NotFoundError
from memground.names import EDGE, normal_name, plain, term
from memground.postgres import versioned
from memground.postgres.engine import Row
from memground.postgres.prepared import Record
from memground.postgres.versioned import VersionedTable
from memground.text import check_json, check_text, show
from memground.view import View
from memground.words import keys
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import graph as queries
from neuromem.queries.graph import Direction
from neuromem.queries.scope import Scope, Shape
from neuromem.services import rows
from neuromem.services.search import UNCHANGED
from neuromem.types import DEFAULT_ORIGIN, GraphEdge, GraphNeighbor, GraphNode, GraphPath, Metadata, Page

type Thing = tuple[str, str]
"""Type and id of a node."""

MAX_DEPTH = 10
_WAYS = ("out", "in", "both")


class GraphService:
    """Nodes and edges by name, and walks over them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.tables
        self._nodes, self._edges = session.tables.graph_nodes, session.tables.graph_edges

    # ------------------------------------------------------------ nodes

    async def create_node(
        self,
        user_id: str,
        node_type: str,
        node_id: str,
        properties: Metadata | None = None,
        *,
        origin: str = DEFAULT_ORIGIN,
    ) -> GraphNode:
        """Makes a node, or sets properties of the one of this type that goes by the name; see the facade."""
        given = _properties(properties)
        kind, name = term(node_type, "node_type"), normal_name(node_id, "node_id")
        stamp = self._session.stamp(origin)
        await self._hold(checks.name(user_id, "user_id"))
        found = await self._node(user_id, kind, name)
        if found is None:
            row = await self._new_node(user_id, kind, name, {"name": node_id.strip(), **given}, stamp)
        else:
            row = await self._set_properties(user_id, found, given, stamp)
        return rows.graph_node(row, View(now=stamp.at))

    async def update_node(
        self, user_id: str, node_type: str, node_id: str, properties: Metadata, *, origin: str = DEFAULT_ORIGIN
    ) -> GraphNode:
        """Sets properties; None takes one away. Raises NotFoundError."""
        given = _properties(properties)
        kind, name = term(node_type, "node_type"), normal_name(node_id, "node_id")
        stamp = self._session.stamp(origin)
        await self._hold(checks.name(user_id, "user_id"))
        if (found := await self._node(user_id, kind, name)) is None:
            raise _no_node(user_id, kind, node_id)
        return rows.graph_node(await self._set_properties(user_id, found, given, stamp), View(now=stamp.at))

    async def delete_node(self, user_id: str, node_type: str, node_id: str, *, origin: str = DEFAULT_ORIGIN) -> None:
        """Ends a node and the edges at it; earlier moments still see them. Raises NotFoundError."""
        kind, name = term(node_type, "node_type"), normal_name(node_id, "node_id")
        stamp = self._session.stamp(origin)
        await self._hold(checks.name(user_id, "user_id"))
        if (found := await self._node(user_id, kind, name)) is None:
            raise _no_node(user_id, kind, node_id)
        values = {"user_id": user_id, "node_type": kind, "node_id": found["node_id"]}
        edges = await self._session.fetch(queries.edges_at(self._tables, Shape()), values)
        await self._close(self._edges, user_id, edges, stamp)
        await self._close(self._nodes, user_id, [found], stamp)

    async def get_node(self, user_id: str, node_type: str, node_id: str, view: View) -> GraphNode | None:
        """The node of this type that goes by the name, None where the view knows none."""
        kind, name = term(node_type, "node_type"), normal_name(node_id, "node_id")
        found = await self._named(Scope(checks.name(user_id, "user_id"), view), kind, name)
        return rows.graph_node(found[0], view) if found else None

    async def find_nodes(self, user_id: str, name: str, view: View) -> list[GraphNode]:
        """The nodes of any type that go by the name, those whose own name it is first."""
        normal = normal_name(name)
        found = await self._named(Scope(checks.name(user_id, "user_id"), view), None, normal)
        return [rows.graph_node(row, view) for row in found]

    async def list_nodes(
        self, user_id: str, view: View, *, node_type: str | None, prefix: str, cursor: str | None, limit: int
    ) -> Page[GraphNode]:
        """A page of nodes by name."""
        scope = Scope(checks.name(user_id, "user_id"), View(view.now, view.known_at))
        kind = None if node_type is None else term(node_type, "node_type")
        begins = plain(check_text(prefix, "prefix", limit=255, empty=True)).lstrip(EDGE)
        checks.limit(limit)
        name, of = (None, None) if cursor is None else _place(cursor)
        statement = queries.nodes(self._tables, scope.shape, typed=kind is not None, after=cursor is not None)
        values = scope.values(node_type=kind, prefix=begins, id=name, type=of, limit=limit + 1)
        found = await self._session.fetch(statement, values)
        items = tuple(rows.graph_node(row, view) for row in found[:limit])
        return Page(items, _cursor(items[-1]) if len(found) > limit else None)

    async def node_history(self, user_id: str, node_type: str, node_id: str, view: View) -> list[GraphNode]:
        """All versions the view knows of, newest first."""
        table = self._nodes.table
        named = and_(
            table.c.user_id == checks.name(user_id, "user_id"),
            table.c.node_type == term(node_type, "node_type"),
            table.c.node_id == normal_name(node_id, "node_id"),
        )
        found = await self._session.execute(versioned.history(self._nodes, named, view))
        return [rows.graph_node(row, view) for row in found.mappings()]

    # ------------------------------------------------------------ edges

    async def create_edge(
        self,
        user_id: str,
        source: Thing,
        edge_type: str,
        target: Thing,
        properties: Metadata | None = None,
        *,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        origin: str = DEFAULT_ORIGIN,
    ) -> GraphEdge:
        """Makes an edge and the nodes it needs; see the facade."""
        given = _properties(properties, "name", "aliases")
        start, end = checks.validity(valid_from, valid_to)
        kind = term(edge_type, "edge_type")
        ends = [_thing(*source, "source"), _thing(*target, "target")]
        stamp = self._session.stamp(origin)
        await self._hold(checks.name(user_id, "user_id"))
        names = {"user_id": user_id, "edge_type": kind}
        for what, (node_type, name), (_, written) in zip(("source", "target"), ends, (source, target), strict=True):
            node = await self._node(user_id, node_type, name)
            if node is None:
                node = await self._new_node(user_id, node_type, name, {"name": written.strip()}, stamp)
            names |= {f"{what}_type": node_type, f"{what}_id": node["node_id"]}
        view = View(now=stamp.at)
        for row in await self._session.fetch(queries.edges_between(self._tables, Shape()), names):
            if (row["valid_from"], row["valid_to"]) == (start, end):
                changed = {"properties": _merged(row["properties"], given)}
                return rows.graph_edge(await self._append(self._edges, user_id, row, changed, stamp), view)
        content = {"properties": _merged({}, given), "valid_from": start, "valid_to": end}
        new = versioned.new_row(stamp, {"edge_id": uuid.uuid4(), **names, **content})
        await self._session.execute(insert(self._edges.table).values(new))
        return rows.graph_edge(new, view)

    async def update_edge(
        self,
        user_id: str,
        edge_id: str | uuid.UUID,
        properties: Metadata | None,
        *,
        valid_from: datetime | None = UNCHANGED,
        valid_to: datetime | None = UNCHANGED,
        origin: str = DEFAULT_ORIGIN,
    ) -> GraphEdge:
        """Appends a version of an edge; see the facade."""
        given = _properties(properties, "name", "aliases")
        key = checks.identifier(edge_id, "edge_id")
        if properties is None and valid_from is UNCHANGED and valid_to is UNCHANGED:
            raise InvalidInputError("nothing to update; pass properties, valid_from or valid_to")
        stamp = self._session.stamp(origin)
        await self._hold(checks.name(user_id, "user_id"))
        owned = and_(self._edges.table.c.user_id == user_id, self._edges.key_column == key)
        found = await versioned.lock_current(self._session, self._edges, owned)
        if not found:
            raise NotFoundError(f"user {user_id!r} has no edge {key}")
        row = found[0]
        start, end = checks.validity(
            row["valid_from"] if valid_from is UNCHANGED else valid_from,
            row["valid_to"] if valid_to is UNCHANGED else valid_to,
        )
        changes = {"properties": _merged(row["properties"], given), "valid_from": start, "valid_to": end}
        changed = await self._append(self._edges, user_id, row, changes, stamp)
        return rows.graph_edge(changed, View(now=stamp.at))

    async def delete_edge(
        self, user_id: str, source: Thing, edge_type: str, target: Thing, *, origin: str = DEFAULT_ORIGIN
    ) -> int:
        """Ends the edges with these ends and this type; how many. Raises NotFoundError where there is none."""
        kind = term(edge_type, "edge_type")
        ends = [_thing(*source, "source"), _thing(*target, "target")]
        stamp = self._session.stamp(origin)
        await self._hold(checks.name(user_id, "user_id"))
        names = {"user_id": user_id, "edge_type": kind}
        for what, (node_type, name) in zip(("source", "target"), ends, strict=True):
            node = await self._node(user_id, node_type, name)
            names |= {f"{what}_type": node_type, f"{what}_id": name if node is None else node["node_id"]}
        found = await self._session.fetch(queries.edges_between(self._tables, Shape()), names)
        if not found:
            raise NotFoundError(f"user {user_id!r} has no edge {source[1]!r} {kind} {target[1]!r}")
        await self._close(self._edges, user_id, found, stamp)
        return len(found)

    async def edge_history(self, user_id: str, edge_id: str | uuid.UUID, view: View) -> list[GraphEdge]:
        """All versions the view knows of, newest first; raises NotFoundError where there is none."""
        key = checks.identifier(edge_id, "edge_id")
        table = self._edges.table
        owned = and_(table.c.user_id == checks.name(user_id, "user_id"), self._edges.key_column == key)
        found = (await self._session.execute(versioned.history(self._edges, owned, view))).mappings().all()
        if not found:
            raise NotFoundError(f"user {user_id!r} has no edge {key}")
        return [rows.graph_edge(row, view) for row in found]

    # ------------------------------------------------------------ walks

    async def get_neighbors(
        self,
        user_id: str,
        node_type: str | None,
        node_id: str,
        view: View,
        *,
        edge_types: Sequence[str] | None = None,
        direction: Direction = "both",
        limit: int = 50,
    ) -> list[GraphNeighbor]:
        """What the edges at a node lead to, the last written first."""
        scope = Scope(checks.name(user_id, "user_id"), view)
        kind = None if node_type is None else term(node_type, "node_type")
        name = normal_name(node_id, "node_id")
        types = None
        if edge_types is not None:
            types = [term(item, "edge_types") for item in checks.items(edge_types, "edge_types", "names")]
        if direction not in _WAYS:
            raise InvalidInputError(f"direction={show(direction)} is not accepted; pass 'out', 'in' or 'both'")
        checks.limit(limit)
        things = await self._things(scope, kind, name)
        statement = queries.neighbors(self._tables, scope.shape, direction=direction, typed=types is not None)
        values = scope.values(types=[t for t, _ in things], ids=[i for _, i in things], edge_types=types, limit=limit)
        return [
            GraphNeighbor(
                row["other_type"], row["other_id"], row["other_name"], row["direction"], rows.graph_edge(row, view)
            )
            for row in await self._session.fetch(statement, values)
        ]

    async def find_path(
        self,
        user_id: str,
        source: tuple[str | None, str],
        target: tuple[str | None, str],
        view: View,
        *,
        max_depth: int = 4,
    ) -> GraphPath:
        """A shortest way between two nodes, along edges in any direction."""
        scope = Scope(checks.name(user_id, "user_id"), view)
        checks.whole(max_depth, "max_depth", 1, MAX_DEPTH)
        ends: list[list[str]] = []
        for what, (node_type, name) in (("source", source), ("target", target)):
            kind = None if node_type is None else term(node_type, f"{what}_type")
            things = await self._things(scope, kind, normal_name(name, f"{what}_id"))
            ends.append([f"{of}/{item}" for of, item in things])
        values = scope.values(near=ends[0], far=ends[1], max_depth=max_depth, true_at=view.valid_at or view.now)
        return _path(await self._session.fetch(queries.path(self._tables, scope.shape), values), view)

    # ------------------------------------------------------------ shared

    async def _things(self, scope: Scope, node_type: str | None, name: str) -> list[Thing]:
        """The nodes a name means: those whose own name it is, else those it is another name of."""
        found = await self._named(scope, node_type, name)
        own = [row for row in found if row["node_id"] == name]
        return [(row["node_type"], row["node_id"]) for row in own or found]

    async def _named(self, scope: Scope, node_type: str | None, name: str) -> list[Record]:
        known = Scope(scope.user_id, View(scope.view.now, scope.view.known_at))
        values = known.values(names=[name], keys=keys(scope.user_id, [name]))
        found = await self._session.fetch(queries.nodes_named(self._tables, known.shape), values)
        fitting = [row for row in found if node_type is None or row["node_type"] == node_type]
        return sorted(fitting, key=lambda row: row["node_id"] != name)

    async def _node(self, user_id: str, node_type: str, name: str) -> Record | None:
        """The current node of a type that goes by a name."""
        found = await self._named(Scope(user_id, View(now=self._session.clock.now())), node_type, name)
        return found[0] if found else None

    async def _hold(self, user_id: str) -> None:
        await hold_graph(self._session, user_id)

    async def _new_node(
        self, user_id: str, node_type: str, name: str, properties: Mapping[str, Any], stamp: Stamp
    ) -> Row:
        table = self._nodes.table
        named = and_(table.c.user_id == user_id, table.c.node_type == node_type, table.c.node_id == name)
        # One that was deleted may have been known until a moment that this clock has not reached.
        version, start = await versioned.next_version(self._session, self._nodes, named, stamp)
        values = node_values(user_id, node_type, name, _merged({}, properties))
        new = versioned.new_row(stamp, {"node_key": uuid.uuid4(), **values}, known_from=start, version=version)
        await self._session.execute(insert(table).values(new))
        return new

    async def _set_properties(self, user_id: str, row: Row, given: Mapping[str, Any], stamp: Stamp) -> Row:
        values = node_values(user_id, row["node_type"], row["node_id"], _merged(row["properties"], given))
        return await self._append(self._nodes, user_id, row, values, stamp)

    async def _append(self, vt: VersionedTable, user_id: str, row: Row, values: Mapping[str, Any], stamp: Stamp) -> Row:
        return await versioned.append(self._session, vt, row, values, stamp, where=self._owned(vt, user_id))

    async def _close(self, vt: VersionedTable, user_id: str, found: Sequence[Row], stamp: Stamp) -> None:
        ids = [row["id"] for row in found]
        await versioned.close_rows(self._session, vt, ids, stamp, where=self._owned(vt, user_id))
        if vt is self._edges:
            await close_sources(self._session, user_id, [row["edge_id"] for row in found], stamp)

    @staticmethod
    def _owned(vt: VersionedTable, user_id: str) -> ColumnElement[bool]:
        return vt.table.c.user_id == user_id


async def hold_graph(session: Session, user_id: str) -> None:
    """One writer of a user's graph at a time: what a name means, and what ends what, is decided by all there is."""
    await session.hold(user_id)
    await versioned.lock_name(session, f"{session.tables.graph_edges.table.fullname}/{user_id}")


async def close_sources(session: Session, user_id: str, edge_ids: Sequence[uuid.UUID], stamp: Stamp) -> None:
    """Ends what is noted of where edges came from, together with them."""
    links = session.tables.memory_sources
    own = and_(links.table.c.user_id == user_id, links.table.c.derived_id.in_(edge_ids))
    current = await versioned.lock_current(session, links, own)
    await versioned.close_rows(session, links, [link["id"] for link in current], stamp, where=own)


def node_values(user_id: str, node_type: str, node_id: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """A node's columns; the keys of its other names follow from its properties."""
    aliases = keys(user_id, properties.get("aliases", ()))
    return {
        "user_id": user_id,
        "node_type": node_type,
        "node_id": node_id,
        "properties": dict(properties),
        "alias_keys": sorted(set(aliases)),
    }


def _properties(value: Metadata | None, *reserved: str) -> dict[str, Any]:
    """Properties as given, with aliases in their normal form."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"properties must be a dict, got {type(value).__name__} {show(value)}")
    checked: dict[str, Any] = check_json(value, "properties")
    if checked.get("aliases") is not None and "aliases" not in reserved:
        given = checks.items(checked["aliases"], "properties.aliases", "names")
        checked["aliases"] = sorted({normal_name(name, "properties.aliases") for name in given})
    if checked.get("name") is not None and "name" not in reserved:
        checks.name(checked["name"], "properties.name")
    return checked


def _merged(properties: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**properties, **given}.items() if value is not None}


def _thing(node_type: str, node_id: str, what: str) -> Thing:
    return term(node_type, f"{what}_type"), normal_name(node_id, f"{what}_id")


def _path(found: Sequence[Record], view: View) -> GraphPath:
    """The way that the rows of `queries.path` tell, from the meeting point to both ends."""
    met, complete = found[0]["met"], not found[0]["cut"]
    if met is None:
        return GraphPath((), (), complete)
    nodes, edges = [_split(met)], list[GraphEdge]()
    for near in (True, False):
        last = nodes[0] if near else nodes[-1]
        for row in found:
            if row["near"] is not near:
                continue
            edge = rows.graph_edge(row, view)
            source, target = (edge.source_type, edge.source_id), (edge.target_type, edge.target_id)
            last = target if source == last else source
            nodes.insert(0 if near else len(nodes), last)
            edges.insert(0 if near else len(edges), edge)
    return GraphPath(tuple(nodes), tuple(edges), complete)


def _split(key: str) -> Thing:
    node_type, _, node_id = key.partition("/")
    return node_type, node_id


def _no_node(user_id: str, node_type: str, node_id: str) -> NotFoundError:
    return NotFoundError(f"user {user_id!r} has no {node_type} {node_id!r} in the graph")


def _cursor(node: GraphNode) -> str:
    return base64.urlsafe_b64encode(json.dumps({"node": [node.node_id, node.node_type]}).encode()).decode()


def _place(cursor: str) -> tuple[str, str]:
    try:
        name, node_type = json.loads(base64.urlsafe_b64decode(cursor.encode()))["node"]
        return checks.name(name, "cursor"), checks.name(node_type, "cursor")
    except (ValueError, TypeError, AttributeError, LookupError, binascii.Error):
        raise InvalidInputError(f"cursor={show(cursor)} is none of ours; pass the .cursor of the page before") from None
