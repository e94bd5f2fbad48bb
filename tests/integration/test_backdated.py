"""What is recorded late but was known early: it is put where it belongs, and what was learned later stays."""

import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine

from memground.clock import Stamp
from memground.postgres import restoring, versioned
from memground.postgres.backdated import Backdated
from memground.postgres.engine import Row
from memground.postgres.versioned import VersionedTable, version_columns, version_indexes
from memground.view import View
from support.toys import toy_tables

T0 = datetime(2024, 1, 1, tzinfo=UTC)
KEY = uuid.UUID(int=1)

table = Table(
    "toy_learned",
    MetaData(),
    *version_columns("note_id"),
    Column("owner", String, nullable=False),
    Column("body", JSONB, nullable=False),
)
version_indexes("toy_learned", table, "note_id")
notes = VersionedTable(table, "note_id", content=("body",), carried=("owner",))
MINE = table.c.owner == "me"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Toy:
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def learn(self, body: Any, known: float, recorded: float, who: str = "ann", **how: bool) -> Row:
        async with self.engine.begin() as connection:
            writer = Backdated(connection, notes, MINE, Stamp(at(recorded), who), at(known))
            return await writer.learn(KEY, {"body": body}, {"owner": "me"}, **how)

    async def unlearn(self, known: float, recorded: float, who: str = "ann") -> bool:
        async with self.engine.begin() as connection:
            return await Backdated(connection, notes, MINE, Stamp(at(recorded), who), at(known)).unlearn(KEY)

    async def undo(self, who: str, seconds: float) -> None:
        target = restoring.state_without(notes, MINE, origin=who, recorded_since=None)
        async with self.engine.begin() as connection:
            await restoring.restore(connection, notes, target, MINE, Stamp(at(seconds), "undo"))

    async def rows(self) -> list[Row]:
        async with self.engine.connect() as connection:
            return list((await connection.execute(select(table).order_by(table.c.version))).mappings())

    async def seen(self, *moments: float) -> list[Any]:
        """What is known at each moment."""
        found: list[Any] = []
        for moment in moments:
            view = View(now=at(1_000), known_at=at(moment))
            async with self.engine.connect() as connection:
                bodies = (await connection.execute(select(table.c.body).where(versioned.known(table, view)))).scalars()
                found.append([*bodies] or None)
        return [body[0] if body is not None and len(body) == 1 else body for body in found]


@pytest.fixture(scope="module")
async def engine(pg_url: str) -> AsyncIterator[AsyncEngine]:
    async with toy_tables(pg_url, table.metadata) as engine:
        yield engine


@pytest.fixture
async def toy(engine: AsyncEngine) -> AsyncIterator[Toy]:
    """An empty table; afterwards its history is sound."""
    async with engine.begin() as connection:
        await connection.execute(table.delete())
    toy = Toy(engine)
    yield toy
    rows = await toy.rows()
    for before, after in pairwise(rows):
        assert before["version"] < after["version"]
        assert before["known_to"] is not None
        assert before["known_from"] <= before["known_to"] <= after["known_from"]
    assert all((row["known_to"] is None) == (row["closed_origin"] is None) for row in rows)


async def test_what_is_new_is_known_since_then(toy: Toy) -> None:
    row = await toy.learn("a", 3, 9)
    assert await toy.seen(2, 3, 9) == [None, "a", "a"]
    assert (row["recorded_at"], row["created_at"], row["origin"]) == (at(9), at(9), "ann")


async def test_in_order_it_is_a_change_like_any_other(toy: Toy) -> None:
    await toy.learn("a", 1, 1)
    await toy.learn("b", 3, 9, "bob")
    assert await toy.seen(0, 1, 2.9, 3, 9) == [None, "a", "a", "b", "b"]
    first, second = await toy.rows()
    assert (first["closed_origin"], second["created_at"], second["recorded_at"]) == ("bob", at(1), at(9))


async def test_what_was_learned_later_stays(toy: Toy) -> None:
    await toy.learn("a", 1, 1)
    await toy.learn("c", 5, 5)
    await toy.learn("b", 3, 9)
    assert await toy.seen(1, 2.9, 3, 4.9, 5, 9) == ["a", "a", "b", "b", "c", "c"]


async def test_before_all_that_is_known(toy: Toy) -> None:
    await toy.learn("b", 5, 5)
    await toy.learn("a", 3, 9)
    assert await toy.seen(2, 3, 4.9, 5, 9) == [None, "a", "a", "b", "b"]


async def test_what_was_forgotten_later_stays_forgotten(toy: Toy) -> None:
    await toy.learn("a", 1, 1)
    assert await toy.unlearn(5, 5)
    await toy.learn("b", 3, 9)
    assert await toy.seen(1, 3, 4.9, 5, 9) == ["a", "b", "b", None, None]
    await toy.learn("c", 6, 10)
    assert await toy.seen(5.9, 6, 10) == [None, "c", "c"]


async def test_forgetting_in_the_past_ends_where_the_next_version_begins(toy: Toy) -> None:
    await toy.learn("a", 1, 1)
    await toy.learn("b", 5, 5)
    assert await toy.unlearn(3, 9)
    assert not await toy.unlearn(3, 9)
    assert await toy.seen(1, 2.9, 3, 4.9, 5, 9) == ["a", "a", None, None, "b", "b"]


async def test_equal_values_make_no_version(toy: Toy) -> None:
    first = await toy.learn({"a": 1}, 1, 1)
    again = await toy.learn({"a": 1}, 3, 9)
    assert first["id"] == again["id"]
    assert len(await toy.rows()) == 1


async def test_undo_finds_it_like_any_other_write(toy: Toy) -> None:
    await toy.learn("a", 1, 1, "ann")
    await toy.learn("b", 3, 9, "bob")
    await toy.undo("bob", 10)
    assert await toy.seen(1, 3, 9, 10) == ["a", "b", "b", "a"]


async def test_undo_of_what_was_learned_first_leaves_what_was_put_before_it(toy: Toy) -> None:
    await toy.learn("b", 5, 5, "bob")
    await toy.learn("a", 3, 9, "ann")
    await toy.undo("bob", 10)
    assert await toy.seen(3, 5, 10) == ["a", "b", "a"]


@pytest.mark.parametrize("order", ["forwards", "backwards", "mixed"])
async def test_many_find_their_place_though_the_clock_stands_still(toy: Toy, order: str) -> None:
    moments = list(range(200))
    if order == "backwards":
        moments.reverse()
    if order == "mixed":
        random.Random(1).shuffle(moments)
    for moment in moments:
        await toy.learn(moment, moment, 900)
    assert await toy.seen(*range(200)) == list(range(200))


async def test_what_is_told_again_holds_also_against_what_is_learned_later_to_have_been_between(toy: Toy) -> None:
    await toy.learn("a", 1, 1)
    await toy.learn("a", 5, 8, again=True)
    await toy.learn("a", 5, 8, again=True)
    await toy.learn("b", 3, 9)
    assert await toy.seen(1, 3, 4.9, 5, 9) == ["a", "b", "b", "a", "a"]
    assert len(await toy.rows()) == 3
