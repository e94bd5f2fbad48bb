"""What the server itself has counted: cheap to ask, and a little old."""

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    Integer,
    String,
    Subquery,
    Table,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY


def table_rows(table: Table) -> ColumnElement[float]:
    """How many rows the table had when it was last analyzed; 0 before."""
    name = postgresql.dialect().identifier_preparer.format_table(table)
    size = select(func.greatest(literal_column("reltuples", Float), 0.0)).select_from(text("pg_catalog.pg_class"))
    return size.where(literal_column("oid", Integer) == func.to_regclass(literal(name, String))).scalar_subquery()


def common_values(column: Column[Any]) -> Subquery:
    """(value as text, share of the table's rows) of the column's most common values: a hundred, unless told."""
    table = column.table
    assert isinstance(table, Table)
    values = literal_column("most_common_vals::text::text[]", ARRAY(String))
    shares = literal_column("most_common_freqs", ARRAY(Float))
    common = func.unnest(values, shares).table_valued("value", "share", name="common").render_derived()
    return (
        select(common.c.value, common.c.share)
        .select_from(text("pg_catalog.pg_stats"))
        .join(common, true())
        .where(
            literal_column("schemaname", String) == (table.schema or literal_column("current_schema()")),
            literal_column("tablename", String) == table.name,
            literal_column("attname", String) == column.name,
        )
        .subquery("common_values")
    )
