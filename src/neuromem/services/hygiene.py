"""Stores what was derived from sources so that nothing is kept twice, as of the moment it was known.

What is compared is known at that moment, or was learned after it; so it makes no difference in which order sources that
became known at different times are extracted, and how late.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import insert, select

from memground.clock import Stamp
from memground.postgres import versioned
from memground.postgres.arms import Scan
from memground.postgres.backdated import Backdated, Told, follow
from memground.postgres.engine import Row
from memground.view import contains
from memground.words import keys, words
from neuromem.db import Session
from neuromem.extraction.hygiene import Statement, beginning, compare, merged, says_just
from neuromem.extraction.policy import HygieneRules
from neuromem.queries import extraction as queries
from neuromem.queries import memories
from neuromem.queries.scope import Shape
from neuromem.services.edge_plan import Ending
from neuromem.services.memories import MemoryService, source_link
from neuromem.types import MemoryType, Source

type Outcome = Literal["added", "enriched", "restated"]


@dataclass(frozen=True)
class Derived:
    """A memory as a row with its vector, what it came from, and since when it is known."""

    row: dict[str, Any]
    sources: Sequence[Source]
    known_from: datetime


@dataclass(frozen=True)
class Link:
    """Since when something derived is known to come from sources.

    `ended`: the last version of a thing that was forgotten since; then so is what it came from.
    """

    kind: str
    derived_id: uuid.UUID
    sources: Sequence[Source]
    known_from: datetime
    ended: Any = None


class HygieneService:
    """Adds derived memories of one user, or joins them with what says the same. The caller holds the user.

    `scan`: how the memories nearest to one are found.
    """

    def __init__(
        self, session: Session, user_id: str, stamp: Stamp, rules: HygieneRules, *, scan: Scan = Scan.EXACT
    ) -> None:
        self._session = session
        self._tables = session.tables
        self._user_id = user_id
        self._stamp = stamp
        self._rules = rules
        self._scan = scan
        self._added: list[Row] = []
        self._told: list[Told] = []
        self._touched: set[uuid.UUID] = set()
        self._links: list[Link] = []
        self.ended: list[str] = []
        """The memories of which was learned that they are no longer true."""

    async def remember(self, told: Sequence[Derived], endings: Sequence[Ending] = ()) -> list[tuple[str, Outcome]]:
        """For each, the id of the memory that now says it, and what was done. In the order given.

        Told again, a memory gets a source more, the higher confidence and importance, and counts from the latest
        telling; told with more detail, it gets the fuller text, too. Nothing of either is lost.

        What concerns nothing before it in the list is looked up and written with the rest, in a few statements. A fact
        that says just what an edge said which ended ends with it, after what was told at that moment.
        """
        done: list[tuple[str, Outcome]] = []
        coming = sorted(endings, key=lambda ending: ending.known_from, reverse=True)
        heard: dict[tuple[str, str], list[Statement]] = {}
        for derived, before in zip(told, await self._same(told), strict=True):
            while coming and coming[-1].known_from < derived.known_from:
                await self._end(coming.pop())
            said, found = _statement(derived.row), before
            same = heard.setdefault((derived.row["memory_type"], beginning(said.content)), [])
            stale = found is not None and found[0]["memory_id"] in self._touched
            if stale or any(compare(said, other, 1.0, self._rules) != "different" for other in same):
                await self._flush()
                (found,) = await self._same([derived])
            done.append(await self._remember(derived, found))
            same.append(said)
        await self._flush()
        while coming:
            await self._end(coming.pop())
        return done

    async def _remember(self, derived: Derived, found: tuple[Row, bool] | None) -> tuple[str, Outcome]:
        row, since = derived.row, derived.known_from
        if found is None:
            memory_id = row["memory_id"]
            self._added.append({**row, "known_from": since, "event_at": row["valid_from"] or since})
            self._links.append(Link("memory", memory_id, derived.sources, since))
            return str(memory_id), "added"
        known, richer = found
        memory_id, ended = known["memory_id"], None
        self._touched.add(memory_id)
        if known["known_to"] is None and known["known_from"] <= since:
            together = self._together(known, derived, richer=richer)
            if not all(versioned.equal(known[name], value) for name, value in together.items()):
                self._told.append((known, since, together))
        else:
            await self._put_into_its_past(known, derived, richer=richer)
            if known["known_to"] is not None:
                ended = (await self._session.execute(queries.last(self._tables, self._user_id, memory_id))).one()
        self._links.append(Link("memory", memory_id, derived.sources, since, ended))
        return str(memory_id), "enriched" if richer else "restated"

    async def _put_into_its_past(self, known: Row, derived: Derived, *, richer: bool) -> None:
        """Where something newer is known of it, or it was forgotten: what was learned later stays as it is."""
        await self._flush()
        memory_id = known["memory_id"]
        owned = memories.owned(self._tables, self._user_id, memory_id)
        writer = Backdated(self._session, self._tables.embeddings, owned, self._stamp, derived.known_from)
        if known["known_from"] > derived.known_from:
            told = {name: derived.row[name] for name in self._columns}
            told["event_at"] = derived.row["valid_from"] or derived.known_from
            await writer.learn(memory_id, told, {"user_id": self._user_id})
        else:
            await writer.learn(memory_id, self._together(known, derived, richer=richer))

    async def _end(self, ending: Ending) -> None:
        await self._flush()
        telling = keys(self._user_id, words(ending.text))
        asked = queries.saying(self._tables, self._user_id, MemoryType.FACT, telling, ending.known_from)
        for row in (await self._session.execute(asked)).mappings().all():
            began = row["valid_from"]
            if says_just(row["content"], ending.text) and (began is None or began < ending.valid_to):
                owned = memories.owned(self._tables, self._user_id, row["memory_id"])
                writer = Backdated(self._session, self._tables.embeddings, owned, self._stamp, ending.known_from)
                await writer.learn(row["memory_id"], {"valid_to": ending.valid_to})
                self._touched.add(row["memory_id"])
                self.ended.append(str(row["memory_id"]))

    async def _flush(self) -> None:
        """Writes what has gathered."""
        vt, mine = self._tables.embeddings, self._tables.embeddings.table.c.user_id == self._user_id
        await follow(self._session, vt, self._told, self._stamp, where=mine)
        if self._added:
            await self._session.execute(insert(vt.table), self._added)
        await self.link(self._links)
        self._told, self._added, self._links = [], [], []

    async def link(self, links: Sequence[Link]) -> None:
        """Records since when things are known to come from sources, where that is not recorded yet."""
        things = list({link.derived_id for link in links if link.sources})
        if not things:
            return
        sources = list({uuid.UUID(source.id) for link in links for source in link.sources})
        asked = queries.linked(self._tables, self._user_id, things, sources)
        there: dict[tuple[uuid.UUID, uuid.UUID], list[Row]] = {}
        for row in (await self._session.execute(asked)).mappings():
            there.setdefault((row["derived_id"], row["source_id"]), []).append(row)
        new: list[dict[str, Any]] = []
        for link in links:
            for key, source in {uuid.UUID(source.id): source for source in link.sources}.items():
                known = there.setdefault((link.derived_id, key), [])
                if not any(_says(row, link) for row in known):
                    new.append(self._new_link(link, source, known))
                    known.append(new[-1])
        await MemoryService(self._session).store_links(new)

    def _new_link(self, link: Link, source: Source, known: Sequence[Row]) -> dict[str, Any]:
        row = source_link(
            self._user_id, link.kind, link.derived_id, source, known_from=link.known_from, stamp=self._stamp
        )
        later = [other for other in known if other["known_from"] > link.known_from]
        if later:
            first = min(later, key=lambda other: other["known_from"])
            row |= {"known_to": first["known_from"], "closed_origin": first["origin"]}
        elif link.ended is not None:
            row |= {"known_to": link.ended.known_to, "closed_origin": link.ended.closed_origin}
        return row

    @property
    def _columns(self) -> tuple[str, ...]:
        return (
            "content", "memory_type", "metadata_", "importance", "valid_from", "valid_to", "words",
            self._tables.vector_column,
        )  # fmt: skip

    async def _same(self, told: Sequence[Derived]) -> list[tuple[Row, bool] | None]:
        """For each the memory that says the same, and whether the new one says more. Where it is current, locked."""
        if not told:
            return []
        while True:
            found = await self._alike(told)
            rows = {match[0]["id"]: match[0] for match in found if match and match[0]["known_to"] is None}
            if not rows:
                return found
            table = self._tables.embeddings.table
            wanted = [table.c.user_id == self._user_id, table.c.id.in_(list(rows)), versioned.known_now(table)]
            held = select(table).where(*wanted).order_by(table.c.memory_id).with_for_update()
            current = {row["id"]: row for row in (await self._session.execute(held)).mappings()}
            if len(current) == len(rows):
                return [match and (current.get(match[0]["id"], match[0]), match[1]) for match in found]
            # Somebody changed one meanwhile: compared anew, with what it is now.

    async def _alike(self, told: Sequence[Derived]) -> list[tuple[Row, bool] | None]:
        """What of each was found to say the same.

        The most similar of those known then; else the first that was learned after it: which of the later ones there
        are must not matter to a moment that knows none of them.
        """
        vector = self._tables.vector_column
        values = {
            "user_id": self._user_id,
            "types": [derived.row["memory_type"] for derived in told],
            "words": ["{" + ",".join(map(str, derived.row["words"])) + "}" for derived in told],
            "since": [derived.known_from for derived in told],
            "vectors": [number for derived in told for number in derived.row[vector]],
        }
        statement = queries.alike(self._tables, Shape(), scan=self._scan)
        found: dict[int, list[Row]] = {}
        for row in await self._session.fetch(statement, values):
            found.setdefault(row["place"], []).append(row)
        return [self._best(derived, found.get(place, ())) for place, derived in enumerate(told, 1)]

    def _best(self, derived: Derived, found: Sequence[Row]) -> tuple[Row, bool] | None:
        new = _statement(derived.row)
        later: list[Row] = []
        for other in found:
            learned_later = other["known_from"] > derived.known_from
            if learned_later and other["was_other"]:
                continue  # what it said then stays what it said
            # The later telling is the one that may end what the earlier one says, whichever is extracted first.
            told, known = (_statement(other), new) if learned_later else (new, _statement(other))
            verdict = compare(told, known, other["similarity"] or 0.0, self._rules)
            if verdict == "different":
                continue
            if not learned_later:
                return other, verdict == "richer"
            later.append(other)
        return (min(later, key=lambda other: other["known_from"]), False) if later else None

    def _together(self, known: Row, derived: Derived, *, richer: bool) -> dict[str, Any]:
        row = derived.row
        told_at = row["valid_from"] or derived.known_from
        if known["memory_type"] == MemoryType.EPISODIC:
            event_at = known["event_at"] if row["valid_from"] is None or known["valid_from"] else told_at
        else:
            event_at = max(known["event_at"], told_at)
        valid_from, valid_to = known["valid_from"] or row["valid_from"], known["valid_to"] or row["valid_to"]
        if valid_from is not None and valid_to is not None and valid_to <= valid_from:
            valid_from, valid_to = known["valid_from"], known["valid_to"]
        values: dict[str, Any] = {
            "metadata_": merged(known["metadata_"], row["metadata_"]),
            "importance": max(known["importance"], row["importance"]),
            "valid_from": valid_from,
            "valid_to": valid_to,
            "event_at": event_at,
        }
        if richer:
            vector = self._tables.vector_column
            values |= {name: row[name] for name in ("content", "words", vector)}
        return values


def _says(row: Row, link: Link) -> bool:
    """Whether a link that is recorded says the same. Of a key-value each telling is recorded, because each is a value
    of its own: who erases a message takes away those that it told."""
    if link.kind == "kv":
        return row["known_from"] == link.known_from
    return contains(row["known_from"], row["known_to"], link.known_from)


def _statement(row: Row) -> Statement:
    return Statement(
        row["content"], row["valid_from"], row["valid_to"], event=row["memory_type"] == MemoryType.EPISODIC
    )
