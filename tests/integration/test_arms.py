"""Candidate lists: the nearest vectors are really the nearest, and words find what holds them."""

from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    insert,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from memground.postgres.arms import (
    KeywordArm,
    KeywordEngine,
    VectorArm,
    approximate_settings,
    exact_is_cheaper,
    warm_aliases,
)
from memground.postgres.engine import Query


@pytest.fixture(scope="module")
async def engine(pg_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(pg_url)
    async with engine.begin() as connection:
        await connection.execute(text("create extension if not exists vector"))
        await connection.execute(text("create extension if not exists pg_search"))
    yield engine
    await engine.dispose()


async def rows_of(connection: AsyncConnection, statement: Query) -> list[tuple[int, float]]:
    return [(row.id, row.score) for row in await connection.execute(statement)]


async def plan_of(connection: AsyncConnection, statement: Query) -> str:
    """EXPLAIN of a statement, with its parameters as they are bound."""

    def explained(_: object, __: object, sql: str, parameters: object, *rest: object) -> tuple[str, object]:
        return f"EXPLAIN {sql}", parameters

    event.listen(connection.sync_connection, "before_cursor_execute", explained, retval=True)
    try:
        return "\n".join(row[0] for row in await connection.execute(statement))
    finally:
        event.remove(connection.sync_connection, "before_cursor_execute", explained)


# ---------------------------------------------------------------- vectors

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
    Column("embedding", VECTOR(DIMS)),
)
arm = VectorArm(items.c.embedding, DIMS)


@pytest.fixture(scope="module")
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction over 30,000 clustered vectors under an HNSW index."""
    async with engine.begin() as connection:
        await connection.run_sync(items.metadata.create_all)
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        await driver.execute("create temp table plain (id int, user_id text, embedding text)")
        records = [(n, str(owners[n]), str(vectors[n].tolist())) for n in range(COUNT)]
        await driver.copy_records_to_table("plain", records=records)
        await driver.execute("insert into items select id, user_id, id % 2, embedding::vector from plain")
        await driver.execute("create index on items using hnsw (embedding vector_cosine_ops)")
        await driver.execute("analyze items")
        yield connection
        await connection.rollback()


def nearest(query: np.ndarray, among: np.ndarray, limit: int) -> tuple[list[int], np.ndarray]:
    """The truth: ids (ties by id) and cosine similarities, in double precision."""
    scores = vectors[among].astype(np.float64) @ (query / np.linalg.norm(query))
    order = np.lexsort((among, -scores))[:limit]
    return among[order].tolist(), scores[order]


def mine(user: str) -> list[ColumnElement[bool]]:
    return [items.c.user_id == user]


@pytest.mark.parametrize("limit", [1, 40, 200])
async def test_exact_is_what_numpy_says(connection: AsyncConnection, limit: int) -> None:
    among = np.flatnonzero(owners == "fifth")
    for query in near_clusters(np.arange(10)).astype(np.float64) * 3.7:  # length does not matter
        found = await rows_of(
            connection, arm.candidates(items.c.id, query.tolist(), mine("fifth"), limit=limit, exact=True)
        )
        ids, scores = nearest(query, among, limit)
        assert [score for _, score in found] == pytest.approx(scores.tolist(), abs=1e-6)
        assert [key for key, _ in found] == ids


async def test_an_exact_scan_never_asks_the_index(connection: AsyncConnection) -> None:
    statement = arm.candidates(items.c.id, vectors[0].tolist(), [], limit=5, exact=True)
    assert "hnsw" not in await plan_of(connection, statement)
    assert "items_embedding_idx" not in await plan_of(connection, statement)


@pytest.mark.parametrize("limit", [40, 200])
@pytest.mark.parametrize("user", [*SHARES, "apart"])
async def test_an_approximate_scan_loses_no_filtered_rows(connection: AsyncConnection, user: str, limit: int) -> None:
    among = np.flatnonzero(owners == user)
    questions = near_clusters(rng.integers(0, CLUSTERS, 40))
    await connection.execute(approximate_settings(limit))
    await connection.execute(text("set local enable_sort = off"))  # for so few rows the planner prefers an exact scan
    found = 0
    for query in questions:
        statement = arm.candidates(items.c.id, query.tolist(), mine(user), limit=limit, exact=False)
        rows = await rows_of(connection, statement)
        assert len(rows) == limit
        assert all(a[1] >= b[1] for a, b in pairwise(rows))
        found += len({key for key, _ in rows} & set(nearest(query, among, limit)[0]))
    assert "items_embedding_idx" in await plan_of(connection, statement)
    assert found / (limit * len(questions)) >= 0.99


async def test_few_rows_are_compared_many_are_not(connection: AsyncConnection) -> None:
    async def exact(*where: ColumnElement[bool]) -> bool:
        return bool(await connection.scalar(exact_is_cheaper(where, items, 200)))

    assert await exact(*mine("twentieth"))
    assert await exact(*mine("nobody"))
    assert not await exact()
    assert not await exact(items.c.user_id != "twentieth")
    assert await exact(items.c.user_id != "twentieth", items.c.parity == 0)
    # In so large a table HNSW would pass millions of other rows to meet these.
    for change in (
        "update pg_class set reltuples = 1e8 where relname = 'items'",
        "update pg_extension set extversion = '0.7.4' where extname = 'vector'",  # which cannot scan on and on
    ):
        await connection.execute(text("savepoint unchanged"))
        await connection.execute(text(change))
        assert await exact()
        await connection.execute(text("rollback to savepoint unchanged"))
    assert not await exact()


async def test_equal_vectors_come_in_the_order_of_their_ids(connection: AsyncConnection) -> None:
    await connection.execute(text("savepoint twins"))
    twin = vectors[0].tolist()
    ids = [COUNT + n for n in (5, 3, 9, 1, 7)]
    await connection.execute(
        insert(items), [{"id": n, "user_id": "twins", "parity": 0, "embedding": twin} for n in ids]
    )
    await connection.execute(insert(items), [{"id": COUNT + 2, "user_id": "twins", "parity": 0, "embedding": None}])
    await connection.execute(approximate_settings(3))
    for exact in (True, False):
        statement = arm.candidates(items.c.id, twin, mine("twins"), limit=3, exact=exact)
        found = await rows_of(connection, statement)
        assert [key for key, _ in found] == [COUNT + 1, COUNT + 3, COUNT + 5]
        assert [score for _, score in found] == pytest.approx([1.0] * 3, abs=1e-6)
    await connection.execute(text("rollback to savepoint twins"))


@pytest.mark.parametrize(
    ("dims", "operators"), [(2_000, "vector_cosine_ops"), (2_100, "halfvec_cosine_ops"), (4_100, None)]
)
async def test_large_dimensions(engine: AsyncEngine, dims: int, operators: str | None) -> None:
    table = Table(f"wide{dims}", MetaData(), Column("id", Integer, primary_key=True), Column("embedding", VECTOR(dims)))
    wide = VectorArm(table.c.embedding, dims)
    wide.index(f"idx_wide{dims}")
    points = np.random.default_rng(1).standard_normal((120, dims)).astype(np.float32)
    async with engine.connect() as connection:
        await connection.run_sync(table.metadata.create_all)
        await connection.execute(insert(table), [{"id": n, "embedding": point} for n, point in enumerate(points)])
        indexes = [
            row[0]
            for row in await connection.execute(
                text("select indexdef from pg_indexes where tablename = :t"), {"t": table.name}
            )
        ]
        assert any(operators in index for index in indexes) if operators else len(indexes) == 1
        await connection.execute(approximate_settings(10))
        await connection.execute(text("set local enable_seqscan = off"))
        query = points[17] + 0.1
        scores = points @ query / np.linalg.norm(points, axis=1) / np.linalg.norm(query)
        truth = np.argsort(-scores)[:10]
        for exact in (True, False):
            statement = wide.candidates(table.c.id, query.tolist(), [], limit=10, exact=exact)
            found = await rows_of(connection, statement)
            assert [key for key, _ in found] == truth.tolist()
            assert [score for _, score in found] == pytest.approx(scores[truth].tolist(), abs=1e-5)
        if operators:
            assert f"idx_wide{dims}" in await plan_of(connection, statement)


# ---------------------------------------------------------------- words

TEXTS = {
    1: "We were running along the rivers of Porto.",
    2: "She runs a bakery and bakes bread every morning",
    3: "客户的订单8841已经发货，明天送到。",
    4: "我上周搬到了波尔图，住在河边的公寓。",
    5: "Order ZX-9917 is delayed; order ZX-9918 is not.",
    6: "我在Porto遇到了Anna，她很高兴。",
    7: "他养了一只猫，名字叫小黑。",
    8: "Mail anna.smith@example.org or call 555-0199",
    9: "The café in New York serves crème brûlée",
    10: "订单明天送到。",
    11: "She paid 3.14 dollars, didn't she?",
}


def words_table(engine: KeywordEngine) -> tuple[Table, KeywordArm]:
    table = Table(
        f"words_{engine}",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("user_id", String, nullable=False),
        Column("kind", String, nullable=False),
        Column("known_from", DateTime(timezone=True), nullable=False),
        Column("known_to", DateTime(timezone=True)),
        Column("content", Text, nullable=False),
        Column("flag", Integer, nullable=False),
    )
    arm = KeywordArm(table, "content", engine, literals=("user_id", "kind"), filters=("known_from", "known_to"))
    arm.index(f"idx_words_{engine}")
    return table, arm


class Words:
    """A table of one engine, asked for ids."""

    def __init__(self, connection: AsyncConnection, table: Table, arm: KeywordArm) -> None:
        self.connection, self.table, self.arm = connection, table, arm

    async def add(self, user: str, texts: dict[int, str], flag: int = 0) -> None:
        row = {"user_id": user, "kind": "general", "known_to": None, "flag": flag}
        values = [{**row, "id": key, "content": content} for key, content in texts.items()]
        await self.connection.execute(insert(self.table).values(known_from=text("now()")), values)

    async def ask(
        self, query: str, *, user: str = "anna", limit: int = 10, further: Sequence[ColumnElement[bool]] = ()
    ) -> list[int]:
        found = await rows_of(self.connection, self.statement(query, user=user, limit=limit, further=further))
        assert found == sorted(found, key=lambda row: (-row[1], row[0]))
        return [key for key, _ in found]

    def statement(
        self, query: str, *, user: str = "anna", limit: int = 10, further: Sequence[ColumnElement[bool]] = ()
    ) -> Query:
        columns = self.table.c
        where = [columns.user_id == user, columns.known_to.is_(None)]
        return self.arm.candidates(columns.id, query, where, limit=limit, further=further)


@pytest.fixture(scope="module", params=list(KeywordEngine))
async def all_words(engine: AsyncEngine, request: pytest.FixtureRequest) -> AsyncIterator[Words]:
    table, arm = words_table(request.param)
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
        words = Words(connection, table, arm)
        await words.add("anna", TEXTS)
        await words.add("bob", {100 + key: content for key, content in TEXTS.items()})
        if request.param is KeywordEngine.BM25:
            await connection.execute(warm_aliases())
        yield words
        await connection.rollback()


@pytest.fixture
async def words(all_words: Words) -> AsyncIterator[Words]:
    """The table, as every test finds it."""
    async with all_words.connection.begin_nested() as nested:
        yield all_words
        await nested.rollback()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("run", {1, 2}),
        ("Did anybody RUN by a river?", {1, 2}),
        ("baking", {2}),
        ("the of and is", set()),
        ("ZX-9917", {5}),
        ("what about zx 9917?", {5}),
        ("9918", {5}),
        ("8841", {3}),
        ("order 8841", {3, 5}),
        ("Where did I meet Anna in Porto?", {1, 6}),
        ("anna.smith@example.org", {8}),
        ("0199", {8}),
        ("café", {9}),
        ("3.14", {11}),
        ("didn't", {11}),
    ],
)
async def test_words_of_latin_letters(words: Words, query: str, expected: set[int]) -> None:
    assert set(await words.ask(query)) >= expected
    if not expected:
        assert await words.ask(query) == []


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("订单8841怎么样了？", 3),
        ("订单 8841", 3),
        ("她搬到了哪里？波尔图吗", 4),
        ("Porto的Anna", 6),
        ("猫", 7),
        ("小黑是谁", 7),
        ("公寓", 4),
        ("ZX-9917怎么样了", 5),
    ],
)
async def test_chinese_words(words: Words, query: str, first: int) -> None:
    assert (await words.ask(query))[0] == first


async def test_punctuation_is_no_word(words: Words) -> None:
    """Nearly every Chinese text ends in a full stop; that makes it no candidate."""
    assert await words.ask("公寓。") == [4]
    assert await words.ask("公寓， Tokio") == [4]


@pytest.mark.parametrize(
    "query",
    [
        *(
            '"',
            "'",
            "''",
            '"unclosed',
            "\\",
            "a\\'b",
            "%",
            "?",
            "!!!",
            "。？！",
            "🙂🎉",
            "👩‍👩‍👧",
            "(",
            ")(",
            "&|!",
            "<->",
            ":*",
            "--",
        ),
        *(
            "AND",
            "OR NOT",
            "run AND",
            "run:*",
            "+run -river",
            "content:run",
            "run~2",
            "[a TO z]",
            "/run.*/",
            "{}",
            "run^9",
        ),
        *(
            "'; drop table items; --",
            "$1",
            ":name",
            "%(name)s",
            "\t\n",
            "\u200b",
            "\ufeff",
            "\u202eabc",
            "\x01",
            "ﬁ",
            "İ",
            "ß",
        ),
        *("नमस्ते दुनिया", "สวัสดี", "שלום", "한국어 문장", "ひらがなカタカナ", "𠀀𠀁"),
    ],
)
async def test_hostile_queries_are_only_words(words: Words, query: str) -> None:
    found = await words.ask(query)
    assert set(found) <= set(TEXTS)
    if not any(character.isalnum() for character in query):
        assert found == []
    assert 1 in await words.ask(f"{query} river")


@pytest.mark.parametrize(
    "query", ["x" * 10_000, "run " * 2_500, "订单" * 5_000, "(" * 10_000, " ".join(map(str, range(2_000)))]
)
async def test_ten_thousand_characters(words: Words, query: str) -> None:
    assert set(await words.ask(query)) <= set(TEXTS)


async def test_other_scripts_find_themselves(words: Words) -> None:
    texts = {
        301: "नमस्ते दुनिया",
        302: "Привет, как дела?",
        303: "안녕하세요 세계",
        304: "שלום עולם",
        305: "東京に住んでいます",
    }
    await words.add("polyglot", texts)
    for query, expected in [("दुनिया", 301), ("дела", 302), ("세계", 303), ("עולם", 304), ("東京", 305)]:
        assert await words.ask(query, user="polyglot") == [expected], query


async def test_a_very_long_text_can_be_stored_and_found(words: Words) -> None:
    content = "needle " + " ".join(f"word{n}" for n in range(90_000))
    await words.add("archivist", {401: content, 402: "订单" * 400_000})
    assert await words.ask("needle", user="archivist") == [401]


async def test_equal_scores_come_in_the_order_of_their_ids(words: Words) -> None:
    ids = [531, 517, 540, 502, 525]
    await words.add("twins", dict.fromkeys(ids, "the same sentence about lighthouses"))
    assert await words.ask("lighthouse", user="twins", limit=3) == [502, 517, 525]
    further = [words.table.c.flag == 0]
    assert await words.ask("lighthouse", user="twins", limit=3, further=further) == [502, 517, 525]


async def test_further_conditions_lose_no_rows(words: Words) -> None:
    """They are tested on every match, not on the best few."""
    await words.add("collector", dict.fromkeys(range(1000, 1400), "a stamp " + "stamp " * 5))
    await words.add(
        "collector", dict.fromkeys(range(2000, 2010), "one stamp among many other things in the box"), flag=1
    )
    flagged = [words.table.c.flag == 1]
    assert await words.ask("stamps", user="collector", further=flagged) == list(range(2_000, 2_010))
    assert await words.ask("stamps", user="collector", further=[words.table.c.flag == 2]) == []


async def test_other_users_and_ended_rows_are_not_found(words: Words) -> None:
    assert await words.ask("8841", user="bob") == [103]
    assert await words.ask("8841", user="nobody") == []
    await words.add("forgetful", {601: "lighthouse", 602: "lighthouse"})
    await words.connection.execute(text(f"update {words.table.name} set known_to = now() where id = 601"))
    assert await words.ask("lighthouse", user="forgetful") == [602]


async def test_bm25_answers_a_user_from_the_index_alone(words: Words) -> None:
    if words.arm.engine is not KeywordEngine.BM25:
        pytest.skip("about BM25")
    for query in ("running by the river", "订单8841怎么样了"):
        plan = await plan_of(words.connection, words.statement(query))
        assert "TopNScanExecState" in plan, plan
        assert '"field":"user_id","value":"anna"' in plan, plan
        assert "known_to" in plan.partition("Tantivy Query")[2], plan
        assert "Filter" not in plan, plan
    columns = words.table.c
    kinds = [columns.user_id == "anna", columns.known_to.is_(None), columns.kind.in_(["general", "fact"])]
    plan = await plan_of(words.connection, words.arm.candidates(columns.id, "river", kinds, limit=10))
    assert "TopNScanExecState" in plan, plan
    past = [
        columns.user_id == "anna",
        columns.known_from <= text("now()"),
        columns.known_to.is_(None) | (columns.known_to > text("now()")),
    ]
    plan = await plan_of(words.connection, words.arm.candidates(columns.id, "river", past, limit=10))
    assert "TopNScanExecState" in plan, plan


async def test_tsvector_asks_its_index(words: Words) -> None:
    if words.arm.engine is not KeywordEngine.TSVECTOR:
        pytest.skip("about tsvector")
    await words.connection.execute(text("set local enable_seqscan = off"))
    assert "idx_words_tsvector" in await plan_of(words.connection, words.statement("running"))
