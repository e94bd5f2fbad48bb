"""Candidates by word: BM25 as the textbook has it, over nobody's rows but the owner's."""

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from memground.postgres.arms import COMMON, KeywordArm
from memground.postgres.engine import Query
from memground.postgres.versioned import known_at, known_now
from memground.words import asked, keys, words
from support.toys import plan_of, rows_of, toy_tables

START = datetime(2026, 1, 1, tzinfo=UTC)

table = Table(
    "texts",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("user_id", String, nullable=False, index=True),
    Column("known_from", DateTime(timezone=True), nullable=False),
    Column("known_to", DateTime(timezone=True)),
    Column("flag", Integer, nullable=False),
    Column("words", ARRAY(BigInteger), nullable=False),
)
arm = KeywordArm(table.c.words)
arm.index("idx_words")

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


class Texts:
    """The table, asked for ids and scores."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def add(self, user: str, texts: Mapping[int, str], flag: int = 0, day: int = 0) -> None:
        row = {"user_id": user, "known_from": START + timedelta(days=day), "known_to": None, "flag": flag}
        values = [{**row, "id": key, "words": keys(user, words(content))} for key, content in texts.items()]
        await self.connection.execute(insert(table), values)

    async def hoard(self, first: int, count: int, user: str, term: str) -> None:
        """Many rows with the words they all have, some of a hundred, and `term`."""
        common, some = keys(user, ["stamp", "album"]), keys(user, [f"shelf{n}" for n in range(100)])
        statement = text(
            "insert into texts select n, :user, :start, null, 0, cast(:common as bigint[]) || "
            "(cast(:some as bigint[]))[1 + n % 100] || cast(:own as bigint[]) "
            "from generate_series(cast(:first as int), cast(:last as int)) n"
        )
        values = {"user": user, "start": START, "common": common, "some": some, "own": keys(user, [term])}
        await self.connection.execute(statement, {**values, "first": first, "last": first + count - 1})

    async def scores(self, query: str, user: str = "anna", **conditions: object) -> dict[int, float]:
        """By id, best first, ties by id."""
        found = await rows_of(self.connection, statement(user, **conditions), words=keys(user, asked(query)))  # type: ignore[arg-type]
        assert found == sorted(found, key=lambda row: (-row[1], row[0]))
        return dict(found)

    async def ask(self, query: str, user: str = "anna", **conditions: object) -> list[int]:
        return list(await self.scores(query, user, **conditions))


def statement(
    user: str, limit: int = 10, further: Sequence[ColumnElement[bool]] = (), then: datetime | None = None
) -> Query:
    where = [table.c.user_id == user, known_now(table) if then is None else known_at(table, then)]
    return arm.candidates(table.c.id, where, limit=limit, further=further)


@pytest.fixture(scope="module")
async def all_texts(pg_url: str) -> AsyncIterator[Texts]:
    async with toy_tables(pg_url, table.metadata) as engine, engine.begin() as connection:
        texts = Texts(connection)
        await texts.add("anna", TEXTS)
        await texts.add("bob", {100 + key: content for key, content in TEXTS.items()})
        yield texts
        await connection.rollback()


@pytest.fixture
async def texts(all_texts: Texts) -> AsyncIterator[Texts]:
    """The table, as every test finds it."""
    async with all_texts.connection.begin_nested() as nested:
        yield all_texts
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
        ("Where did I meet Anna in Porto?", {1, 6, 8}),
        ("anna.smith@example.org", {6, 8}),
        ("0199", {8}),
        ("cafe", {9}),
        ("3.14", {11}),
        ("a lighthouse", set()),
    ],
)
async def test_words_of_latin_letters(texts: Texts, query: str, expected: set[int]) -> None:
    assert set(await texts.ask(query)) == expected


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
async def test_chinese_words(texts: Texts, query: str, first: int) -> None:
    assert (await texts.ask(query))[0] == first


async def test_punctuation_is_no_word(texts: Texts) -> None:
    """Nearly every Chinese text ends in a full stop; that makes it no candidate."""
    assert await texts.ask("公寓。") == [4]
    assert await texts.ask("公寓， Tokio") == [4]


@pytest.mark.parametrize(
    "query", ["", "!!!", "。？！", "🙂🎉", "'; drop table texts; --", "$1 :words %(words)s {}", "\x01"]
)
async def test_hostile_queries_are_only_words(texts: Texts, query: str) -> None:
    assert await texts.ask(query) == []
    assert 1 in await texts.ask(f"{query} river")


@pytest.mark.parametrize("query", ["x" * 10_000, "run " * 2_500, "订单" * 5_000, " ".join(map(str, range(2_000)))])
async def test_ten_thousand_characters(texts: Texts, query: str) -> None:
    assert set(await texts.ask(query)) <= set(TEXTS)


async def test_a_very_long_text_can_be_stored_and_found(texts: Texts) -> None:
    content = "needle " + " ".join(f"word{n}" for n in range(90_000))
    await texts.add("archivist", {401: content, 402: "订单" * 400_000})
    assert await texts.ask("needle", "archivist") == [401]
    assert await texts.ask("订单", "archivist") == [402]


async def test_equal_scores_come_in_the_order_of_their_ids(texts: Texts) -> None:
    ids = [531, 517, 540, 502, 525]
    await texts.add("twins", dict.fromkeys(ids, "the same sentence about lighthouses"))
    assert await texts.ask("lighthouse", "twins", limit=3) == [502, 517, 525]
    assert await texts.ask("lighthouse", "twins", limit=3, further=[table.c.flag == 0]) == [502, 517, 525]


# ---------------------------------------------------------------- the score


def bm25(texts: Mapping[int, str], query: str) -> dict[int, float]:
    """The textbook's, with the mean length of the rows found for each word."""
    counted = {key: Counter(words(content)) for key, content in texts.items()}
    lengths = {key: sum(counts.values()) for key, counts in counted.items()}
    found = {word: [key for key, counts in counted.items() if word in counts] for word in asked(query)}
    hits = [lengths[key] for ids in found.values() for key in ids]
    scores: dict[int, float] = {}
    for word, ids in found.items():
        idf = math.log(1 + (len(texts) - len(ids) + 0.5) / (len(ids) + 0.5))
        for key in ids:
            tf = counted[key][word]
            norm = 1.2 * (1 - 0.75 + 0.75 * lengths[key] / (sum(hits) / len(hits)))
            scores[key] = scores.get(key, 0.0) + idf * tf * 2.2 / (tf + norm)
    return scores


SOME_WORDS = ["porto", "river", "baker", "bread", "TP-1364", "猫", "订单", "running", "ran", "the", "didn't"]
some_texts = st.lists(st.sampled_from(SOME_WORDS), min_size=1, max_size=12).map(" ".join)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(contents=st.lists(some_texts, max_size=12), noise=st.lists(some_texts, max_size=6), query=some_texts)
async def test_scores_are_those_of_the_textbook(
    all_texts: Texts, contents: list[str], noise: list[str], query: str
) -> None:
    async with all_texts.connection.begin_nested() as nested:
        mine = {1_000 + n: content for n, content in enumerate(contents)}
        if mine:
            await all_texts.add("reader", mine)
        if noise:
            await all_texts.add("other", {2_000 + n: content for n, content in enumerate(noise)})
        assert await all_texts.scores(query, "reader", limit=100) == pytest.approx(bm25(mine, query), rel=1e-9)
        await nested.rollback()


async def test_what_others_write_changes_no_score(texts: Texts) -> None:
    before = await texts.scores("running by the river in Porto")
    await texts.add("bob", {1_000 + n: f"running by the river in Porto {n}" for n in range(500)})
    assert await texts.scores("running by the river in Porto") == before
    assert list(before) == [1, 2, 6]


async def test_a_view_of_the_past_counts_what_was_known_then(texts: Texts) -> None:
    early = {700: "a lighthouse near Porto", 701: "Porto, and Porto again", 702: "bread"}
    await texts.add("keeper", early)
    await texts.add("keeper", {710 + n: "Porto " * (n + 1) for n in range(20)}, day=2)
    end = {"then": START + timedelta(days=2)}
    await texts.connection.execute(text("update texts set known_to = :then where id = 701"), end)
    query = "the lighthouses of Porto"
    then = await texts.scores(query, "keeper", then=START + timedelta(days=1))
    assert then == pytest.approx(bm25(early, query), rel=1e-9)
    assert await texts.scores(query, "keeper", then=START - timedelta(days=1)) == {}
    now = await texts.scores(query, "keeper", limit=100)
    assert 701 not in now
    assert now[700] != then[700]


async def test_other_users_and_ended_rows_are_not_found(texts: Texts) -> None:
    assert await texts.ask("8841", "bob") == [103]
    assert await texts.ask("8841", "nobody") == []
    await texts.add("forgetful", {601: "lighthouse", 602: "lighthouse"})
    await texts.connection.execute(text("update texts set known_to = now() where id = 601"))
    assert await texts.ask("lighthouse", "forgetful") == [602]


# ---------------------------------------------------------------- many rows


async def test_further_conditions_lose_no_rows(texts: Texts) -> None:
    """They are tested before a common word's rows are cut off, not on the best few."""
    await texts.hoard(10_000, COMMON + 1_000, "collector", "heavy")
    await texts.add("collector", dict.fromkeys(range(2000, 2010), "one stamp among many things in the box"), flag=1)
    assert await texts.ask("stamps", "collector", further=[table.c.flag == 1]) == list(range(2_000, 2_010))
    assert await texts.ask("stamps", "collector", further=[table.c.flag == 2]) == []


@pytest.fixture(scope="module")
async def hoard(all_texts: Texts) -> AsyncIterator[Texts]:
    """50,000 rows of one user, all with the words "stamp" and "album", beside as many of another."""
    async with all_texts.connection.begin_nested() as nested:
        await all_texts.hoard(100_000, 25_000, "hoarder", "heavy")
        await all_texts.add("hoarder", {99_999: "a stamp from Porto in an album"})
        await all_texts.hoard(130_000, 25_000, "hoarder", "heavy")
        await all_texts.hoard(200_000, 50_000, "neighbour", "porto")
        await all_texts.connection.execute(text("analyze texts"))
        yield all_texts
        await nested.rollback()


async def taken(texts: Texts, query: str) -> float:
    """Seconds, the best of five."""
    times: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        await texts.ask(query, "hoarder")
        times.append(time.perf_counter() - begun)
    return min(times)


async def test_a_rare_word_is_found_among_fifty_thousand_rows(hoard: Texts) -> None:
    assert await hoard.ask("Porto", "hoarder") == [99_999]
    assert (await hoard.ask("stamp album Porto", "hoarder"))[0] == 99_999
    assert await taken(hoard, "Porto") < 0.05


async def test_common_words_stay_fast(hoard: Texts) -> None:
    assert len(await hoard.ask("stamp", "hoarder")) == 10
    assert await taken(hoard, "a heavy stamp album") < 0.15


async def test_a_common_word_favours_no_row(hoard: Texts) -> None:
    """Only the first of its rows are read; a rarer word of the query finds all of its own, early and late, alike."""
    scores = await hoard.scores("the stamps on shelf7", "hoarder", limit=1_000)
    assert len(scores) == 500
    assert len(set(scores.values())) == 1
    assert (min(scores), max(scores)) == (100_007, 154_907)


async def test_words_are_asked_of_the_index(hoard: Texts) -> None:
    for then in (None, START):
        plan = await plan_of(
            hoard.connection, statement("hoarder", then=then), words=keys("hoarder", ["porto", "stamp"])
        )
        assert "Bitmap Index Scan on idx_words" in plan, plan
        assert "Seq Scan" not in plan, plan
