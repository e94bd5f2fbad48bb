"""Many rows in one statement, whose text does not depend on how many."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, TableValuedAlias, Text, bindparam, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert

from memground.postgres.engine import Row


@lru_cache(maxsize=64)
def insertion(table: Table, columns: tuple[str, ...], now: tuple[str, ...] = ()) -> Insert:
    """An insert of rows that have `columns`, in the order given; `now` are columns that get the server's clock.

    Run it with `lists(…)` of the rows. Built once, because building takes longer than running. Columns that are arrays
    hold numbers.
    """
    given = unnest([_flat(table.c[name]) for name in columns], "given")
    chosen = select(*(_read(table.c[name], given.c[name]) for name in columns), *(func.clock_timestamp() for _ in now))
    return insert(table).from_select([*columns, *now], chosen)


def lists(table: Table, columns: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The values of an `insertion`."""
    return {f"given_{name}": [_written(table.c[name], row[name]) for row in rows] for name in columns}


def unnest(columns: Sequence[Column[Any]], name: str) -> TableValuedAlias:
    """Lists of equal length as a table: for each column a list :<name>_<column>, with its name and type."""
    bound = (bindparam(f"{name}_{column.name}", type_=ARRAY(column.type)) for column in columns)
    return func.unnest(*bound).table_valued(*columns, name=name).render_derived()


# PostgreSQL's lists of lists are rectangles, and unnest opens both levels: an array goes as its text.


def _flat(column: Column[Any]) -> Column[Any]:
    return Column(column.name, Text) if isinstance(column.type, ARRAY) else Column(column.name, column.type)


def _written(column: Column[Any], value: Any) -> Any:
    return "{" + ",".join(map(str, value)) + "}" if isinstance(column.type, ARRAY) else value


def _read(column: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    return sql_cast(given, column.type) if isinstance(column.type, ARRAY) else given  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
