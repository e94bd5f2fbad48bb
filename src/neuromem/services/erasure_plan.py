"""What goes when one thing is erased: itself at every version, and what was derived from it.

Something derived goes from the version on in which the erased thing first had a part: what it was before was told by
others, and lasts. A key-value's versions each say what one telling said, so only those told by what is erased go.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from memground.postgres.engine import Row
from memground.postgres.erasing import Ending, lasting
from memground.postgres.versioned import VersionedTable, equal
from memground.view import contains
from neuromem.db import Session
from neuromem.queries import erasing as queries
from neuromem.queries.digest import DIGEST
from neuromem.queries.messages import EXTRACTION

type Run = tuple[str, datetime]
"""What one writer wrote at one time: origin and recorded_at."""

_ALWAYS = datetime.min.replace(tzinfo=UTC)
_COPIED = ("rollback-", "undo-")
"""Origins of versions that are copies of earlier ones."""


@dataclass
class Plan:
    """Version rows that go, by table, and what follows from that.

    `last`: rows that stay and end later than they did. `messages`, `sessions`: erased messages, and the sessions they
    were in. `unread`: messages that stay, of which something goes, `undigested`: memories likewise. `vectors`: messages
    that stay, whose vectors were made with what is erased. `objects`: keys in storage. `memories`: those that go whole.
    """

    rows: dict[str, set[uuid.UUID]] = field(default_factory=dict[str, set[uuid.UUID]])
    last: dict[str, dict[uuid.UUID, Ending]] = field(default_factory=dict[str, dict[uuid.UUID, Ending]])
    messages: set[uuid.UUID] = field(default_factory=set[uuid.UUID])
    sessions: set[str] = field(default_factory=set[str])
    unread: dict[uuid.UUID, str] = field(default_factory=dict[uuid.UUID, str])
    undigested: set[uuid.UUID] = field(default_factory=set[uuid.UUID])
    vectors: set[uuid.UUID] = field(default_factory=set[uuid.UUID])
    objects: set[str] = field(default_factory=set[str])
    memories: set[uuid.UUID] = field(default_factory=set[uuid.UUID])

    def go(self, vt: VersionedTable, ids: Collection[uuid.UUID]) -> None:
        if ids:
            self.rows.setdefault(vt.table.name, set()).update(ids)


class ErasurePlan:
    """Finds, by reading alone, what goes with one thing of a user."""

    def __init__(self, session: Session, user_id: str) -> None:
        self._session = session
        self._tables = session.tables
        self._user_id = user_id
        self._since: dict[uuid.UUID, datetime] = {}
        self._links: dict[uuid.UUID, Row] = {}
        self._runs: dict[uuid.UUID, set[Run]] = {}
        self._versions: dict[str, dict[uuid.UUID, list[Row]]] = {}
        self._roots: set[uuid.UUID] = set()

    async def of(self, vt: VersionedTable, key: uuid.UUID) -> Plan | None:
        """What goes with a memory, a message or a document; None where the user has none of this id."""
        found = await self._read(vt, [key])
        if key not in found:
            return None
        self._roots = {key}
        if vt is self._tables.documents:  # the memory that stands for it, were it linked or not
            named = [row["embedding_id"] for row in found[key] if row["embedding_id"] is not None]
            await self._read(self._tables.embeddings, named)
            self._roots |= set(named)
        self._since |= dict.fromkeys(self._roots, _ALWAYS)
        await self._follow(list(self._roots))
        return await self._planned(vt, key)

    # ------------------------------------------------------------ what was derived

    async def _follow(self, sources: Sequence[uuid.UUID]) -> None:
        """Finds what came from sources, from what came from them, and so on."""
        while sources:
            derived: dict[uuid.UUID, list[Row]] = {}
            for link in await self._all(queries.links_from(self._tables, self._user_id, sources)):
                if link["known_from"] < self._since[link["source_id"]]:
                    continue
                self._links[link["id"]] = link
                self._runs.setdefault(link["source_id"], set()).add((link["origin"], link["recorded_at"]))
                if link["derived_kind"] != EXTRACTION:
                    derived.setdefault(link["derived_id"], []).append(link)
            missing = derived.keys() - {key for found in self._versions.values() for key in found}
            if missing:
                for vt in queries.derived_tables(self._tables):
                    await self._read(vt, missing)
            sources = [key for key, links in derived.items() if self._taint(key, links)]

    def _taint(self, key: uuid.UUID, links: Sequence[Row]) -> bool:
        """Notes since which version a derived thing holds something of what goes; whether that is news."""
        before = self._since.get(key)
        starts = [start for link in links if (start := self._first_told(self._rows_of(key), link)) is not None]
        if not starts or (before is not None and before <= min(starts)):
            return False
        self._since[key] = min(starts)
        return True

    def _first_told(self, versions: Sequence[Row], link: Row) -> datetime | None:
        """Since when something is said because of a link. None where it was said already: nothing came of the link."""
        runs = self._runs[link["source_id"]]
        told = [
            row["known_from"]
            for row in versions
            if row["known_from"] >= link["known_from"]
            and ((row["origin"], row["recorded_at"]) in runs or row["known_from"] == link["known_from"])
        ]
        return min(told, default=None)

    def _rows_of(self, key: uuid.UUID) -> list[Row]:
        return [row for found in self._versions.values() for row in found.get(key, ())]

    # ------------------------------------------------------------ what goes

    async def _planned(self, root: VersionedTable, key: uuid.UUID) -> Plan:
        plan, tables = Plan(), self._tables
        whole: set[uuid.UUID] = set()
        if root is tables.conversations:
            plan.messages = {key}
            plan.sessions = {row["session_id"] for row in self._versions[root.table.name][key]}
            await self._read(tables.conversation_embeddings, [key])
            self._go(plan, root, whole)
            self._go(plan, tables.conversation_embeddings, whole)
        for vt in queries.derived_tables(tables):
            self._go(plan, vt, whole)
        plan.memories = whole & self._versions.get("embeddings", {}).keys()
        await self._links_go(plan, whole)
        await self._nodes_go(plan)
        await self._vectors_follow(plan)
        gone = plan.rows.get("documents", set())
        documents = [row for rows in self._versions.get("documents", {}).values() for row in rows]
        plan.objects = {row["object_key"] for row in documents if row["id"] in gone and row["object_key"]}
        return plan

    def _go(self, plan: Plan, vt: VersionedTable, whole: set[uuid.UUID]) -> None:
        """Versions of a table that go, and what those before them end with instead."""
        for key, versions in self._versions.get(vt.table.name, {}).items():
            if (since := self._since.get(key)) is None:
                continue
            if vt is self._tables.key_values:
                gone = self._told(key, versions)
            elif vt is self._tables.emotion_profiles:
                gone = self._worded(key, versions)
            else:
                gone = {row["id"] for row in versions if row["known_from"] >= since}
            plan.go(vt, gone)
            plan.last.setdefault(vt.table.name, {}).update(lasting(versions, gone))
            if len(gone) == len(versions):
                whole.add(key)

    def _told(self, key: uuid.UUID, versions: Sequence[Row]) -> set[uuid.UUID]:
        """Those versions of a key-value that what goes has told, and copies of them."""
        moments = {link["known_from"] for link in self._links.values() if link["derived_id"] == key}
        told = [row for row in versions if row["known_from"] in moments]
        copies = [row for row in versions if row["origin"].startswith(_COPIED)]
        same = [row for row in copies if any(equal(row["value"], one["value"]) for one in told)]
        return {row["id"] for row in (*told, *same)}

    def _worded(self, key: uuid.UUID, versions: Sequence[Row]) -> set[uuid.UUID]:
        """Those versions of an emotion profile whose words came from what goes: when they were made that was noted.

        Later versions, and copies, may have the same words.
        """
        links = [link for link in self._links.values() if link["derived_id"] == key]
        return {
            row["id"]
            for row in versions
            for made in [row["latest_state_updated_at"] or row["known_from"]]
            if any(contains(link["known_from"], link["known_to"], made) for link in links)
        }

    async def _links_go(self, plan: Plan, whole: set[uuid.UUID]) -> None:
        """What is noted of where things came from, and which messages that stay have said something that goes."""
        tables, vt = self._tables, self._tables.memory_sources
        touched = [key for key in self._since if self._rows_of(key)]
        longer = self._words_that_last(plan)
        lasting_links: dict[uuid.UUID, Ending] = {}
        gone = {**self._links}
        unread: set[uuid.UUID] = set()
        for link in await self._all(queries.links_of(tables, self._user_id, touched)):
            key = link["derived_id"]
            if (key, link["known_to"]) in longer:
                lasting_links[link["id"]] = longer[key, link["known_to"]]
            if link["known_to"] is None and self._words_went(plan, key):
                plan.undigested.add(link["source_id"])
            if link["id"] in gone or not (key in whole or self._went(plan, key, link["known_from"])):
                continue
            gone[link["id"]] = link
            if key not in self._roots and link["source_kind"] != "document":
                (unread if link["source_kind"] == "message" else plan.undigested).add(link["source_id"])
        plan.go(vt, gone)
        plan.last[vt.table.name] = {key: end for key, end in lasting_links.items() if key not in gone}
        for versions in (await self._read(vt, {link["link_id"] for link in gone.values()})).values():
            plan.last.setdefault(vt.table.name, {}).update(lasting(versions, gone))
        unread -= self._since.keys()
        if unread:
            found = await self._session.execute(queries.current_messages(tables, self._user_id, unread))
            plan.unread = {row.message_id: row.session_id for row in found}
        plan.undigested -= self._since.keys()
        for kind, things in ((EXTRACTION, plan.unread), (DIGEST, plan.undigested)):
            if things:
                marks = await self._session.execute(queries.marks(tables, self._user_id, kind, things))
                plan.go(vt, set(marks.scalars()))

    def _words_that_last(self, plan: Plan) -> dict[tuple[uuid.UUID, datetime | None], Ending]:
        """Until when words of an emotion profile last that others had followed: by the profile and their end before."""
        last = plan.last.get("emotion_profiles", {})
        profiles = self._versions.get("emotion_profiles", {}).items()
        return {(key, row["known_to"]): last[row["id"]] for key, rows in profiles for row in rows if row["id"] in last}

    def _words_went(self, plan: Plan, key: uuid.UUID) -> bool:
        """Whether this is an emotion profile whose present words go."""
        versions, gone = self._versions.get("emotion_profiles", {}), plan.rows.get("emotion_profiles", set())
        return any(row["id"] in gone and row["known_to"] is None for row in versions.get(key, ()))

    def _went(self, plan: Plan, key: uuid.UUID, moment: datetime) -> bool:
        """Whether what a link of that moment has told went, while something of the thing stays."""
        if key in self._versions.get("emotion_profiles", {}):
            return False  # it may have told later words as well
        if key not in self._versions.get("key_values", {}):
            return moment >= self._since[key]
        gone = plan.rows.get("key_values", set())
        told = [row["id"] for row in self._versions["key_values"][key] if row["known_from"] == moment]
        return bool(told) and gone.issuperset(told)

    async def _nodes_go(self, plan: Plan) -> None:
        """Things of the graph that were named by what goes alone."""
        vt, gone = self._tables.graph_nodes, plan.rows.get("graph_edges", set())
        edges = [row for rows in self._versions.get("graph_edges", {}).values() for row in rows if row["id"] in gone]
        ends = {(row[f"{end}_type"], row[f"{end}_id"]) for row in edges for end in ("source", "target")}
        runs = {run for key in self._since for run in self._runs.get(key, ())}
        if not ends and not runs:
            return
        asked = queries.nodes_alone(self._tables, self._user_id, ends, runs, gone)
        alone = set((await self._session.execute(asked)).scalars())
        for versions in (await self._read(vt, alone)).values():
            if all(_named_only(row, runs) for row in versions):
                plan.go(vt, [row["id"] for row in versions])

    async def _vectors_follow(self, plan: Plan) -> None:
        """Vectors of messages that were made of what is erased, too."""
        if not plan.messages:
            return
        tables = self._tables
        found = await self._session.execute(queries.read_with(tables, self._user_id, plan.messages))
        plan.vectors = set(found.scalars()) - plan.messages
        stored = await self._read(tables.conversation_embeddings, plan.vectors)
        plan.go(tables.conversation_embeddings, [row["id"] for rows in stored.values() for row in rows])

    # ------------------------------------------------------------ reading

    async def _read(self, vt: VersionedTable, keys: Collection[uuid.UUID]) -> Mapping[uuid.UUID, list[Row]]:
        """All versions of logical rows, by their ids."""
        found: dict[uuid.UUID, list[Row]] = {}
        if keys:
            for row in await self._all(queries.versions(self._tables, vt, self._user_id, keys)):
                found.setdefault(row["key"], []).append(row)
            self._versions.setdefault(vt.table.name, {}).update(found)
        return found

    async def _all(self, statement: Any) -> Sequence[Row]:
        return (await self._session.execute(statement)).mappings().all()


def _named_only(row: Row, runs: Collection[Run]) -> bool:
    """Whether a version of a node says no more than a name, or was written because of what goes."""
    bare = row["properties"].keys() <= {"name"}
    return bare or (row["origin"], row["recorded_at"]) in runs or row["origin"].startswith(_COPIED)
