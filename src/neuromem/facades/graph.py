"""`nm.graph`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from neuromem.facades.context import Context
from neuromem.queries.graph import Direction
from neuromem.queries.scope import Scope
from neuromem.services.graph import GraphService
from neuromem.services.graph_memory import GraphMemoryService
from neuromem.services.search import UNCHANGED
from neuromem.types import (
    DEFAULT_ORIGIN,
    GraphEdge,
    GraphFact,
    GraphNeighbor,
    GraphNode,
    GraphPath,
    Metadata,
    Page,
)


class GraphReader:
    """Reads the graph. Names match whatever their case, width, `_`, `-` and spaces; other names (aliases) do too."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get_node(self, user_id: str, node_type: str, node_id: str) -> GraphNode | None:
        """The node of a type that goes by a name, or None."""
        async with self._context.source.read() as session:
            return await GraphService(session).get_node(user_id, node_type, node_id, self._context.view())

    async def find_nodes(self, user_id: str, name: str) -> list[GraphNode]:
        """The nodes of any type that go by a name, those whose own name it is first."""
        async with self._context.source.read() as session:
            return await GraphService(session).find_nodes(user_id, name, self._context.view())

    async def list_nodes(
        self,
        user_id: str,
        *,
        node_type: str | None = None,
        prefix: str = "",
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[GraphNode]:
        """A page of nodes by name, of one type, whose names begin with `prefix`; `.cursor` leads to the next."""
        async with self._context.source.read() as session:
            return await GraphService(session).list_nodes(
                user_id, self._context.view(), node_type=node_type, prefix=prefix, cursor=cursor, limit=limit
            )

    async def get_neighbors(
        self,
        user_id: str,
        node_type: str | None,
        node_id: str,
        *,
        edge_types: Sequence[str] | None = None,
        direction: Direction = "both",
        valid_at: datetime | None = None,
        limit: int = 50,
    ) -> list[GraphNeighbor]:
        """What the edges at a node lead to, the last written first; edges that have ended too, unless `valid_at` is
        given. `node_type` None: whatever goes by the name. `direction`: "out", "in" or "both".
        """
        async with self._context.source.read() as session:
            return await GraphService(session).get_neighbors(
                user_id,
                node_type,
                node_id,
                self._context.view(valid_at=valid_at),
                edge_types=edge_types,
                direction=direction,
                limit=limit,
            )

    async def find_path(  # noqa: PLR0917 - the seed's order
        self,
        user_id: str,
        source_type: str | None,
        source_id: str,
        target_type: str | None,
        target_id: str,
        max_depth: int = 4,
        *,
        valid_at: datetime | None = None,
    ) -> GraphPath:
        """A shortest way between two nodes of at most `max_depth` edges (1 to 10), whichever way these point.

        Without a way the path is empty, and false. A type of None: whatever goes by the name.
        """
        async with self._context.source.read() as session:
            return await GraphService(session).find_path(
                user_id,
                (source_type, source_id),
                (target_type, target_id),
                self._context.view(valid_at=valid_at),
                max_depth=max_depth,
            )

    async def find_entity_facts(
        self, user_id: str, query: str, *, valid_at: datetime | None = None, limit: int = 20
    ) -> list[GraphFact]:
        """What the graph says about the things a text names: facts between two of them first, ended ones last."""
        scope = Scope(user_id, self._context.view(valid_at=valid_at))
        async with self._context.source.read() as session:
            return await GraphMemoryService(session).find_entity_facts(scope, query, limit=limit)

    async def node_history(self, user_id: str, node_type: str, node_id: str) -> list[GraphNode]:
        """All versions of a node, newest first."""
        async with self._context.source.read() as session:
            return await GraphService(session).node_history(user_id, node_type, node_id, self._context.view())

    async def edge_history(self, user_id: str, edge_id: str | UUID) -> list[GraphEdge]:
        """All versions of an edge, newest first; raises NotFoundError."""
        async with self._context.source.read() as session:
            return await GraphService(session).edge_history(user_id, edge_id, self._context.view())


class GraphFacade(GraphReader):
    """The graph: things with types and names, and how they relate; every change a version."""

    async def create_node(
        self,
        user_id: str,
        node_type: str,
        node_id: str,
        properties: Metadata | None = None,
        *,
        origin: str = DEFAULT_ORIGIN,
    ) -> GraphNode:
        """Makes a node; where one of the type goes by the name already, sets its properties as `update_node` does.

        `properties["aliases"]`: other names it goes by.
        """
        async with self._context.source.session() as session:
            return await GraphService(session).create_node(user_id, node_type, node_id, properties, origin=origin)

    async def update_node(
        self, user_id: str, node_type: str, node_id: str, properties: Metadata, *, origin: str = DEFAULT_ORIGIN
    ) -> GraphNode:
        """Sets the properties given, None takes one away, the others stay. Raises NotFoundError."""
        async with self._context.source.session() as session:
            return await GraphService(session).update_node(user_id, node_type, node_id, properties, origin=origin)

    async def delete_node(self, user_id: str, node_type: str, node_id: str, *, origin: str = DEFAULT_ORIGIN) -> None:
        """Ends a node and the edges at it; earlier moments still see them. Raises NotFoundError."""
        async with self._context.source.session() as session:
            await GraphService(session).delete_node(user_id, node_type, node_id, origin=origin)

    async def create_edge(  # noqa: PLR0917 - the seed's order
        self,
        user_id: str,
        source_type: str,
        source_id: str,
        edge_type: str,
        target_type: str,
        target_id: str,
        properties: Metadata | None = None,
        *,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        origin: str = DEFAULT_ORIGIN,
    ) -> GraphEdge:
        """Makes an edge, and its nodes where there are none; one with the same ends, type and validity is the same.

        True in the world during [valid_from, valid_to). It ends no other edge: whoever knows that the world changed
        says so with `update_edge(…, valid_to=…)`, or tells a triple (`nm.apply_extraction(triples=…)`), which does.
        """
        async with self._context.source.session() as session:
            return await GraphService(session).create_edge(
                user_id,
                (source_type, source_id),
                edge_type,
                (target_type, target_id),
                properties,
                valid_from=valid_from,
                valid_to=valid_to,
                origin=origin,
            )

    async def update_edge(
        self,
        user_id: str,
        edge_id: str | UUID,
        properties: Metadata | None = None,
        *,
        valid_from: datetime | None = UNCHANGED,
        valid_to: datetime | None = UNCHANGED,
        origin: str = DEFAULT_ORIGIN,
    ) -> GraphEdge:
        """Appends a version of an edge with properties set (None takes one away) or another validity.

        What is not given stays. Raises NotFoundError, InvalidInputError.
        """
        async with self._context.source.session() as session:
            return await GraphService(session).update_edge(
                user_id, edge_id, properties, valid_from=valid_from, valid_to=valid_to, origin=origin
            )

    async def delete_edge(  # noqa: PLR0917 - the seed's order
        self,
        user_id: str,
        source_type: str,
        source_id: str,
        edge_type: str,
        target_type: str,
        target_id: str,
        *,
        origin: str = DEFAULT_ORIGIN,
    ) -> int:
        """Ends the edges with these ends and this type; how many. Earlier moments still see them.

        For what was true once, `update_edge(…, valid_to=…)` says more. Raises NotFoundError where there is none.
        """
        async with self._context.source.session() as session:
            return await GraphService(session).delete_edge(
                user_id, (source_type, source_id), edge_type, (target_type, target_id), origin=origin
            )
