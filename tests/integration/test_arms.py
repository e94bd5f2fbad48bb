"""Candidates by meaning: the nearest vectors are really the nearest."""

from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
from sqlalchemy import Column, ColumnElement, Integer, MetaData, String, Table, insert, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from memground.postgres.arms import HalfVector, Scan, VectorArm, approximate_settings, is_few
from support.toys import plan_of, rows_of, toy_tables

DIMS, COUNT, CLUSTERS = 32, 30_000, 60
SHARES = {"fifth": 0.20, "twentieth": 0.05}
rng = np.random.default_rng(7)
centres = rng.standard_normal((CLUSTERS, DIMS))
labels = rng.integers(0, CLUSTERS, COUNT)


def near_clusters(label: np.ndarray) -> np.ndarray:
    points = centres[label] + 0.6 * rng.standard_normal((len(label), DIMS))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


vectors = near_clusters(labels)
owners = np.where(
    labels < 4, "apart", rng.choice([*SHARES, "others"], COUNT, p=[*SHARES.values(), 1 - sum(SHARES.values())])
)
"""Two users are spread over all clusters; one lives in four of them, and most questions come from elsewhere."""

items = Table(
    "items",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("user_id", String, nullable=False, index=True),
    Column("parity", Integer, nullable=False),
    Column("embedding", HalfVector(DIMS)),
)
arm = VectorArm(items.c.embedding, items.c.user_id, DIMS)


@pytest.fixture(scope="module")
async def connection(pg_url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction over 30,000 clustered vectors under an HNSW index."""
    async with toy_tables(pg_url, items.metadata) as engine, engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        await connection.execute(text("create temp table plain (id int, user_id text, embedding text)"))
        records = [(n, str(owners[n]), str(vectors[n].tolist())) for n in range(COUNT)]
        await driver.copy_records_to_table("plain", records=records)
        await driver.execute("insert into items select id, user_id, id % 2, embedding::halfvec from plain")
        await driver.execute("create index on items using hnsw (embedding halfvec_cosine_ops)")
        await driver.execute("analyze items")
        yield connection
        await connection.rollback()


def halved(numbers: np.ndarray) -> np.ndarray:
    """What the database keeps of them."""
    return numbers.astype(np.float16).astype(np.float64)


def nearest(query: np.ndarray, among: np.ndarray, limit: int) -> tuple[list[int], np.ndarray]:
    """The truth: ids (ties by id) and cosine similarities of what is kept, in double precision."""
    stored, asked = halved(vectors[among]), halved(query)
    scores = stored @ asked / np.linalg.norm(stored, axis=1) / np.linalg.norm(asked)
    order = np.lexsort((among, -scores))[:limit]
    return among[order].tolist(), scores[order]


def mine(user: str) -> list[ColumnElement[bool]]:
    return [items.c.user_id == user]


@pytest.mark.parametrize("limit", [1, 40, 200])
async def test_exact_is_what_numpy_says(connection: AsyncConnection, limit: int) -> None:
    among = np.flatnonzero(owners == "fifth")
    statement = arm.candidates(items.c.id, mine("fifth"), limit=limit, scan=Scan.EXACT)
    for query in near_clusters(np.arange(10)).astype(np.float64) * 3.7:  # length does not matter
        found = await rows_of(connection, statement, vector=query.tolist())
        ids, scores = nearest(query, among, limit)
        assert [score for _, score in found] == pytest.approx(scores.tolist(), abs=1e-6)
        assert [key for key, _ in found] == ids


async def test_half_precision_changes_the_fourth_digit(connection: AsyncConnection) -> None:
    among = np.flatnonzero(owners == "fifth")
    statement = arm.candidates(items.c.id, mine("fifth"), limit=100, scan=Scan.EXACT)
    for query in near_clusters(np.arange(10)).astype(np.float64):
        full = vectors[among].astype(np.float64) @ query / np.linalg.norm(query)
        truth = dict(zip(among.tolist(), full.tolist(), strict=True))
        found = await rows_of(connection, statement, vector=query.tolist())
        assert [score for _, score in found] == pytest.approx([truth[key] for key, _ in found], abs=1e-3)
        best = sorted(truth, key=lambda key: -truth[key])[:100]
        assert len({key for key, _ in found} & set(best)) >= 97


async def test_vectors_are_read_back_as_they_are_kept(connection: AsyncConnection) -> None:
    await connection.execute(text("savepoint odd"))
    numbers = [65_504.0, -65_504.0, 6e-8, 0.1, 1 / 3, *[0.0] * (DIMS - 5)]
    rows = [{"id": COUNT, "embedding": numbers}, {"id": COUNT + 1, "embedding": None}]
    await connection.execute(insert(items), [{**row, "user_id": "odd", "parity": 0} for row in rows])
    found = (await connection.scalars(select(items.c.embedding).where(*mine("odd")).order_by(items.c.id))).all()
    assert found[0] == pytest.approx(halved(np.array(numbers)).tolist(), rel=1e-4)
    assert found[1] is None
    await connection.execute(text("rollback to savepoint odd"))


async def test_an_exact_scan_never_asks_the_index(connection: AsyncConnection) -> None:
    statement = arm.candidates(items.c.id, [], limit=5, scan=Scan.EXACT)
    plan = await plan_of(connection, statement, vector=vectors[0].tolist())
    assert "items_embedding_idx" not in plan


@pytest.mark.parametrize("limit", [40, 200])
@pytest.mark.parametrize("user", [*SHARES, "apart"])
async def test_an_approximate_scan_loses_no_filtered_rows(connection: AsyncConnection, user: str, limit: int) -> None:
    among = np.flatnonzero(owners == user)
    questions = near_clusters(rng.integers(0, CLUSTERS, 40))
    await connection.execute(approximate_settings(limit))
    await connection.execute(text("set local enable_sort = off"))  # for so few rows the planner prefers an exact scan
    statement = arm.candidates(items.c.id, mine(user), limit=limit, scan=Scan.SHARED)
    found = 0
    for query in questions:
        rows = await rows_of(connection, statement, vector=query.tolist())
        assert len(rows) == limit
        assert all(a[1] >= b[1] for a, b in pairwise(rows))
        found += len({key for key, _ in rows} & set(nearest(query, among, limit)[0]))
    assert "items_embedding_idx" in await plan_of(connection, statement, vector=vectors[0].tolist())
    assert found / (limit * len(questions)) >= 0.99


async def test_few_rows_are_compared_many_are_not(connection: AsyncConnection) -> None:
    async def exact(user: str, limit: int = 10) -> bool:
        return await connection.scalar(arm.best_scan(literal(user), limit)) == Scan.EXACT

    await connection.execute(text("savepoint unchanged"))
    assert [await exact(user) for user in ("fifth", "twentieth", "nobody", "")] == [True] * 4
    assert not await exact("others")
    assert await exact("others", 200)  # so many that HNSW would have to look at nearly all
    changes = (
        "update pg_class set reltuples = 1e8 where relname = 'items'",  # HNSW would pass millions of rows of others
        "update pg_extension set extversion = '0.7.4' where extname = 'vector'",  # which cannot scan on and on
    )
    for change, who in zip(changes, ("fifth", "others"), strict=True):
        await connection.execute(text(change))
        assert await exact("nobody")
        assert await exact(who) == ("0.7.4" in change)
        await connection.execute(text("rollback to savepoint unchanged"))
    assert not await exact("others")
    # A new user counts as one of few rows until the server has counted them; any name is told from the others.
    odd, large = """a,"b" {c} \\ 'd' NULL""", text("update pg_class set reltuples = 2e7 where relname = 'items'")
    await connection.execute(text("update items set user_id = :odd where user_id = 'twentieth'"), {"odd": odd})
    await connection.execute(large)
    assert await exact(odd)
    await connection.execute(text("analyze items"))
    await connection.execute(large)
    assert not await exact(odd)
    await connection.execute(text("rollback to savepoint unchanged"))


async def test_what_passes_a_filter_is_counted(connection: AsyncConnection) -> None:
    async def few(*where: ColumnElement[bool]) -> bool:
        return bool(await connection.scalar(is_few(items, where)))

    assert not await few()
    assert not await few(items.c.user_id != "fifth")
    assert await few(items.c.user_id != "fifth", items.c.parity == 0)
    assert await few(*mine("nobody"))


async def test_equal_vectors_come_in_the_order_of_their_ids(connection: AsyncConnection) -> None:
    await connection.execute(text("savepoint twins"))
    twin = vectors[0].tolist()
    ids = [COUNT + n for n in (5, 3, 9, 1, 7)]
    await connection.execute(
        insert(items), [{"id": n, "user_id": "twins", "parity": 0, "embedding": twin} for n in ids]
    )
    await connection.execute(insert(items), [{"id": COUNT + 2, "user_id": "twins", "parity": 0, "embedding": None}])
    await connection.execute(approximate_settings(3))
    for scan in (Scan.EXACT, Scan.SHARED):
        statement = arm.candidates(items.c.id, mine("twins"), limit=3, scan=scan)
        found = await rows_of(connection, statement, vector=twin)
        assert [key for key, _ in found] == [COUNT + 1, COUNT + 3, COUNT + 5]
        assert [score for _, score in found] == pytest.approx([1.0] * 3, abs=1e-6)
    await connection.execute(text("rollback to savepoint twins"))


@pytest.mark.parametrize(("dims", "indexed"), [(2_000, True), (2_100, True), (4_000, True), (4_100, False)])
async def test_large_dimensions(pg_url: str, dims: int, indexed: bool) -> None:
    table = Table(
        f"wide{dims}", MetaData(), Column("id", Integer, primary_key=True), Column("embedding", HalfVector(dims))
    )
    wide = VectorArm(table.c.embedding, table.c.id, dims)
    wide.index(f"idx_wide{dims}")
    points = np.random.default_rng(1).standard_normal((120, dims))
    async with toy_tables(pg_url, table.metadata) as engine, engine.begin() as connection:
        await connection.execute(
            insert(table), [{"id": n, "embedding": point.tolist()} for n, point in enumerate(points)]
        )
        definitions = text("select indexdef from pg_indexes where tablename = :t order by indexname")
        indexes = (await connection.scalars(definitions, {"t": table.name})).all()
        assert [f"idx_wide{dims}" in index for index in indexes] == [True, False][not indexed :]
        assert all("halfvec_cosine_ops" in index for index in indexes if "idx_wide" in index)
        storage = "select attstorage::text from pg_attribute where attrelid = to_regclass(:t) and attname = 'embedding'"
        # In the row as long as it fits there, however long the text beside it.
        assert await connection.scalar(text(storage), {"t": table.name}) == ("m" if dims <= 2_000 else "e")
        await connection.execute(approximate_settings(10))
        await connection.execute(text("set local enable_seqscan = off"))
        query = points[17] + 0.1
        stored, asked = halved(points), halved(query)
        scores = stored @ asked / np.linalg.norm(stored, axis=1) / np.linalg.norm(asked)
        truth = np.argsort(-scores)[:10]
        for scan in (Scan.EXACT, Scan.SHARED):
            statement = wide.candidates(table.c.id, [], limit=10, scan=scan)
            found = await rows_of(connection, statement, vector=query.tolist())
            assert [key for key, _ in found] == truth.tolist()
            assert [score for _, score in found] == pytest.approx(scores[truth].tolist(), abs=1e-5)
        if indexed:
            assert f"idx_wide{dims}" in await plan_of(connection, statement, vector=query.tolist())
