"""Statements of recall that read several tables at once, so that it waits for the server less often."""

from sqlalchemy import Integer, literal, select, union_all

from memground.postgres.engine import Query
from neuromem.models import Tables
from neuromem.queries import memories, messages
from neuromem.queries.scope import Shape, built_once


@built_once
def best_scans(tables: Tables, shape: Shape, limit: int) -> Query:
    """One row: (memories, turns), which `Scan` finds the nearest of all the user's of either kind."""
    return select(
        memories.best_scan(tables, shape, limit).scalar_subquery().label("memories"),
        messages.best_scan(tables, shape, limit).scalar_subquery().label("turns"),
    )


@built_once
def keyword_arms(tables: Tables, shape: Shape, limit: int, *, turns: bool) -> Query:
    """(turn, id, score) for :words: what `memories.keyword_arm` finds (turn 0), and `messages.keyword_arm` (turn 1).

    Each best first; the second only with `turns`.
    """
    found = memories.keyword_arm(tables, shape, limit).subquery("memories")
    arms = [select(literal(0, Integer).label("turn"), found.c.id, found.c.score)]
    if turns:
        said = messages.keyword_arm(tables, Shape(past=shape.past, where=shape.where), limit).subquery("turns")
        arms.append(select(literal(1, Integer), said.c.id, said.c.score))
    both = union_all(*arms).subquery("arms")
    return select(both).order_by(both.c.turn, both.c.score.desc(), both.c.id)
