"""The mechanism of versions, on a table of its own: nothing is overwritten, no moment sees a row twice."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Column, Index, MetaData, String, Table, insert, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from memground.clock import Stamp, nanoseconds
from memground.errors import InvalidInputError
from memground.postgres import restoring, versioned
from memground.postgres.engine import Query, Row
from memground.postgres.restoring import Restored
from memground.postgres.versioned import VersionedTable, version_columns, version_indexes
from memground.view import View
from support.toys import toy_tables

T0 = datetime(2024, 1, 1, tzinfo=UTC)
KEY = uuid.UUID(int=1)

table = Table(
    "toy_notes",
    MetaData(),
    *version_columns("note_id"),
    Column("owner", String, nullable=False),
    Column("name", String),
    Column("body", JSONB, nullable=False),
    Column("colour", String),
)
version_indexes("toy", table, "note_id")
Index("uq_toy_name", table.c.owner, table.c.name, unique=True, postgresql_where=table.c.known_to.is_(None))
notes = VersionedTable(table, "note_id", content=("body",), carried=("owner", "name", "colour"))
MINE = table.c.owner == "me"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Toy:
    """Writes and reads notes, one transaction each."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def put(
        self,
        body: Any,
        seconds: float,
        who: str = "ann",
        *,
        key: uuid.UUID = KEY,
        since: float | None = None,
        **columns: Any,
    ) -> Row:
        """The note holds `body` from now on, whether it exists or not."""
        stamp, note = Stamp(at(seconds), who), table.c.note_id == key
        async with self.engine.begin() as connection:
            await versioned.lock_name(connection, "me", shared=True)
            await versioned.lock_name(connection, str(key))
            rows = await versioned.lock_current(connection, notes, note)
            if not rows:
                version, start = await versioned.next_version(connection, notes, note, stamp)
                values = {"note_id": key, "owner": "me", "body": body, "name": None, "colour": None, **columns}
                row = versioned.new_row(stamp, values, known_from=start, version=version)
                await connection.execute(insert(table).values(row))
                return row
            start = None if since is None else at(since)
            changed = {"body": body, **columns}
            return await versioned.append(connection, notes, rows[0], changed, stamp, where=note, known_from=start)

    async def end(self, seconds: float, who: str = "ann", *, key: uuid.UUID = KEY) -> None:
        note = table.c.note_id == key
        async with self.engine.begin() as connection:
            ids = [row["id"] for row in await versioned.lock_current(connection, notes, note)]
            await versioned.close_rows(connection, notes, ids, Stamp(at(seconds), who), where=note)

    async def restore(self, target: Query, seconds: float, who: str = "back") -> Restored:
        async with self.engine.begin() as connection:
            await versioned.lock_name(connection, "me")
            return await restoring.restore(connection, notes, target, MINE, Stamp(at(seconds), who))

    async def undo(self, seconds: float, origin: str | None, since: float | None = None, who: str = "undo") -> Restored:
        moment = None if since is None else at(since)
        target = restoring.state_without(notes, MINE, origin=origin, recorded_since=moment)
        return await self.restore(target, seconds, who)

    async def rows(self, statement: Query | None = None) -> list[Row]:
        async with self.engine.connect() as connection:
            query = select(table).order_by(table.c.note_id, table.c.version) if statement is None else statement
            return list((await connection.execute(query)).mappings())

    async def bodies(self, seconds: float | None = None, key: uuid.UUID = KEY) -> list[Any]:
        """What is known of a note, now or then: one body or none, unless something is broken."""
        view = View(now=at(1_000), known_at=None if seconds is None else at(seconds))
        statement = select(table).where(table.c.note_id == key, versioned.known(table, view))
        return [row["body"] for row in await self.rows(statement)]


@pytest.fixture(scope="module")
async def engine(pg_url: str) -> AsyncIterator[AsyncEngine]:
    async with toy_tables(pg_url, table.metadata, pool_size=20) as engine:
        yield engine


@pytest.fixture
async def toy(engine: AsyncEngine) -> AsyncIterator[Toy]:
    """An empty table; afterwards its histories are sound."""
    async with engine.begin() as connection:
        await connection.execute(table.delete())
    toy = Toy(engine)
    yield toy
    check_sound(await toy.rows())


def check_sound(rows: list[Row]) -> None:
    """Per note: versions rise, known times follow each other, only the last is open, all tell one date of birth."""
    for row in rows:
        assert (row["known_to"] is None) == (row["closed_origin"] is None)
        assert row["known_to"] is None or row["known_from"] <= row["known_to"]
    for before, after in pairwise(rows):
        if before["note_id"] == after["note_id"]:
            assert before["version"] < after["version"]
            assert before["known_to"] is not None
            assert before["known_to"] <= after["known_from"]


# ---------------------------------------------------------------- append and close


async def test_a_change_closes_the_old_version_and_appends_one(toy: Toy) -> None:
    await toy.put("a", 1, "ann", colour="red")
    current = await toy.put("b", 2, "bob")
    first, second = await toy.rows()
    assert [first["body"], second["body"]] == ["a", "b"]
    assert (first["known_from"], first["known_to"], first["closed_origin"]) == (at(1), at(2), "bob")
    assert (second["known_from"], second["known_to"], second["origin"]) == (at(2), None, "bob")
    assert (second["created_at"], second["recorded_at"], second["colour"]) == (at(1), at(2), "red")
    assert [row["version"] for row in (first, second)] == [nanoseconds(at(1)), nanoseconds(at(2))]
    assert second["id"] == current["id"] != first["id"]


@pytest.mark.parametrize(
    ("body", "again", "same"),
    [
        ({"a": [1, None]}, {"a": [1, None]}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (1, 1.0, True),
        (True, 1, False),
        ({"a": [0]}, {"a": [False]}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ("1", 1, False),
        ([1, 2], [2, 1], False),
    ],
)
async def test_equal_content_makes_no_version(toy: Toy, body: Any, again: Any, same: bool) -> None:
    """Equal as JSON, where true is not 1."""
    await toy.put(body, 1)
    await toy.put(again, 2, colour="blue")
    assert len(await toy.rows()) == (1 if same else 2)
    await toy.restore(restoring.state_at(notes, MINE, at(1)), 3)  # PostgreSQL is of the same opinion
    assert len(await toy.rows()) == (1 if same else 3)


@pytest.mark.parametrize("clock", [(5, 5, 5, 5), (5, 4, 3, 2), (5, 9, 1, 7)], ids=["stopped", "backwards", "jumping"])
async def test_versions_rise_whatever_the_clock_does(toy: Toy, clock: tuple[int, ...]) -> None:
    """The fixture checks the versions; here: the last write counts, and no moment knows two states."""
    for body, seconds in enumerate(clock):
        await toy.put(body, seconds)
    await toy.end(clock[0] - 4)
    await toy.put("again", clock[0] - 4)
    await toy.restore(restoring.state_at(notes, MINE, at(0)), clock[0] - 4)
    await toy.put("at last", 0)
    assert await toy.bodies() == ["at last"]
    moments = {row[name] for row in await toy.rows() for name in ("known_from", "known_to")} - {None}
    for moment in moments:
        assert len(await toy.bodies((moment - T0).total_seconds())) <= 1


async def test_a_version_never_begins_before_its_predecessor(toy: Toy) -> None:
    await toy.put("a", 5)
    with pytest.raises(InvalidInputError, match="lies before the current version's 2024-01-01T00:00:05"):
        await toy.put("b", 9, since=4.9)
    assert [row["body"] for row in await toy.rows()] == ["a"]
    await toy.put("b", 9, since=6)
    assert [await toy.bodies(moment) for moment in (5, 5.999, 6, 9)] == [["a"], ["a"], ["b"], ["b"]]
    assert (await toy.rows())[1]["recorded_at"] == at(9)


def test_nothing_is_known_before_it_is_recorded() -> None:
    stamp = Stamp(at(5), "ann")
    assert versioned.check_known(None, stamp) == versioned.check_known(at(5), stamp) == at(5)
    assert versioned.check_known(at(1), stamp) == at(1)
    with pytest.raises(InvalidInputError, match="lies in the future"):
        versioned.check_known(at(5.000001), stamp)
    with pytest.raises(InvalidInputError, match="timezone"):
        versioned.check_known(datetime(2023, 1, 1), stamp)  # noqa: DTZ001


async def test_closing_ends_a_row_from_then_on_and_only_once(toy: Toy) -> None:
    await toy.put("a", 1)
    await toy.end(3, "bob")
    await toy.end(5, "eve")
    assert [await toy.bodies(moment) for moment in (0.9, 1, 2.9, 3, None)] == [[], ["a"], ["a"], [], []]
    (row,) = await toy.rows()
    assert (row["known_to"], row["closed_origin"]) == (at(3), "bob")


# ---------------------------------------------------------------- reading


async def test_history_is_what_the_view_knows_newest_first(toy: Toy) -> None:
    for seconds, body in enumerate("abc", start=1):
        await toy.put(body, seconds)

    async def history(seconds: float | None) -> list[Any]:
        view = View(now=at(9), known_at=None if seconds is None else at(seconds))
        found = await toy.rows(versioned.history(notes, table.c.note_id == KEY, view))
        return [(row["body"], view.mask(row["known_to"])) for row in found]

    assert await history(None) == [("c", None), ("b", at(3)), ("a", at(2))]
    assert await history(2.5) == [("b", None), ("a", at(2))]
    assert await history(1) == [("a", None)]
    assert await history(0) == []


async def test_changes_between_two_moments(toy: Toy) -> None:
    there, gone, back, changed, new = (uuid.UUID(int=n) for n in range(10, 15))
    for key in (there, gone, back, changed):
        await toy.put("a", 1, key=key)
    await toy.put("b", 2, key=back)
    await toy.put("a", 3, key=back)
    await toy.put("b", 4, key=changed)
    await toy.end(5, key=gone)
    await toy.put("a", 6, key=new)
    await toy.put("a", 6, key=uuid.UUID(int=99), owner="you")

    async def changes(earlier: float, later: float) -> list[Any]:
        found = await toy.rows(versioned.changes(notes, MINE, at(earlier), at(later)))
        async with toy.engine.connect() as connection:
            ids = {row[name] for row in found for name in ("before", "after")}
            states = await versioned.fetch_rows(connection, notes, ids, where=MINE)
        body = {row_id: row["body"] for row_id, row in states.items()}
        return [(row["key"], body.get(row["before"]), body.get(row["after"])) for row in found]

    assert await changes(1, 9) == [(gone, "a", None), (changed, "a", "b"), (new, None, "a")]
    assert await changes(1, 2) == [(back, "a", "b")]
    assert await changes(0, 1) == [(key, None, "a") for key in (there, gone, back, changed)]
    assert await changes(3, 3) == []


# ---------------------------------------------------------------- restore


async def test_going_back_restores_ends_and_leaves_what_is_equal(toy: Toy) -> None:
    kept, changed, ended, born = (uuid.UUID(int=n) for n in range(10, 14))
    for key in (kept, changed, ended):
        await toy.put("a", 1, key=key)
    await toy.put("b", 3, key=kept)
    await toy.put("a", 4, key=kept)
    await toy.put("b", 3, key=changed)
    await toy.end(3, key=ended)
    await toy.put("a", 3, key=born)
    await toy.put("x", 3, key=uuid.UUID(int=99), owner="you")

    done = await toy.restore(restoring.state_at(notes, MINE, at(2)), 10)
    assert set(done.restored) == {changed, ended}
    assert done.ended == [born]
    assert [await toy.bodies(key=key) for key in (kept, changed, ended, born)] == [["a"], ["a"], ["a"], []]
    assert await toy.bodies(key=uuid.UUID(int=99)) == ["x"]
    assert await toy.bodies(9, key=changed) == ["b"]  # nothing is lost
    assert len(await toy.restore(restoring.state_at(notes, MINE, at(2)), 11)) == 0
    copy = [row for row in await toy.rows() if row["note_id"] == ended][-1]
    assert (copy["known_from"], copy["recorded_at"], copy["origin"], copy["created_at"]) == (
        at(10),
        at(10),
        "back",
        at(1),
    )


async def test_what_is_carried_comes_back_too(toy: Toy) -> None:
    await toy.put("a", 1, colour="red")
    await toy.put("b", 2, colour="blue")
    await toy.put("a", 3, colour="green")
    await toy.restore(restoring.state_at(notes, MINE, at(1)), 4)
    assert [(row["body"], row["colour"]) for row in await toy.rows()][-1] == ("a", "red")


async def test_a_name_that_another_row_has_taken_stays_with_it(toy: Toy) -> None:
    first, second = uuid.UUID(int=10), uuid.UUID(int=11)
    await toy.put("a", 1, key=first, name="x")
    await toy.end(2, "bob", key=first)
    await toy.put("b", 3, key=second, name="x")
    assert len(await toy.undo(4, "bob")) == 0
    assert [await toy.bodies(key=key) for key in (first, second)] == [[], ["b"]]
    done = await toy.restore(restoring.state_at(notes, MINE, at(1)), 5)  # going back frees the name first
    assert (done.restored, done.ended) == ([first], [second])


# ---------------------------------------------------------------- undo


async def test_undo_takes_back_what_one_writer_wrote(toy: Toy) -> None:
    mine, theirs, both, ended = (uuid.UUID(int=n) for n in range(10, 14))
    await toy.put("a", 1, "ann", key=mine)
    await toy.put("b", 1, "bob", key=theirs)
    await toy.put("a", 1, "ann", key=both)
    await toy.put("b", 2, "bob", key=both)
    await toy.put("a", 1, "ann", key=ended)
    await toy.end(2, "bob", key=ended)
    done = await toy.undo(5, "bob")
    assert set(done.restored) == {both, ended}
    assert done.ended == [theirs]
    assert [await toy.bodies(key=key) for key in (mine, theirs, both, ended)] == [["a"], [], ["a"], ["a"]]


async def test_undo_leaves_what_another_writer_did_on_top(toy: Toy) -> None:
    changed, ended, again = (uuid.UUID(int=n) for n in range(10, 13))
    await toy.put("b", 1, "bob", key=changed)
    await toy.put("a", 2, "ann", key=changed)
    await toy.put("b", 1, "bob", key=ended)
    await toy.end(2, "ann", key=ended)
    await toy.put("a", 1, "ann", key=again)
    await toy.put("b", 2, "bob", key=again)
    await toy.end(3, "ann", key=again)
    await toy.put("c", 4, "bob", key=again)  # without bob, ann's ending would be the last word
    await toy.undo(5, "bob")
    assert [await toy.bodies(key=key) for key in (changed, ended, again)] == [["a"], [], []]


async def test_undo_since_goes_by_the_time_of_recording(toy: Toy) -> None:
    await toy.put("a", 1, "ann")
    await toy.put("b", 10, "bob", since=5)  # known since 5, recorded at 10
    new = uuid.UUID(int=10)
    await toy.put("n", 10, "bob", key=new)
    assert len(await toy.undo(11, None, since=10.5)) == 0
    await toy.undo(12, None, since=9)
    assert [await toy.bodies(), await toy.bodies(key=new)] == [["a"], []]
    assert [await toy.bodies(moment) for moment in (4, 5, 11)] == [["a"], ["b"], ["b"]]


async def test_undo_of_undo(toy: Toy) -> None:
    new, ended = uuid.UUID(int=10), uuid.UUID(int=11)
    await toy.put("a", 1, "ann", key=ended)
    await toy.end(2, "bob", key=ended)
    await toy.put("b", 2, "bob", key=new)
    await toy.undo(3, "bob", who="undo-1")
    await toy.undo(4, "undo-1", who="undo-2")
    assert [await toy.bodies(key=key) for key in (new, ended)] == [["b"], []]
    await toy.undo(5, "undo-2", who="undo-3")
    assert [await toy.bodies(key=key) for key in (new, ended)] == [[], ["a"]]


@pytest.mark.parametrize("seed", range(12))
async def test_undo_agrees_with_its_definition(toy: Toy, seed: int) -> None:
    """The last act that is not theirs decides, if the last act of all is theirs."""
    rng = random.Random(seed)
    acts: dict[uuid.UUID, list[tuple[str, float, Any]]] = {uuid.UUID(int=n): [] for n in range(1, 4)}
    now = 0.0

    def state(key: uuid.UUID) -> Any:
        return acts[key][-1][2] if acts[key] else None

    for number in range(40):
        now += rng.choice((0, 0.25, 1))
        key, who = rng.choice(list(acts)), rng.choice(("ann", "bob"))
        match rng.choice(("put", "put", "put past", "end", "undo", "undo since")):
            case "put" | "put past" as kind:
                body = rng.choice("abc")
                open_since = [
                    row["known_from"] for row in await toy.rows() if row["note_id"] == key and not row["known_to"]
                ]
                past = kind == "put past" and open_since
                await toy.put(body, now, who, key=key, since=(open_since[0] - T0).total_seconds() if past else None)
                if state(key) != body:
                    acts[key].append((who, now, body))
            case "end":
                await toy.end(now, who, key=key)
                if state(key) is not None:
                    acts[key].append((who, now, None))
            case kind:
                origin, since = (who, None) if kind == "undo" else (rng.choice((who, None)), now - rng.choice((0.5, 3)))
                await toy.undo(now, origin, since, who=f"undo-{number}")
                for past in acts.values():
                    theirs = [origin in (None, who) and (since is None or when >= since) for who, when, _ in past]
                    if not past or not theirs[-1]:
                        continue
                    others = [body for (_, _, body), is_theirs in zip(past, theirs, strict=True) if not is_theirs]
                    if (wanted := others[-1] if others else None) != past[-1][2]:
                        past.append((f"undo-{number}", now, wanted))
        for key in acts:
            assert await toy.bodies(key=key) == ([] if state(key) is None else [state(key)]), number


# ---------------------------------------------------------------- at the same time


async def together(toy: Toy, count: int, act: Callable[[AsyncConnection, int], Awaitable[object]]) -> None:
    """`count` transactions, each on a connection of its own."""

    async def one(number: int) -> None:
        async with toy.engine.begin() as connection:
            await act(connection, number)

    await asyncio.gather(*map(one, range(count)))


async def append_current(connection: AsyncConnection, body: Any, stamp: Stamp) -> None:
    (row,) = await versioned.lock_current(connection, notes, table.c.note_id == KEY)
    await versioned.append(connection, notes, row, {"body": body}, stamp, where=MINE)


async def test_concurrent_writers_lose_nothing(toy: Toy) -> None:
    await toy.put("first", 0)
    await together(toy, 64, lambda connection, n: append_current(connection, n, Stamp(at(1), f"writer-{n}")))
    rows = await toy.rows()
    assert len(rows) == 65
    assert {row["body"] for row in rows} == {"first", *range(64)}
    assert sum(row["known_to"] is None for row in rows) == 1


async def test_concurrent_first_writers_make_one_row(toy: Toy) -> None:
    await asyncio.gather(*(toy.put(n, 1, f"writer-{n}") for n in range(16)))
    rows = await toy.rows()
    assert len(rows) == 16
    assert sum(row["known_to"] is None for row in rows) == 1


async def test_a_row_restored_by_many_comes_back_once(toy: Toy) -> None:
    """Even without a lock: the later ones find its place taken."""
    await toy.put("a", 1)
    await toy.end(2)
    target = restoring.state_at(notes, MINE, at(1))
    await together(toy, 16, lambda c, n: restoring.restore(c, notes, target, MINE, Stamp(at(3), f"back-{n}")))
    assert [row["known_to"] for row in await toy.rows()] == [at(2), None]


async def test_going_back_and_writing_at_the_same_time(toy: Toy) -> None:
    """The fixture checks that known times do not overlap, though each took its stamp before it waited for the other."""
    await toy.put("a", 1)
    target = restoring.state_at(notes, MINE, at(1))

    async def act(connection: AsyncConnection, number: int) -> None:
        stamp, back = Stamp(at(10 - number % 7), f"writer-{number}"), number % 2 == 1
        await versioned.lock_name(connection, "me", shared=not back)
        if back:
            await restoring.restore(connection, notes, target, MINE, stamp)
        else:
            await append_current(connection, number, stamp)

    await together(toy, 32, act)
    await toy.restore(target, 2)
    assert await toy.bodies() == ["a"]
