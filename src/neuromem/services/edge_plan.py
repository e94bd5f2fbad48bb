"""What triples change among the edges there are: decided in memory, written by whoever asked."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from memground.clock import Stamp
from memground.postgres.engine import Row
from memground.postgres.versioned import new_row
from memground.view import contains

type Outcome = Literal["unchanged", "changed", "ended", "stored"]
_WEIGHT: tuple[Outcome, ...] = ("unchanged", "changed", "ended", "stored")


@dataclass(frozen=True)
class Statement:
    """A triple between nodes (type, id)."""

    source: tuple[str, str]
    relation: str
    target: tuple[str, str]
    valid_from: datetime | None
    valid_to: datetime | None
    confidence: float

    @property
    def names(self) -> tuple[str, str]:
        """What edges it may contradict: those from this name by this relation."""
        return self.source[1], self.relation


@dataclass
class Edge:
    """An edge as it shall be. `row` is the version it had, `since` when it first became known."""

    key: uuid.UUID
    source: tuple[str, str]
    relation: str
    target: tuple[str, str]
    properties: dict[str, Any]
    valid_from: datetime | None
    valid_to: datetime | None
    since: datetime
    row: Row | None = None
    counts: Outcome | None = None
    said: bool = False
    """Whether a statement is about it, not only about what takes its place."""
    forgotten: bool = False
    known_to: datetime | None = None
    """Known until then only: something learned later, but told earlier, says the same."""
    ends_later: tuple[datetime, datetime] | None = None
    """From the first moment on it is known to have ended at the second."""

    @property
    def start(self) -> datetime:
        """Since when it holds, as far as anybody said."""
        return self.since if self.valid_from is None else self.valid_from

    @property
    def is_fixed(self) -> bool:
        """What has changed since is not changed in its past."""
        return self.row is not None and self.row["known_to"] is not None

    @property
    def is_written(self) -> bool:
        return self.counts not in (None, "unchanged") and not (self.forgotten and self.row is None)

    def holds_at(self, moment: datetime) -> bool:
        return self.valid_to is None or self.valid_to > moment

    def new_rows(self, user_id: str, known: datetime, stamp: Stamp) -> list[dict[str, Any]]:
        """The version rows to be inserted."""
        if self.forgotten:
            return []
        values = {
            "edge_id": self.key,
            "user_id": user_id,
            "source_type": self.source[0],
            "source_id": self.source[1],
            "edge_type": self.relation,
            "target_type": self.target[0],
            "target_id": self.target[1],
            "properties": self.properties,
            "valid_from": self.valid_from,
            "valid_to": self.valid_to,
        }
        version = stamp.version if self.row is None else max(stamp.version, self.row["version"] + 1)
        first = new_row(stamp, values, known_from=known, version=version)
        if self.row is not None:
            first["created_at"] = self.row["created_at"]
        if self.known_to is not None:
            return [first | {"known_to": self.known_to, "closed_origin": stamp.origin}]
        if self.ends_later is None:
            return [first]
        learned, end = self.ends_later
        second = new_row(stamp, values | {"valid_to": end}, known_from=learned, version=version + 1)
        return [first | {"known_to": learned, "closed_origin": stamp.origin}, second]


@dataclass
class EdgePlan:
    """Takes statements one after the other, all known at `known`, over the versions of the edges they may concern.

    Who an edge is between goes by names, not by types: what a model calls a person now and a user then is the same.
    """

    versions: Collection[Row]
    single_valued: Collection[str]
    known: datetime

    def __post_init__(self) -> None:
        since: dict[uuid.UUID, datetime] = {}
        for row in self.versions:
            since[row["edge_id"]] = min(row["known_from"], since.get(row["edge_id"], row["known_from"]))
        self._counted: list[Edge] = []
        self._edges: dict[tuple[str, str], dict[str, list[Edge]]] = {}
        self._later: dict[tuple[str, str], list[Edge]] = {}
        for row in self.versions:
            edge = _edge(row, since[row["edge_id"]])
            names = edge.source[1], edge.relation
            if contains(row["known_from"], row["known_to"], self.known):
                self._edges.setdefault(names, {}).setdefault(edge.target[1], []).append(edge)
            elif row["known_from"] == edge.since > self.known:
                self._later.setdefault(names, []).append(edge)

    def edges(self, outcome: Outcome | None = None) -> list[Edge]:
        """The edges that statements were about, or that they ended; those of one outcome."""
        made = (edge for edge in self._counted if not (edge.forgotten and edge.row is None))
        return [edge for edge in made if outcome in (None, edge.counts)]

    def add(self, said: Statement) -> None:
        """Finds the edge the statement is about, or plans one and ends what it contradicts."""
        group = self._edges.setdefault(said.names, {})
        for edge in group.get(said.target[1], ()):
            if not edge.forgotten and self._is_about(said, edge):
                outcome = self._refine(edge, said)
                edge.said = edge.said or outcome != "unchanged"
                self._count(edge, outcome)
                return
        edge = Edge(
            key=uuid.uuid4(),
            source=said.source,
            relation=said.relation,
            target=said.target,
            properties={"confidence": said.confidence},
            valid_from=said.valid_from,
            valid_to=said.valid_to,
            since=self.known,
            said=True,
        )
        if said.relation in self.single_valued:
            others = [other for target, edges in group.items() if target != edge.target[1] for other in edges]
            self._take_its_place(edge, [other for other in others if not other.forgotten])
        self._until_later(edge, self._later.get(said.names, ()))
        group.setdefault(edge.target[1], []).append(edge)
        self._count(edge, "stored")

    def _is_about(self, said: Statement, edge: Edge) -> bool:
        """Whether an edge with these ends is the one meant: true at the same time."""
        start = said.valid_from or self.known
        if said.valid_to is None or said.valid_to > self.known:
            return edge.holds_at(start)
        begins_before = edge.valid_from is None or edge.valid_from < said.valid_to
        return begins_before and (said.valid_from is None or edge.holds_at(said.valid_from))

    def _refine(self, edge: Edge, said: Statement) -> Outcome:
        """Notes what the statement adds to an edge."""
        if edge.is_fixed:
            return "unchanged"
        outcome: Outcome = "unchanged"
        if said.confidence > _confidence(edge.properties):
            edge.properties = edge.properties | {"confidence": said.confidence}
            outcome = "changed"
        earliest = edge.start if edge.valid_from is None else edge.valid_from
        if said.valid_from is not None and said.valid_from < earliest and edge.holds_at(said.valid_from):
            edge.valid_from, outcome = said.valid_from, "changed"
        if said.valid_to not in (None, edge.valid_to) and not _empty(edge.valid_from, said.valid_to):
            edge.valid_to, outcome = said.valid_to, "ended"
        return outcome

    def _take_its_place(self, edge: Edge, others: Collection[Edge]) -> None:
        """Puts a value into the order of a single-valued relation: it ends the one before and ends at the next."""
        if not edge.holds_at(self.known):
            return  # told of the past: what holds now, holds on
        start = edge.start
        if after := [other.start for other in others if other.start > start and other.holds_at(start)]:
            edge.valid_to = min(after) if edge.valid_to is None else min(edge.valid_to, *after)
        for other in others:
            if other.start > start or not other.holds_at(start) or other.is_fixed:
                continue
            if edge.valid_from is None:
                edge.valid_from = start
            if _empty(other.valid_from, start):
                other.forgotten = True  # both since the same moment: one was a mistake, and it is the one told first
            else:
                other.valid_to = start
            self._count(other, "ended")

    def _until_later(self, edge: Edge, later: Collection[Edge]) -> None:
        """Of what was learned after this became known, and told before: what says the same, or took its place."""
        if same := [other.since for other in later if other.target[1] == edge.target[1]]:
            edge.known_to = min(same)
        elif edge.relation in self.single_valued:
            after = [(other.since, other.start) for other in later if other.start > edge.start]
            if after and edge.holds_at(min(after)[1]):
                edge.ends_later = min(after)

    def _count(self, edge: Edge, outcome: Outcome) -> None:
        """Counts an edge once, where it counts most."""
        if edge.counts is None:
            self._counted.append(edge)
            edge.counts = outcome
        edge.counts = _WEIGHT[max(_WEIGHT.index(edge.counts), _WEIGHT.index(outcome))]


@dataclass(frozen=True)
class Ending:
    """That an edge between two names ended at `valid_to`, known from a moment on."""

    subject: str
    relation: str
    object: str
    known_from: datetime
    valid_to: datetime

    @property
    def text(self) -> str:
        """The edge in words."""
        return f"{self.subject} {self.relation.replace('_', ' ')} {self.object}"


class Ledger:
    """Versions of edges as one plan after the other changes them, and what is to be written of that in the end."""

    def __init__(self, user_id: str, versions: Collection[Row], stamp: Stamp) -> None:
        self._user_id, self._stamp = user_id, stamp
        self.versions = list(versions)
        self.ended: dict[uuid.UUID, datetime] = {}
        """Rows of the database that end, by id, and when."""
        self.forgotten: list[uuid.UUID] = []
        """Edges that were a mistake."""
        self._new: dict[uuid.UUID, dict[str, Any]] = {}

    @property
    def new(self) -> list[Row]:
        """Rows that are to be inserted."""
        return list(self._new.values())

    def write(self, plan: EdgePlan) -> dict[uuid.UUID, Row]:
        """Does what was planned; gives the newest row of each edge written."""
        changed = [edge for edge in plan.edges() if edge.is_written]
        for edge in changed:
            if edge.row is not None:
                self._end(edge.row, max(edge.row["known_from"], plan.known))
        self.forgotten += [edge.key for edge in changed if edge.forgotten]
        new = [row for edge in changed for row in edge.new_rows(self._user_id, plan.known, self._stamp)]
        self._new |= {row["id"]: row for row in new}
        self.versions = sorted([*self.versions, *new], key=lambda row: row["version"])
        return {row["edge_id"]: row for row in new}

    @property
    def endings(self) -> list[Ending]:
        """Of the rows to be inserted those of edges that have ended."""
        return [
            Ending(row["source_id"], row["edge_type"], row["target_id"], row["known_from"], row["valid_to"])
            for row in self.new
            if row["valid_to"] is not None
        ]

    def _end(self, row: Row, moment: datetime) -> None:
        end = {"known_to": moment, "closed_origin": self._stamp.origin}
        if row["id"] in self._new:
            self._new[row["id"]] |= end
            return
        self.ended[row["id"]] = moment
        self.versions = [{**other, **end} if other["id"] == row["id"] else other for other in self.versions]


def _edge(row: Row, since: datetime) -> Edge:
    return Edge(
        key=row["edge_id"],
        source=(row["source_type"], row["source_id"]),
        relation=row["edge_type"],
        target=(row["target_type"], row["target_id"]),
        properties=row["properties"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        since=since,
        row=row,
    )


def _confidence(properties: Mapping[str, Any]) -> float:
    """As stored; what was written by hand says nothing of it and is certain."""
    stored = properties.get("confidence")
    return stored if isinstance(stored, int | float) else 1.0


def _empty(start: datetime | None, end: datetime | None) -> bool:
    return start is not None and end is not None and end <= start
