"""Statements over key-values."""

from sqlalchemy import ColumnElement, String, and_, bindparam, select

from memground.postgres.engine import Query
from memground.postgres.versioned import known
from memground.view import View
from neuromem.models import Tables
from neuromem.queries.scope import Shape, built_once


def named(tables: Tables, namespace: str, scope_id: str, key: str) -> ColumnElement[bool]:
    table = tables.key_values.table
    return and_(table.c.namespace == namespace, table.c.scope_id == scope_id, table.c.key == key)


def one(tables: Tables, namespace: str, scope_id: str, key: str, view: View) -> Query:
    table = tables.key_values.table
    return select(table).where(named(tables, namespace, scope_id, key), known(table, view))


@built_once
def all_in_namespace(tables: Tables, shape: Shape) -> Query:
    """(entry_id, key, value, known_from) of a :namespace of the user, by key."""
    table = tables.key_values.table
    known_then = shape.known(table, owner="scope_id")
    named = table.c.namespace == bindparam("namespace", type_=String)
    columns = (table.c.entry_id, table.c.key, table.c.value, table.c.known_from)
    return select(*columns).where(known_then, named).order_by(table.c.key.collate("C"))


def in_namespace(tables: Tables, namespace: str, scope_id: str, view: View, prefix: str = "") -> Query:
    """The entries of a namespace by key; with `prefix`, those whose key begins with it."""
    table = tables.key_values.table
    statement = select(table).where(table.c.namespace == namespace, table.c.scope_id == scope_id, known(table, view))
    if prefix:
        statement = statement.where(table.c.key.startswith(prefix, autoescape=True))
    return statement.order_by(table.c.key.collate("C"))
