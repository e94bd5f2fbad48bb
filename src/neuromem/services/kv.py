"""Key-values."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, insert

from memground.clock import Stamp
from memground.errors import InvalidInputError
from memground.postgres import backdated, versioned
from memground.postgres.backdated import Backdated
from memground.postgres.engine import Row, lock_names
from memground.postgres.prepared import Record
from memground.text import check_json, check_text
from memground.view import View
from neuromem import checks
from neuromem.db import Session
from neuromem.queries import kv as queries
from neuromem.queries.scope import Scope
from neuromem.services import rows
from neuromem.types import DEFAULT_ORIGIN, KeyValue

type Entries = list[KeyValue]
"""Named, because inside a class with a method `list` the word no longer means the type."""


@dataclass(frozen=True)
class Told:
    """A value that was told at a moment; None: that there is none any more."""

    key: str
    value: Any
    known_from: datetime


@dataclass(frozen=True)
class Learned:
    """Which entry a telling was about, and whether it changed what was known then."""

    entry_id: uuid.UUID
    changed: bool


class KVService:
    """JSON values under (namespace, scope_id, key). Every change is a version; nothing is overwritten."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._entries = session.tables.key_values

    async def set(
        self, namespace: str, scope_id: str, key: str, value: Any, *, origin: str = DEFAULT_ORIGIN
    ) -> KeyValue:
        """Sets a value and returns the entry; setting an equal one changes nothing."""
        stored = await self.batch_set(namespace, scope_id, {checks.name(key, "key"): value}, origin=origin)
        return stored[0]

    async def batch_set(
        self, namespace: str, scope_id: str, values: Mapping[str, Any], *, origin: str = DEFAULT_ORIGIN
    ) -> Entries:
        """Sets several values at once, all or none; returns the entries in the order given."""
        _names(namespace, scope_id)
        if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"values must be a dict of key to value, got {type(values).__name__}")
        checked = {checks.name(key, "key"): check_json(value, f"value of {key!r}") for key, value in values.items()}
        stamp = self._session.stamp(origin)
        stored: dict[str, KeyValue] = {}
        await self._session.hold(scope_id)
        # In key order, so that two writers of the same keys wait for instead of block each other.
        for key in sorted(checked):
            row = await self._put(namespace, scope_id, key, checked[key], stamp)
            stored[key] = rows.key_value(row, View(now=stamp.at))
        return [stored[key] for key in checked]

    async def get(self, namespace: str, scope_id: str, key: str, view: View, default: Any = None) -> Any:
        """The value, or `default`."""
        _names(namespace, scope_id)
        statement = queries.one(self._session.tables, namespace, scope_id, checks.name(key, "key"), view)
        row = (await self._session.execute(statement)).mappings().first()
        return default if row is None else row["value"]

    async def list(self, namespace: str, scope_id: str, view: View, *, prefix: str = "") -> Entries:
        """The entries of a namespace, by key."""
        _names(namespace, scope_id)
        check_text(prefix, "prefix", limit=255, empty=True)
        statement = queries.in_namespace(self._session.tables, namespace, scope_id, view, prefix)
        return [rows.key_value(row, view) for row in (await self._session.execute(statement)).mappings()]

    async def entries(self, namespace: str, scope_id: str, view: View) -> Sequence[Record]:
        """(entry_id, key, value, known_from) of a namespace, by key."""
        scope = Scope(scope_id, View(view.now, view.known_at))
        statement = queries.all_in_namespace(self._session.tables, scope.shape)
        return await self._session.fetch(statement, scope.values(namespace=namespace))

    async def history(self, namespace: str, scope_id: str, key: str, view: View) -> Entries:
        """All versions the view knows of, newest first."""
        _names(namespace, scope_id)
        named = queries.named(self._session.tables, namespace, scope_id, checks.name(key, "key"))
        result = await self._session.execute(versioned.history(self._entries, named, view))
        return [rows.key_value(row, view) for row in result.mappings()]

    async def delete(self, namespace: str, scope_id: str, key: str, *, origin: str = DEFAULT_ORIGIN) -> bool:
        """Ends an entry; earlier moments still see it. Whether there was one."""
        _names(namespace, scope_id)
        named = queries.named(self._session.tables, namespace, scope_id, checks.name(key, "key"))
        stamp = self._session.stamp(origin)
        await self._session.hold(scope_id)
        found = await versioned.lock_current(self._session, self._entries, named)
        await versioned.close_rows(self._session, self._entries, [row["id"] for row in found], stamp, where=named)
        return bool(found)

    async def learn(self, namespace: str, scope_id: str, told: Sequence[Told], stamp: Stamp) -> Sequence[Learned]:
        """Values that were told, and hold until what was told after them; None ends one.

        Told again, a value gets a version more: what was told between the two may be learned later than both. Returns
        what became of each, in the order given. The caller holds the scope.
        """
        keys = sorted({item.key for item in told})
        if not keys:
            return []
        await lock_names(self._session, [self._name(namespace, scope_id, key) for key in keys])
        learned: dict[int, Learned] = {}
        rest = dict(enumerate(told))
        while rest:  # each key once a round: what is told next follows what was told before
            first: dict[str, int] = {}
            for place, item in rest.items():
                first.setdefault(item.key, place)
            learned |= await self._learn(
                namespace, scope_id, {place: rest.pop(place) for place in first.values()}, stamp
            )
        return [learned[place] for place in range(len(told))]

    async def _learn(self, namespace: str, scope_id: str, told: Mapping[int, Told], stamp: Stamp) -> dict[int, Learned]:
        """What became of values of different keys. What nobody told anything newer of is written at one go."""
        vt, table = self._entries, self._entries.table
        mine = and_(table.c.namespace == namespace, table.c.scope_id == scope_id)
        ids = {place: named_entry(namespace, scope_id, item.key) for place, item in told.items()}
        of_these = mine & table.c.entry_id.in_(list(ids.values()))
        current = {row["entry_id"]: row for row in await versioned.lock_current(self._session, vt, of_these)}
        missing = [key for key in ids.values() if key not in current]
        left = (await self._session.execute(versioned.ends(vt, mine, missing))).scalars() if missing else ()
        ended: set[uuid.UUID] = set(left)
        new: list[dict[str, Any]] = []
        next_: list[backdated.Told] = []
        learned: dict[int, Learned] = {}
        for place, item in told.items():
            entry_id, row = ids[place], current.get(ids[place])
            names = {"namespace": namespace, "scope_id": scope_id, "key": item.key}
            if entry_id in ended or (row is not None and row["known_from"] > item.known_from):
                learned[place] = await self._learn_of_the_past(entry_id, names, item, stamp)
                continue
            learned[place] = Learned(entry_id, _changes(None if row is None else row["value"], item.value))
            if row is None:
                if item.value is not None:
                    values = {"entry_id": entry_id, **names, "value": item.value}
                    new.append(versioned.new_row(stamp, values, known_from=item.known_from))
            elif item.value is None:
                next_.append((row, item.known_from, None))
            elif row["known_from"] < item.known_from or not versioned.equal(row["value"], item.value):
                next_.append((row, item.known_from, {"value": item.value}))
        await backdated.follow(self._session, vt, next_, stamp, where=mine)
        if new:
            await self._session.execute(insert(table), new)
        return learned

    async def _learn_of_the_past(
        self, entry_id: uuid.UUID, names: Mapping[str, str], item: Told, stamp: Stamp
    ) -> Learned:
        where = queries.named(self._session.tables, **names)
        writer = Backdated(self._session, self._entries, where, stamp, item.known_from)
        if item.value is None:
            return Learned(entry_id, await writer.unlearn(entry_id))
        before = await writer.known(entry_id)
        await writer.learn(entry_id, {"value": item.value}, names, again=True)
        return Learned(entry_id, _changes(None if before is None else before["value"], item.value))

    def _name(self, namespace: str, scope_id: str, key: str) -> str:
        return f"{self._entries.table.fullname}/{namespace}/{scope_id}/{key}"

    async def _put(self, namespace: str, scope_id: str, key: str, value: Any, stamp: Stamp) -> Row:
        table = self._entries.table
        named = queries.named(self._session.tables, namespace, scope_id, key)
        # First writers of a new key have no row to lock: they queue here, the later ones then find the row.
        await versioned.lock_name(self._session, self._name(namespace, scope_id, key))
        if found := await versioned.lock_current(self._session, self._entries, named):
            return await versioned.append(self._session, self._entries, found[0], {"value": value}, stamp, where=named)
        entry_id = named_entry(namespace, scope_id, key)
        version, start = await versioned.next_version(self._session, self._entries, named, stamp)
        names = {"entry_id": entry_id, "namespace": namespace, "scope_id": scope_id, "key": key}
        new = versioned.new_row(stamp, {**names, "value": value}, known_from=start, version=version)
        await self._session.execute(insert(table).values(new))
        return new


def named_entry(namespace: str, scope_id: str, key: str) -> uuid.UUID:
    """The same for the same name: an entry that is deleted and set again is one entry."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{len(namespace)}/{len(scope_id)}/{namespace}{scope_id}{key}")


def _changes(before: Any, value: Any) -> bool:
    """Whether a value differs from what it was, None where there was none."""
    return not versioned.equal(before, value)


def _names(namespace: str, scope_id: str) -> None:
    checks.name(namespace, "namespace")
    checks.name(scope_id, "scope_id")
