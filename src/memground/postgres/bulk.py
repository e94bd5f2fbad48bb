"""Many rows in one statement, whose text does not depend on how many."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    FromClause,
    String,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    func,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert

from memground.postgres import jsonb
from memground.postgres.arms import HalfVector, as_vector, vector_text
from memground.postgres.engine import Row


@lru_cache(maxsize=64)
def insertion(table: Table, columns: tuple[str, ...], now: tuple[str, ...] = ()) -> Insert:
    """An insert of rows that have `columns`, in the order given; `now` are columns that get the server's clock.

    Run it with `lists(…)` of the rows, or with `driver_lists(…, "given")` past SQLAlchemy. Built once, because building
    takes longer than running. Columns that are arrays hold numbers or texts, none of them NULL.
    """
    source, read = given(table, columns, "given")
    chosen = select(*read, *(func.clock_timestamp() for _ in now)).select_from(source)
    return insert(table).from_select([*columns, *now], chosen)


def lists(table: Table, columns: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The values of an `insertion`."""
    return {f"given_{name}": _written(table.c[name], (row[name] for row in rows)) for name in columns}


def given(table: Table, columns: Sequence[str], name: str) -> tuple[FromClause, list[ColumnElement[Any]]]:
    """Rows handed to a statement of one's own: what to select from, and the columns as the table has them.

    Its values are `driver_lists(…)` of the rows, by the same name.
    """
    source = unnest([_flat(table.c[column]) for column in columns], name)
    return source, [_read(table.c[column], source.c[column]) for column in columns]


def driver_lists(table: Table, columns: Sequence[str], rows: Sequence[Row], name: str) -> dict[str, list[Any]]:
    """The values of `given`, for a statement that goes to the driver as it is: JSON as its text."""
    listed: dict[str, list[Any]] = {}
    for column in columns:
        values = [row[column] for row in rows]
        if isinstance(table.c[column].type, JSON):
            values = [None if value is None else jsonb.written(value) for value in values]
        listed[f"{name}_{column}"] = _written(table.c[column], values)
    return listed


def unnest(columns: Sequence[Column[Any]], name: str) -> TableValuedAlias:
    """Lists of equal length as a table: for each column a list :<name>_<column>, with its name and type."""
    bound = (bindparam(f"{name}_{column.name}", type_=ARRAY(column.type)) for column in columns)
    return func.unnest(*bound).table_valued(*columns, name=name).render_derived()


# PostgreSQL's lists of lists are rectangles, and unnest opens both levels: an array goes as its text, and so does a
# vector, of which the driver would look at every number.


def _flat(column: Column[Any]) -> Column[Any]:
    as_text = isinstance(column.type, ARRAY | HalfVector)
    return Column(column.name, Text) if as_text else Column(column.name, column.type)


def _written(column: Column[Any], values: Iterable[Any]) -> list[Any]:
    match column.type:
        case ARRAY(item_type=String()):
            return ["{" + ",".join(map(_quoted, value)) + "}" for value in values]
        case ARRAY():
            return ["{" + ",".join(map(str, value)) + "}" for value in values]
        case HalfVector():
            return [None if value is None else vector_text(value) for value in values]
        case _:
            return list(values)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _read(column: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    match column.type:
        case ARRAY():
            return sql_cast(given, column.type)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        case HalfVector():
            return as_vector(given, column.type.dims)
        case _:
            return given
