"""Many rows in one statement."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, TableValuedAlias, Text, bindparam, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert


def insert_rows(table: Table, rows: Sequence[Mapping[str, Any]], **computed: Any) -> Insert:
    """An insert of rows that have the same columns; `computed` are further columns, as expressions for every row.

    One statement, in the order given, whose text does not grow with the rows. Columns that are arrays hold numbers.
    """
    columns = [table.c[name] for name in rows[0]]
    given = unnest({_flat(column): [_written(column, row[column.name]) for row in rows] for column in columns}, "given")
    chosen = select(*(_read(column, given.c[column.name]) for column in columns), *computed.values())
    return insert(table).from_select([*(column.name for column in columns), *computed], chosen)


def unnest(values: Mapping[Column[Any], Sequence[Any]], name: str) -> TableValuedAlias:
    """Lists of equal length as a table, each list under the name and with the type of its column."""
    lists = (
        bindparam(f"{name}_{column.name}", list(items), type_=ARRAY(column.type), unique=True)
        for column, items in values.items()
    )
    return func.unnest(*lists).table_valued(*values, name=name).render_derived()


# PostgreSQL's lists of lists are rectangles, and unnest opens both levels: an array goes as its text.


def _flat(column: Column[Any]) -> Column[Any]:
    return Column(column.name, Text) if isinstance(column.type, ARRAY) else column


def _written(column: Column[Any], value: Any) -> Any:
    return "{" + ",".join(map(str, value)) + "}" if isinstance(column.type, ARRAY) else value


def _read(column: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    return sql_cast(given, column.type) if isinstance(column.type, ARRAY) else given  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
