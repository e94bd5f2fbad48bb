"""Many rows in one statement."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Table, TableValuedAlias, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert


def insert_rows(table: Table, rows: Sequence[Mapping[str, Any]], **computed: Any) -> Insert:
    """An insert of rows that have the same columns; `computed` are further columns, as expressions for every row.

    One statement, in the order given: its text does not grow with the rows, and a keyword index takes them in as one
    segment, where a statement a row would make a segment each.
    """
    columns = [table.c[name] for name in rows[0]]
    given = unnest({column: [row[column.name] for row in rows] for column in columns}, "given")
    chosen = select(*(given.c[column.name] for column in columns), *computed.values())
    return insert(table).from_select([*(column.name for column in columns), *computed], chosen)


def unnest(values: Mapping[Column[Any], Sequence[Any]], name: str) -> TableValuedAlias:
    """Lists of equal length as a table, each list under the name and with the type of its column."""
    lists = (
        bindparam(f"{name}_{column.name}", list(items), type_=ARRAY(column.type), unique=True)
        for column, items in values.items()
    )
    return func.unnest(*lists).table_valued(*values, name=name).render_derived()
