"""Triples become edges; questions find the facts about what they name."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memground.clock import Stamp
from memground.names import normal_name
from memground.postgres import versioned
from memground.postgres.backdated import end_rows
from memground.postgres.bulk import insertion, lists
from memground.postgres.engine import Row
from memground.postgres.prepared import Record
from memground.view import View, contains
from memground.words import keys
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import graph as queries
from neuromem.queries.scope import Scope, Shape
from neuromem.relations import GraphRules, names_asked, normal_names, normal_triple
from neuromem.services import rows
from neuromem.services.edge_plan import EdgePlan, Ending, Ledger, Outcome, Statement
from neuromem.services.graph import Thing, close_sources, hold_graph, node_values
from neuromem.services.memories import MemoryService, checked_sources, source_link
from neuromem.types import GraphEdge, GraphFact, MemoryRef, Source, StoredTriples, Triple

UNTOLD = "entity"
"""The type of what nobody said the type of."""

_USUAL = GraphRules()  # checking its terms takes longer than a question to the graph


class GraphMemoryService:
    """What the graph remembers of what was said."""

    def __init__(self, session: Session, rules: GraphRules | None = None) -> None:
        self._session = session
        self._tables = session.tables
        self._rules = rules or _USUAL

    async def store_triples(
        self,
        user_id: str,
        triples: Sequence[Triple],
        *,
        sources: Sequence[Source | MemoryRef] = (),
        known_from: datetime | None = None,
        stamp: Stamp,
    ) -> StoredTriples:
        """Stores triples as edges in the caller's transaction, the last of those that contradict each other last.

        A triple that is known changes nothing (a higher confidence or an end it gives is noted). One whose relation is
        single-valued (`GraphRules`) and whose object is new ends the edge before. `known_from`: when the triples became
        known (default: when the last of `sources` did, else now). A name that is known means what it meant, whatever
        type the triple gives it, unless there is a node of just that type and name.

        Of triples older than what is known already, each adds its own edge and ends no other. Raises InvalidInputError,
        NotFoundError (a source).
        """
        checks.name(user_id, "user_id")
        said = [normal_triple(triple) for triple in checks.items(triples, "triples", "Triple")]
        came_from = checked_sources(sources)
        if not said:
            return StoredTriples((), (), (), ())
        known = versioned.check_known(known_from, stamp)
        if known_from is None and came_from:
            since = await MemoryService(self._session).sources_known_since(user_id, {uuid.uuid4(): came_from})
            known = min(max(since.values()), stamp.at)
        (stored,), _ = await self.store_told(user_id, [ToldTriples(said, came_from, known)], stamp=stamp)
        return stored

    async def store_told(
        self, user_id: str, told: Sequence["ToldTriples"], *, stamp: Stamp
    ) -> tuple[list[StoredTriples], list[Ending]]:
        """Stores normal triples of several sources, one source after the other.

        Gives what became of those of each, and what endings of edges were written.
        """
        if not told:
            return [], []
        await hold_graph(self._session, user_id)
        versions, made = await self._nodes_named(user_id, told), list[Row]()
        said: list[list[Statement]] = []
        for item in told:
            nodes = _Nodes(user_id, [*versions, *made], item.known, stamp)
            said.append(nodes.statements(item.triples))
            made += nodes.made
        edges = await self._edges_of(user_id, [statement for statements in said for statement in statements])
        ledger = Ledger(user_id, edges, stamp)
        links: list[Row] = []
        stored: list[StoredTriples] = []
        for item, statements in zip(told, said, strict=True):
            plan = EdgePlan(ledger.versions, self._rules.single_valued, item.known)
            for statement in statements:
                plan.add(statement)
            written = ledger.write(plan)
            touched = [edge.key for edge in plan.edges() if edge.said and not edge.forgotten]
            links += [
                source_link(user_id, "edge", key, source, known_from=item.known, stamp=stamp)
                for key in touched
                for source in item.sources
            ]
            stored.append(_stored(plan, written, View(now=stamp.at)))
        vt = self._tables.graph_edges
        await self._insert(self._tables.graph_nodes, made)
        await end_rows(self._session, vt, ledger.ended, stamp, where=vt.table.c.user_id == user_id)
        await self._insert(vt, ledger.new)
        await MemoryService(self._session).store_links(links)
        if ledger.forgotten:
            await close_sources(self._session, user_id, ledger.forgotten, stamp)
        return stored, ledger.endings

    async def find_entity_facts(
        self, scope: Scope, query: str = "", *, names: Sequence[str] = (), limit: int = 20
    ) -> list[GraphFact]:
        """The facts about what `query` names, and about `names`, as the scope's view knows them.

        Facts between two of them come first, then facts about one; ended ones behind those that hold, newer before
        older.
        """
        checks.name(scope.user_id, "user_id")
        checks.limit(limit)
        asked = names_asked(checks.query(query)) if query or not names else []
        asked = [*dict.fromkeys([*normal_names(checks.items(names, "names", "names")), *asked])]
        if not asked:
            return []
        shaped = Scope(scope.user_id, scope.view)
        view = scope.view
        values = shaped.values(
            names=asked, keys=keys(scope.user_id, asked), limit=limit, pool=limit, true_at=view.valid_at or view.now
        )
        found = await self._session.fetch(queries.facts(self._tables, shaped.shape), values)
        return [fact(row) for row in found]

    async def _nodes_named(self, user_id: str, told: Sequence["ToldTriples"]) -> list[Record]:
        """All versions of the nodes that triples name."""
        said = (triple for item in told for triple in item.triples)
        names = sorted({normal_name(name) for triple in said for name in (triple.subject, triple.object)})
        values = {"user_id": user_id, "names": names, "keys": keys(user_id, names)}
        return await self._session.fetch(queries.node_versions(self._tables, Shape()), values)

    async def _edges_of(self, user_id: str, statements: Sequence[Statement]) -> list[Record]:
        relations = {statement.relation for statement in statements}
        values = {
            "user_id": user_id,
            "subjects": sorted({statement.source[1] for statement in statements}),
            "objects": sorted({statement.target[1] for statement in statements}),
            "relations": sorted(relations),
            "single": sorted(relations & self._rules.single_valued),
        }
        return await self._session.fetch(queries.edges_of(self._tables, Shape()), values)

    async def _insert(self, vt: versioned.VersionedTable, new: Sequence[Row]) -> None:
        if new:
            columns = tuple(map(str, new[0]))
            await self._session.execute(insertion(vt.table, columns), lists(vt.table, columns, new))


@dataclass(frozen=True)
class ToldTriples:
    """Normal triples that became known at the same moment, from the same sources."""

    triples: Sequence[Triple]
    sources: Sequence[Source]
    known: datetime


class _Nodes:
    """What names mean among the nodes known at a moment; makes nodes for those that mean nothing yet."""

    def __init__(self, user_id: str, versions: Collection[Row], known: datetime, stamp: Stamp) -> None:
        self._user_id, self._known, self._stamp = user_id, known, stamp
        self._versions = versions
        then = [row for row in versions if contains(row["known_from"], row["known_to"], known)]
        then.sort(key=lambda row: (row["created_at"], row["node_type"], row["node_id"]))
        self._own: dict[str, list[Thing]] = {}
        self._aliases: dict[str, list[Thing]] = {}
        for row in then:
            thing = row["node_type"], row["node_id"]
            self._own.setdefault(row["node_id"], []).append(thing)
            for alias in row["properties"].get("aliases", ()):
                self._aliases.setdefault(alias, []).append(thing)
        self._told: dict[str, str] = {}
        self.made: list[Row] = []

    def statements(self, said: Sequence[Triple]) -> list[Statement]:
        """The triples between nodes."""
        for triple in said:
            self._expect(triple.subject_type, triple.subject)
            self._expect(triple.object_type, triple.object)
        return [
            Statement(
                source=self._thing(triple.subject_type, triple.subject),
                relation=triple.relation,
                target=self._thing(triple.object_type, triple.object),
                valid_from=triple.valid_from,
                valid_to=triple.valid_to,
                confidence=triple.confidence,
            )
            for triple in said
        ]

    def _expect(self, node_type: str, written: str) -> None:
        """Hears of a name before it is asked for: of what kind it is may be said in another triple."""
        if node_type != UNTOLD:
            self._told.setdefault(normal_name(written), node_type)

    def _thing(self, node_type: str, written: str) -> Thing:
        name = normal_name(written)
        node_type = self._told.get(name, UNTOLD) if node_type == UNTOLD else node_type
        for things in (self._own.get(name, ()), self._aliases.get(name, ())):
            if things:
                return next((thing for thing in things if thing[0] == node_type), things[0])
        self._own[name] = [(node_type, name)]
        # Who learned of the node first by something newer knows it from then on; until then it is this one.
        later = [
            row["known_from"]
            for row in self._versions
            if (row["node_type"], row["node_id"]) == (node_type, name) and row["known_from"] > self._known
        ]
        values = node_values(self._user_id, node_type, name, {"name": written})
        row = versioned.new_row(self._stamp, {"node_key": uuid.uuid4(), **values}, known_from=self._known)
        if later:
            row |= {"known_to": min(later), "closed_origin": self._stamp.origin}
        self.made.append(row)
        return node_type, name


def _stored(plan: EdgePlan, written: Mapping[uuid.UUID, Row], view: View) -> StoredTriples:
    def shown(outcome: Outcome) -> tuple[GraphEdge, ...]:
        return tuple(rows.graph_edge(written.get(e.key, e.row or {}), view) for e in plan.edges(outcome))

    return StoredTriples(shown("stored"), shown("ended"), shown("changed"), shown("unchanged"))


def fact(row: Mapping[str, Any]) -> GraphFact:
    confidence = row["properties"].get("confidence", 1.0)
    relation: str = row["edge_type"]
    found: list[list[Any]] = sorted(row["sources"] or [], key=lambda item: (item[0], item[1]))
    return GraphFact(
        edge_id=str(row["edge_id"]),
        content=f"{row['source_name']} {relation.replace('_', ' ')} {row['target_name']}",
        subject=row["source_name"],
        subject_id=row["source_id"],
        subject_type=row["source_type"],
        relation=relation,
        object=row["target_name"],
        object_id=row["target_id"],
        object_type=row["target_type"],
        confidence=float(confidence) if isinstance(confidence, int | float) else 1.0,
        named=row["named"],
        ended=row["ended"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        known_from=row["known_from"],
        created_at=row["created_at"],
        sources=tuple(Source(kind, key, span) for kind, key, span in found),
    )
