"""Statements that count what is known about a user."""

from sqlalchemy import func, select

from memground.postgres.engine import Query
from memground.postgres.versioned import history, known
from memground.view import View
from neuromem.models import Tables


def memories(tables: Tables, user_id: str, view: View) -> Query:
    """(memory_type, total, first, last) per type; first and last are when they became known."""
    table = tables.embeddings.table
    return (
        select(
            table.c.memory_type,
            func.count().label("total"),
            func.min(table.c.known_from).label("first"),
            func.max(table.c.known_from).label("last"),
        )
        .where(table.c.user_id == user_id, known(table, view))
        .group_by(table.c.memory_type)
        .order_by(func.count().desc(), table.c.memory_type)
    )


def memory_versions(tables: Tables, user_id: str, view: View) -> Query:
    """How many states memories have had, forgotten ones included."""
    vt = tables.embeddings
    return select(func.count()).select_from(
        history(vt, vt.table.c.user_id == user_id, view).order_by(None).subquery("seen")
    )


def messages(tables: Tables, user_id: str, view: View) -> Query:
    """(total, sessions, first, last) of messages; first and last are when they became known."""
    table = tables.conversations.table
    return select(
        func.count().label("total"),
        func.count(table.c.session_id.distinct()).label("sessions"),
        func.min(table.c.known_from).label("first"),
        func.max(table.c.known_from).label("last"),
    ).where(table.c.user_id == user_id, known(table, view))


def key_values(tables: Tables, user_id: str, view: View) -> Query:
    table = tables.key_values.table
    return select(func.count()).where(table.c.scope_id == user_id, known(table, view))


def graph(tables: Tables, user_id: str, view: View) -> Query:
    """(nodes, edges) of the graph."""
    counts = (
        select(func.count()).where(table.c.user_id == user_id, known(table, view)).scalar_subquery().label(name)
        for name, table in (("nodes", tables.graph_nodes.table), ("edges", tables.graph_edges.table))
    )
    return select(*counts)
