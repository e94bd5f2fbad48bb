"""Statements over what conversations were extracted into, and what still waits."""

import uuid
from collections.abc import Sequence

from sqlalchemy import (
    UUID,
    BigInteger,
    DateTime,
    String,
    and_,
    any_,
    bindparam,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from memground.postgres.backdated import known_since
from memground.postgres.engine import Query
from memground.postgres.versioned import known_now
from neuromem.models import Tables
from neuromem.queries.memories import columns
from neuromem.queries.scope import Shape, built_once, owned

EXTRACT = "extract"
"""Kind of the job that extracts the waiting turns of a session."""

_CANDIDATES = 8
_SAME_WORDS = 20


@built_once
def alike(tables: Tables, shape: Shape, *, exact: bool) -> Query:
    """The version rows that may say what a new memory says: nearest to :vector, or with the same :words.

    Of the type :memory_type, known at :since or at any time after it. Columns: the memory's, and `similarity` (NULL for
    one that only has the same words).
    """
    table = tables.embeddings.table
    since = bindparam("since", type_=DateTime(timezone=True))
    mine = [
        owned(table),
        table.c.memory_type == bindparam("memory_type", type_=String),
        known_since(table, since),
    ]
    near = tables.memory_vectors.candidates(table.c.id, mine, limit=_CANDIDATES, exact=exact).subquery("near")
    words = select(table.c.id, literal(None).label("score")).where(
        *mine, table.c.words == bindparam("words", type_=ARRAY(BigInteger))
    )
    both = union_all(select(near.c.id, near.c.score), words.limit(_SAME_WORDS)).subquery("both_ways")
    best = select(both.c.id, func.max(both.c.score).label("similarity")).group_by(both.c.id).subquery("best")
    return (
        select(*columns(tables), best.c.similarity)
        .select_from(best.join(table, table.c.id == best.c.id))
        .order_by(best.c.similarity.desc().nulls_last(), table.c.version)
    )


def linked(tables: Tables, user_id: str, derived_id: uuid.UUID, sources: Sequence[uuid.UUID]) -> Query:
    """(source_id) of those things a derived one is already known to come from."""
    c = tables.memory_sources.table.c
    wanted = c.source_id == any_(bindparam("sources", list(sources), type_=ARRAY(UUID)))
    return select(c.source_id).where(
        c.user_id == user_id, c.derived_id == derived_id, wanted, known_now(tables.memory_sources.table)
    )


def last(tables: Tables, user_id: str, memory_id: uuid.UUID) -> Query:
    """(known_to, closed_origin) of a memory's last version."""
    table = tables.embeddings.table
    mine = and_(table.c.user_id == user_id, table.c.memory_id == memory_id)
    return select(table.c.known_to, table.c.closed_origin).where(mine).order_by(table.c.version.desc()).limit(1)
