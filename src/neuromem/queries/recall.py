"""Statements of recall that read several tables at once, so that it waits for the server less often."""

from typing import Any

from sqlalchemy import (
    UUID,
    Column,
    ColumnElement,
    Float,
    Integer,
    String,
    bindparam,
    exists,
    literal,
    null,
    select,
    union_all,
)

from memground.postgres.engine import Query
from neuromem.models import Tables
from neuromem.queries import memories, messages
from neuromem.queries.scope import Shape, built_once, owned


@built_once
def best_scans(tables: Tables, shape: Shape, limit: int) -> Query:
    """One row: (memories, turns), which `Scan` finds the nearest of all the user's of either kind."""
    return select(
        memories.best_scan(tables, shape, limit).scalar_subquery().label("memories"),
        messages.best_scan(tables, shape, limit).scalar_subquery().label("turns"),
    )


MEMORY, TURN, TURNS, RELATIONS, PROFILE = range(5)
"""What a row of `begun` is."""


@built_once
def begun(tables: Tables, shape: Shape, limit: int, *, turns: bool) -> Query:
    """(kind, id, score): what needs no vector, and what else of the user there is to read.

    MEMORY: what `memories.keyword_arm` finds for :words; TURN, only with `turns`: what `messages.keyword_arm` finds;
    each best first. TURNS, RELATIONS, PROFILE: one row each, without id and score, if the user ever had any; entries of
    the profile are those of :namespace.
    """
    found = memories.keyword_arm(tables, shape, limit).subquery("memories")
    parts = [select(literal(MEMORY, Integer).label("kind"), found.c.id, found.c.score)]
    if turns:
        said = messages.keyword_arm(tables, Shape(past=shape.past, where=shape.where), limit).subquery("turns")
        parts.append(select(literal(TURN, Integer), said.c.id, said.c.score))
    entry, turn, edge = tables.key_values.table, tables.conversations.table, tables.graph_edges.table
    there = {
        TURNS: _any(turn.c.user_id, turn.c.session_id),
        RELATIONS: _any(edge.c.user_id, edge.c.source_id),
        PROFILE: exists().where(owned(entry, "scope_id"), entry.c.namespace == bindparam("namespace", type_=String)),
    }
    nothing = null().cast(UUID), null().cast(Float)
    parts += [select(literal(kind, Integer), *nothing).where(some) for kind, some in there.items()]
    both = union_all(*parts).subquery("begun")
    return select(both).order_by(both.c.kind, both.c.score.desc(), both.c.id)


def _any(owner: Column[str], following: Column[Any]) -> ColumnElement[bool]:
    """Whether the user has rows, by an index over owner and following column: its order makes the planner take it.

    It would else read through a table in which most rows are of a few others.
    """
    table = owner.table
    return (
        select(literal(1)).where(owned(table, owner.name)).order_by(following).limit(1).scalar_subquery().is_not(None)
    )
