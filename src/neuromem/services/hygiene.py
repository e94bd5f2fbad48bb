"""Stores what was derived from sources so that nothing is kept twice, as of the moment it was known.

What is compared is known at that moment, or was learned after it; so it makes no difference in which order sources that
became known at different times are extracted, and how late.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import insert

from memground.clock import Stamp
from memground.postgres import versioned
from memground.postgres.arms import Scan
from memground.postgres.backdated import Backdated
from memground.postgres.engine import Row
from memground.view import View, contains
from neuromem.db import Session
from neuromem.extraction.hygiene import Statement, compare, merged
from neuromem.extraction.policy import HygieneRules
from neuromem.queries import extraction as queries
from neuromem.queries import memories
from neuromem.queries.scope import Scope
from neuromem.types import MemoryType, Source

type Outcome = Literal["added", "enriched", "restated"]


@dataclass(frozen=True)
class Derived:
    """A memory as a row with its vector, what it came from, and since when it is known."""

    row: dict[str, Any]
    sources: Sequence[Source]
    known_from: datetime


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

    async def remember(self, derived: Derived) -> tuple[str, Outcome]:
        """The id of the memory that now says it, and what was done.

        Told again, a memory gets a source more, the higher confidence and importance, and counts from the latest
        telling; told with more detail, it gets the fuller text, too. Nothing of either is lost.
        """
        found = await self._same(derived)
        if found is None:
            memory_id = derived.row["memory_id"]
            event_at = derived.row["valid_from"] or derived.known_from
            row = {**derived.row, "known_from": derived.known_from, "event_at": event_at}
            await self._session.execute(insert(self._tables.embeddings.table).values(row))
            await self.link("memory", memory_id, derived.sources, derived.known_from)
            return str(memory_id), "added"
        known, richer = found
        memory_id = known["memory_id"]
        owned = memories.owned(self._tables, self._user_id, memory_id)
        writer = Backdated(self._session, self._tables.embeddings, owned, self._stamp, derived.known_from)
        if known["known_from"] > derived.known_from:
            # It was told earlier than was known. What was learned later stays as it is.
            told = {name: derived.row[name] for name in self._columns}
            told["event_at"] = derived.row["valid_from"] or derived.known_from
            await writer.learn(memory_id, told, {"user_id": self._user_id})
        else:
            await writer.learn(memory_id, self._together(known, derived, richer=richer))
        ended = None
        if known["known_to"] is not None:
            ended = (await self._session.execute(queries.last(self._tables, self._user_id, memory_id))).one()
        await self.link("memory", memory_id, derived.sources, derived.known_from, ended=ended)
        return str(memory_id), "enriched" if richer else "restated"

    async def link(
        self,
        kind: str,
        derived_id: uuid.UUID,
        sources: Sequence[Source],
        known_from: datetime,
        *,
        ended: Any = None,
    ) -> None:
        """Records since when something is known to come from sources, where that is not recorded yet.

        `ended`: the last version of a thing that was forgotten since; then so is what it came from.
        """
        ids = {uuid.UUID(source.id): source for source in sources}
        if not ids:
            return
        asked = queries.linked(self._tables, self._user_id, derived_id, list(ids))
        there = (await self._session.execute(asked)).all()
        new: list[dict[str, Any]] = []
        for key, source in ids.items():
            known = [row for row in there if row.source_id == key]
            if any(contains(row.known_from, row.known_to, known_from) for row in known):
                continue
            values = {
                "link_id": uuid.uuid4(),
                "user_id": self._user_id,
                "derived_kind": kind,
                "derived_id": derived_id,
                "source_kind": source.kind,
                "source_id": key,
                "span": source.span,
            }
            row = versioned.new_row(self._stamp, values, known_from=known_from)
            later = [row for row in known if row.known_from > known_from]
            if later:
                first = min(later, key=lambda row: row.known_from)
                row |= {"known_to": first.known_from, "closed_origin": first.origin}
            elif ended is not None:
                row |= {"known_to": ended.known_to, "closed_origin": ended.closed_origin}
            new.append(row)
        if new:
            await self._session.execute(insert(self._tables.memory_sources.table), new)

    @property
    def _columns(self) -> tuple[str, ...]:
        return (
            "content", "memory_type", "metadata_", "importance", "valid_from", "valid_to", "words",
            self._tables.vector_column,
        )  # fmt: skip

    async def _same(self, derived: Derived) -> tuple[Row, bool] | None:
        """The memory that says the same, and whether the new one says more.

        The most similar of those known then; else the first that was learned after it: which of the later ones there
        are must not matter to a moment that knows none of them.
        """
        row = derived.row
        statement = queries.alike(
            self._tables, Scope(self._user_id, View(now=derived.known_from)).shape, scan=self._scan
        )
        found = await self._session.fetch(
            statement,
            {
                "user_id": self._user_id,
                "since": derived.known_from,
                "memory_type": row["memory_type"],
                "vector": row[self._tables.vector_column],
                "words": row["words"],
            },
        )
        new = _statement(row)
        later: list[Row] = []
        for other in found:
            learned_later = other["known_from"] > derived.known_from
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


def _statement(row: Mapping[str, Any]) -> Statement:
    return Statement(
        row["content"], row["valid_from"], row["valid_to"], event=row["memory_type"] == MemoryType.EPISODIC
    )
