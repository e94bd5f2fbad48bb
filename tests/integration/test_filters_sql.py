"""What only the SQL of a filter has: NULLs, bound parameters, columns. Its meaning: `test_filters_backends.py`."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from memground.errors import InvalidInputError
from memground.filters import F, matches
from memground.postgres.filter_sql import compile_sql
from support.filter_judges import COLUMNS, postgres_judge, table
from support.filters import NESTED


@pytest.fixture(scope="module")
async def connection(pg_url: str) -> AsyncIterator[AsyncConnection]:
    async with postgres_judge(pg_url, "", "") as judge:
        yield judge.connection


async def test_json_null_and_sql_null_are_both_missing(connection: AsyncConnection) -> None:
    filters = [F("data.a") == 1, F("data.a") != 1, F("data").exists(), ~F("data.a").exists(), F("title") != "x"]
    async with connection.begin_nested() as savepoint:
        rows = [{"id": 1, "data": None}, {"id": 2, "data": JSONB.NULL}]
        for row in rows:
            await connection.execute(insert(table).values(row))
        result = await connection.execute(select(*(compile_sql(filter, COLUMNS) for filter in filters)))
        found = [tuple(row) for row in result]
        await savepoint.rollback()
    assert found == [(False, True, False, True, True)] * 2


async def test_nothing_of_the_filter_is_statement_text() -> None:
    filter = (F('metadata."k\'); drop"') == "v'--") & (F("title") >= "T1") & F("at").exists() & F("score").in_([1.5])
    statement = compile_sql(filter, COLUMNS).compile(dialect=postgresql.asyncpg.dialect())
    text = str(statement)
    assert "drop" not in text
    assert "v'" not in text
    assert "T1" not in text
    assert "1.5" not in text
    assert 'COLLATE "C"' in text


async def test_where_clause_and_negation_partition_the_rows(connection: AsyncConnection) -> None:
    filter = (F("metadata.a") > 0) | (F("title") == "x")
    async with connection.begin_nested() as savepoint:
        rows = [{"id": i, "metadata": value, "title": None} for i, value in enumerate(NESTED)]
        await connection.execute(insert(table), rows)
        count = select(func.count()).select_from(table)
        held = await connection.scalar(count.where(compile_sql(filter, COLUMNS)))
        rest = await connection.scalar(count.where(~compile_sql(filter, COLUMNS)))
        await savepoint.rollback()
    assert (held, rest) == (sum(matches(filter, row) for row in rows), len(rows) - (held or 0))


def test_a_filter_that_does_not_fit_the_columns_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"unknown filter field 'nope\.x'; accepted: .*metadata\.<path>"):
        compile_sql(F("nope.x") == 1, COLUMNS)
    with pytest.raises(InvalidInputError, match="'title', a text field, got 3"):
        compile_sql(F("title") == 3, COLUMNS)
