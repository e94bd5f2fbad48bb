"""An owner with many rows gets an index of their own, and it finds what an exact scan would."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, literal, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from memground.postgres import own_index
from memground.postgres.arms import HalfVector, Scan, VectorArm, approximate_settings
from memground.postgres.engine import make_engine
from support.toys import plan_of, rows_of, toy_tables

DIMS = 16
OWNERS = {'it\'s "big" 100% \\ :x {y}': 900, "large": 700, "small": 150}
ODD = next(iter(OWNERS))
rng = np.random.default_rng(3)

things = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("known_to", Integer),
    Column("embedding", HalfVector(DIMS)),
)
arm = VectorArm(things.c.embedding, things.c.user_id, DIMS)
names = [owner for owner, rows in OWNERS.items() for _ in range(rows)]
vectors = rng.standard_normal((len(names), DIMS)).astype(np.float16).astype(np.float64)


@pytest.fixture
async def engine(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncEngine]:
    """Rows of three owners, of whom two count as big."""
    monkeypatch.setattr(own_index, "OWN_ROWS", 500)
    async with toy_tables(pg_url, things.metadata) as engine:
        async with engine.begin() as connection:
            rows = [
                {"id": n, "user_id": name, "known_to": n if n % 20 == 0 else None, "embedding": vectors[n].tolist()}
                for n, name in enumerate(names)
            ]
            await connection.execute(things.insert(), rows)
            await connection.execute(text("analyze things"))
        yield engine


async def indexes(engine: AsyncEngine) -> dict[str, str]:
    async with engine.connect() as connection:
        found = await connection.execute(
            text("select indexname, indexdef from pg_indexes where tablename = 'things' and indexname like 'own%'")
        )
        return {row.indexname: row.indexdef for row in found}


async def scans(connection: AsyncConnection) -> list[str]:
    return [await connection.scalar(arm.best_scan(literal(owner), 10)) for owner in OWNERS]


async def test_who_has_many_rows_gets_an_index_and_is_asked_through_it(engine: AsyncEngine) -> None:
    assert sorted(await arm.own_indexes.tend(engine)) == sorted([ODD, "large"])
    assert len(await indexes(engine)) == 2
    assert await arm.own_indexes.tend(engine) == []
    async with engine.begin() as connection:
        assert await scans(connection) == ["own", "own", "exact"]
        await connection.execute(approximate_settings(10))
        for owner in (ODD, "large"):
            among = np.array([n for n, name in enumerate(names) if name == owner and n % 20])
            where = [things.c.user_id == owner, things.c.known_to.is_(None)]
            statement = arm.candidates(things.c.id, where, limit=10, scan=Scan.OWN)
            query = rng.standard_normal(DIMS) * 5
            plan = await plan_of(connection, statement, vector=query.tolist())
            assert "own_things_embedding_" in plan
            scores = vectors[among] @ query / np.linalg.norm(vectors[among], axis=1) / np.linalg.norm(query)
            found = await rows_of(connection, statement, vector=query.tolist())
            assert [key for key, _ in found] == among[np.argsort(-scores)[:10]].tolist()
            assert [score for _, score in found] == pytest.approx(sorted(scores)[::-1][:10], abs=1e-3)


async def test_an_owner_who_has_few_rows_again_loses_the_index(engine: AsyncEngine) -> None:
    await arm.own_indexes.tend(engine)
    async with engine.begin() as connection:
        # More than half of what is needed are left of one, fewer of the other.
        await connection.execute(text("delete from things where user_id = 'large' and id % 700 >= 300"))
        await connection.execute(text("delete from things where user_id <> 'large' and id >= 100 and id < 900"))
        await connection.execute(text("analyze things"))
    assert await arm.own_indexes.tend(engine) == []
    assert ["'large'" in definition for definition in (await indexes(engine)).values()] == [True]


async def test_an_owner_who_grew_gets_more_links(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    await arm.own_indexes.tend(engine)
    assert all("m='12'" in definition for definition in (await indexes(engine)).values())
    monkeypatch.setattr(own_index, "_MANY_ROWS", 800)
    assert await arm.own_indexes.tend(engine) == [ODD]
    assert sorted("m='24'" in definition for definition in (await indexes(engine)).values()) == [False, True]
    monkeypatch.setattr(own_index, "_MANY_ROWS", 1_000)
    assert await arm.own_indexes.tend(engine) == []  # more than needed is kept


async def test_who_has_one_keeps_it_when_others_have_more(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_index, "_OWNERS", 1)
    assert await arm.own_indexes.tend(engine) == [ODD]
    async with engine.begin() as connection:
        await connection.execute(text("delete from things where user_id <> 'large' and id < 300"))
        await connection.execute(text("analyze things"))
    assert await arm.own_indexes.tend(engine) == []
    async with engine.begin() as connection:  # what a count knows no longer has not shrunk by that
        await connection.execute(text("delete from pg_statistic where starelid = 'things'::regclass"))
    assert await arm.own_indexes.tend(engine) == []
    assert ["'large'" in definition for definition in (await indexes(engine)).values()] == [False]


async def test_an_index_left_half_made_is_made_again(engine: AsyncEngine) -> None:
    await arm.own_indexes.tend(engine)
    async with engine.begin() as connection:
        await connection.execute(
            text("update pg_index set indisvalid = false where indexrelid::regclass::text like 'own%'")
        )
        assert await scans(connection) == ["exact"] * 3
    assert len(await arm.own_indexes.tend(engine)) == 2
    async with engine.connect() as connection:
        assert await scans(connection) == ["own", "own", "exact"]


async def test_of_several_programs_one_makes_the_indexes(engine: AsyncEngine, pg_url: str) -> None:
    other = make_engine(pg_url)
    made = await asyncio.gather(*(arm.own_indexes.tend(each) for each in (engine, other, engine)))
    await other.dispose()
    assert sorted(owner for owners in made for owner in owners) == sorted([ODD, "large"])
    assert len(await indexes(engine)) == 2


async def test_none_is_made_while_another_index_of_the_table_is(engine: AsyncEngine) -> None:
    """Both would wait for each other until the server ends one."""

    async def make_another() -> None:
        async with engine.connect() as connection:
            alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await alone.execute(text("create index concurrently another on things (known_to)"))

    async with engine.begin() as connection:  # who writes is waited for
        await connection.execute(text("update things set known_to = 1 where id = 1"))
        making = asyncio.create_task(make_another())
        while not await connection.scalar(text("select count(*) from pg_class where relname = 'another'")):
            await asyncio.sleep(0.01)
        assert await asyncio.wait_for(arm.own_indexes.tend(engine), 20) == []
    await making
    assert len(await arm.own_indexes.tend(engine)) == 2


async def test_being_stopped_while_making_one_leaves_nothing_in_the_way(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:  # who writes is waited for
        await connection.execute(text("update things set known_to = 1 where id = 1"))
        making = asyncio.create_task(arm.own_indexes.tend(engine))
        while not await connection.scalar(text("select count(*) from pg_class where relname like 'own_things%'")):
            await asyncio.sleep(0.01)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert await scans(connection) == ["exact"] * 3
    assert len(await arm.own_indexes.tend(engine)) == 2
