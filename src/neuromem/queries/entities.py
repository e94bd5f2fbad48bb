"""One thing, as memories, the graph and conversations know it: one statement over all three."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    Select,
    Subquery,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from memground.postgres.arms import on_row
from memground.postgres.engine import Query
from neuromem.models import Tables
from neuromem.queries import graph, memories, messages
from neuromem.queries.scope import Shape, built_once

MOST_MENTIONS, MOST_RELATIONS = 2_000, 10_000
"""How many memories and messages that name a thing, and relations of it, are counted."""

_TEXTS = ARRAY(Text)


@built_once
def profile(tables: Tables, shape: Shape, most: int = MOST_MENTIONS) -> Query:
    """Of what goes by :names (:keys as aliases), one row: lists of JSON objects, counts, and times.

    nodes, relations (as `graph.facts` gives them), memories, messages (each with its columns, at most :limit); and
    relation_count, memory_count, message_count, first, last. A text names it when it has the words and fits the pattern
    of one name: lists :mention_words (as PostgreSQL writes arrays) and :mention_patterns, of equal length. Of memories
    and messages each the `most` first are counted.
    """
    names = _names()
    named = graph.nodes_named(tables, Shape(past=shape.past)).subquery("named")
    told = graph.facts(tables, shape).subquery("told")
    remembered = _Mentions(names, tables.embeddings.table, shape, most)
    said = _Mentions(names, tables.conversations.table, Shape(past=shape.past), most)
    sources = graph.sources_of(tables, shape, tables.embeddings.table.c.memory_id).label("sources")
    return select(
        _listed(named).label("nodes"),
        _listed(told).label("relations"),
        _listed(remembered.latest([*memories.columns(tables), sources])).label("memories"),
        _listed(said.latest(messages.columns(tables, shape.known))).label("messages"),
        _relations(tables, shape).label("relation_count"),
        remembered.count.label("memory_count"),
        said.count.label("message_count"),
        func.least(remembered.first, said.first, type_=DateTime(timezone=True)).label("first"),
        func.greatest(remembered.last, said.last, type_=DateTime(timezone=True)).label("last"),
    )


def _names() -> FromClause:
    words, patterns = (bindparam(f"mention_{name}", type_=_TEXTS) for name in ("words", "patterns"))
    listed = func.unnest(words, patterns).table_valued("words", "pattern", name="listed").render_derived()
    numbers = cast(listed.c.words, ARRAY(BigInteger)).label("words")
    return select(numbers, listed.c.pattern).cte("names").prefix_with("MATERIALIZED")


class _Mentions:
    """The rows of one table whose texts name the thing.

    The first so many are found by their words. Of a name that is in more texts than that, the latest (and the first)
    are found by going through all of them along time: the next one is never far.
    """

    def __init__(self, names: FromClause, table: Table, shape: Shape, most: int) -> None:
        self._names, self._table = names, table
        self._seen = [shape.known(table), *shape.true(table)]
        self._most = most
        self._found = self._by_word()
        total = select(func.count()).select_from(self._found).scalar_subquery()
        self.count: ColumnElement[int] = func.least(total, most + 1, type_=Integer)
        self._common = total > most
        self.first = self._end(func.min, newest=False)
        self.last = self._end(func.max, newest=True)

    def latest(self, columns: Sequence[ColumnElement[Any]]) -> Subquery:
        """The :limit latest rows."""
        limit = bindparam("limit", type_=Integer)
        few = select(self._found.c.id).where(~self._common)
        few = few.order_by(self._found.c.event_at.desc(), self._found.c.id).limit(limit)
        ids = union_all(*(one.subquery().select() for one in (few, self._along_time(newest=True).limit(limit))))
        chosen = ids.subquery(f"latest_{self._table.name}")
        table = self._table
        rows = select(*columns).select_from(chosen.join(table, table.c.id == chosen.c.id)).where(*self._seen[:1])
        return rows.order_by(table.c.event_at.desc(), table.c.id).subquery(f"{self._table.name}_rows")

    def _by_word(self) -> CTE:
        table, names = self._table, self._names
        has = table.c.words.op("@>", is_comparison=True)(names.c.words)
        found = (
            select(table.c.id, table.c.event_at)
            .where(has, *map(on_row, self._seen), _says(table, names.c.pattern))
            .limit(literal(self._most + 1, Integer))
            .correlate(names)
            .lateral("found")
        )
        each = select(found.c.id, found.c.event_at).select_from(names.join(found, true())).distinct()
        return each.cte(f"found_{self._table.name}").prefix_with("MATERIALIZED")

    def _along_time(self, *, newest: bool) -> Select[Any]:
        """(id) of all that name it, where they are many, along their times."""
        table, names = self._table, self._names
        has = table.c.words.op("@>", is_comparison=True)(names.c.words)
        named = exists().where(and_(has, _says(table, names.c.pattern))).correlate(table)
        order = table.c.event_at.desc() if newest else table.c.event_at
        return select(table.c.id).where(self._common, *self._seen, on_row(named)).order_by(order, table.c.id)

    def _end(self, of: Any, *, newest: bool) -> ColumnElement[Any]:
        """The first or last time."""
        among = select(of(self._found.c.event_at, type_=DateTime(timezone=True))).scalar_subquery()
        along = self._along_time(newest=newest).with_only_columns(self._table.c.event_at).limit(literal(1, Integer))
        return case((self._common, along.scalar_subquery()), else_=among)


def _says(table: Table, pattern: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a text holds a name. Normalising takes many times as long, and changes no text of plain letters."""
    content = table.c.content
    special = func.octet_length(content) != func.char_length(content)
    normal = func.pg_catalog.normalize(content, "NFKC", type_=Text)
    return or_(content.regexp_match(pattern), and_(special, normal.regexp_match(pattern)))


def _relations(tables: Tables, shape: Shape) -> ColumnElement[int]:
    """How many edges begin or end at it."""
    edge, node = tables.graph_edges.table, tables.graph_nodes.table
    asked = func.unnest(bindparam("names", type_=_TEXTS)).table_valued("name", name="asked").render_derived()
    aliased = node.c.alias_keys.overlap(bindparam("keys", type_=ARRAY(BigInteger)))
    things = union(
        select(cast(asked.c.name, Text).label("name")),
        select(cast(node.c.node_id, Text)).where(Shape(past=shape.past).known(node), aliased),
    ).cte("things")
    seen = [shape.known(edge), *shape.true(edge)]
    loops = edge.c.source_id.in_(select(things.c.name))  # counted from their other end
    # One probe of an index for each name. As a join it would be planned, without names, as a scan of everybody's edges.
    found = (
        select(literal(1, Integer).label("one"))
        .where(*seen, *further, edge.c[f"{end}_id"] == things.c.name)
        .limit(literal(MOST_RELATIONS + 1, Integer))
        .correlate(things)
        .lateral(f"of_{end}")
        for end, further in (("source", ()), ("target", (~loops,)))
    )
    ends = [select(each.c.one).select_from(things.join(each, true())) for each in found]
    both = union_all(*(one.subquery().select() for one in ends)).subquery("both_ends")
    counted = select(func.count()).select_from(both).scalar_subquery()
    return func.least(counted, MOST_RELATIONS + 1, type_=Integer)


def _listed(rows: Subquery) -> ColumnElement[Any]:
    """Rows as a list of JSON objects, in their order; NULL where there are none."""
    row = func.to_jsonb(rows.table_valued())
    return select(func.jsonb_agg(row, type_=JSONB)).select_from(rows).scalar_subquery()
