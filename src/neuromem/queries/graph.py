"""Statements over the graph. A thing is (type, id); inside a statement that walks, it is the text `type/id`."""

import uuid
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import (
    CTE,
    UUID,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    String,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array, distinct_on

from memground.postgres.engine import Query
from memground.postgres.versioned import known_after, known_now, uuids
from neuromem.models import Tables
from neuromem.queries.scope import Shape, built_once, owned

type Direction = Literal["out", "in", "both"]

MOST_STEPPED = 50_000
"""Edges that a search for a path follows in one step; beyond, it is cut off."""
MOST_ENTITIES = 20
"""Things of one text about which facts are looked for; of more, those with the longest names."""

_TEXTS, _KEYS = ARRAY(Text), ARRAY(BigInteger)


def _ended(edge: Any) -> ColumnElement[bool]:
    """Whether the edge is no longer true at :true_at."""
    return func.coalesce(edge.c.valid_to <= bindparam("true_at", type_=DateTime(timezone=True)), False)


def _named(table: FromClause) -> ColumnElement[bool]:
    """Nodes that go by one of :names (:keys as aliases)."""
    by_name = table.c.node_id == any_(bindparam("names", type_=_TEXTS))
    return or_(by_name, table.c.alias_keys.overlap(bindparam("keys", type_=_KEYS)))


@built_once
def nodes_named(tables: Tables, shape: Shape) -> Query:
    """The nodes that go by one of :names, under their own name or another (:keys); the first made first."""
    table = tables.graph_nodes.table
    return (
        select(table).where(shape.known(table), _named(table)).order_by(table.c.created_at, table.c.node_id, table.c.id)
    )


@built_once
def node_versions(tables: Tables, shape: Shape) -> Query:
    """All versions of the nodes that ever went by one of :names."""
    table = tables.graph_nodes.table
    return select(table).where(owned(table), _named(table)).order_by(table.c.version, table.c.id)


@built_once
def nodes(tables: Tables, shape: Shape, *, typed: bool, after: bool) -> Query:
    """:limit nodes by id and type, of :node_type, whose id begins with :prefix, those behind (:id, :type)."""
    table = tables.graph_nodes.table
    name, kind = table.c.node_id.collate("C"), table.c.node_type.collate("C")
    statement = select(table).where(
        shape.known(table), func.starts_with(table.c.node_id, bindparam("prefix", type_=Text))
    )
    if typed:
        statement = statement.where(table.c.node_type == bindparam("node_type", type_=String))
    if after:
        last, last_kind = bindparam("id", type_=String), bindparam("type", type_=String)
        statement = statement.where(or_(name > last, and_(name == last, kind > last_kind)))
    return statement.order_by(name, kind).limit(bindparam("limit", type_=Integer))


@built_once
def edges_of(tables: Tables, shape: Shape) -> Query:
    """All versions of the edges from :subjects by :relations to :objects, or to anything by :single relations."""
    table = tables.graph_edges.table
    to = or_(
        table.c.target_id == any_(bindparam("objects", type_=_TEXTS)),
        table.c.edge_type == any_(bindparam("single", type_=_TEXTS)),
    )
    return (
        select(table)
        .where(
            owned(table),
            table.c.source_id == any_(bindparam("subjects", type_=_TEXTS)),
            table.c.edge_type == any_(bindparam("relations", type_=_TEXTS)),
            to,
        )
        .order_by(table.c.version, table.c.id)
    )


@built_once
def edges_between(tables: Tables, shape: Shape) -> Query:
    """The current edges that have exactly these ends and this type."""
    table = tables.graph_edges.table
    names = ("source_type", "source_id", "edge_type", "target_type", "target_id")
    same = (table.c[name] == bindparam(name, type_=String) for name in names)
    return select(table).where(owned(table), known_now(table), *same).order_by(table.c.version)


@built_once
def edges_at(tables: Tables, shape: Shape) -> Query:
    """The current edges out of a node or in to it."""
    table = tables.graph_edges.table
    kind, name = bindparam("node_type", type_=String), bindparam("node_id", type_=String)
    ends = or_(
        and_(table.c.source_id == name, table.c.source_type == kind),
        and_(table.c.target_id == name, table.c.target_type == kind),
    )
    return select(table).where(owned(table), known_now(table), ends)


def unneeded(tables: Tables, user_id: str, target: Query, edges: Query) -> Query:
    """What nodes shall be (key, row id or NULL), without those that would end while edges were written on top of them.

    `edges`: what edges shall be, likewise, all others staying as they are. An edge was written on top of a node when
    the node was there at the time. One that had no node before the undone write needs none after it.
    """
    wanted, node = target.subquery("wanted"), tables.graph_nodes.table.alias("current_node")
    key, row_id = wanted.c[0], wanted.c[1]
    # What another node of the name comes back for makes room.
    other, same_name = target.subquery("other"), tables.graph_nodes.table.alias("same_name")
    replaced = exists().where(
        same_name.c.user_id == user_id,
        same_name.c.id == other.c[1],
        same_name.c.node_id == node.c.node_id,
        same_name.c.node_type == node.c.node_type,
    )
    end = _ends_written_on_nodes(tables, user_id, edges).subquery("edge_end")
    needed = (
        select(node.c.node_key)
        .join(end, and_(end.c.node_type == node.c.node_type, end.c.node_id == node.c.node_id))
        .where(node.c.user_id == user_id, known_now(node), ~replaced)
    )
    return select(key, row_id).where(or_(row_id.is_not(None), key.not_in(needed)))


def _ends_written_on_nodes(tables: Tables, user_id: str, edges: Query) -> Query:
    """(node_type, node_id) at which edges that stay or come back (`edges`: key, row id or NULL) found a node."""
    wanted, edge, node = edges.cte("wanted_edges"), tables.graph_edges.table, tables.graph_nodes.table
    untouched = select(edge.c.id).where(
        edge.c.user_id == user_id, known_now(edge), edge.c.edge_id.not_in(select(wanted.c[0]))
    )
    shall_be = union_all(select(wanted.c[1]).where(wanted.c[1].is_not(None)), untouched)
    of_these = and_(edge.c.user_id == user_id, edge.c.id.in_(shall_be))
    written = (edge.c.recorded_at, edge.c.created_at)
    sides = ((edge.c[f"{side}_type"].label("type"), edge.c[f"{side}_id"].label("id")) for side in ("source", "target"))
    ends = union_all(*(select(*side, *written).where(of_these) for side in sides)).subquery("ends")
    # Where both were written at one instant, a new edge came after its node; a version of an old one may have not.
    before = or_(node.c.recorded_at < ends.c.recorded_at, node.c.recorded_at <= ends.c.created_at)
    found = and_(before, known_after(node, ends.c.recorded_at))
    return (
        select(node.c.node_type, node.c.node_id)
        .join(ends, and_(ends.c.type == node.c.node_type, ends.c.id == node.c.node_id))
        .where(node.c.user_id == user_id, found)
        .distinct()
    )


def ending(target: Query) -> Query:
    """The keys of those rows of which a target (key, row id or NULL) says that they shall end."""
    wanted = target.subquery("wanted")
    return select(wanted.c[0]).where(wanted.c[1].is_(None))


def current_among(tables: Tables, user_id: str, keys: Sequence[uuid.UUID]) -> Query:
    """The current nodes among these."""
    node = tables.graph_nodes.table
    return select(node).where(node.c.user_id == user_id, known_now(node), node.c.node_key == any_(uuids("keys", keys)))


@built_once
def neighbors(tables: Tables, shape: Shape, *, direction: Direction, typed: bool) -> Query:
    """:limit edges of the things (:types, :ids), by :edge_types, the last written first.

    Beside the edge: direction, other_type, other_id, other_name.
    """
    table = tables.graph_edges.table
    kind, name = bindparam("types", type_=_TEXTS), bindparam("ids", type_=_TEXTS)
    things = func.unnest(kind, name).table_valued("type", "id", name="things").render_derived()
    arms: list[Query] = []
    for way, near, far in (("out", "source", "target"), ("in", "target", "source")):
        if direction not in (way, "both"):
            continue
        where = [shape.known(table), *shape.true(table), table.c[f"{near}_id"] == things.c.id]
        where.append(table.c[f"{near}_type"] == things.c.type)
        if way == "in" and direction == "both":  # a loop is the one edge that both ways lead along
            where.append(or_(table.c.source_id != table.c.target_id, table.c.source_type != table.c.target_type))
        if typed:
            where.append(table.c.edge_type == any_(bindparam("edge_types", type_=_TEXTS)))
        found = (
            select(
                table,
                literal(way).label("direction"),
                table.c[f"{far}_type"].label("other_type"),
                table.c[f"{far}_id"].label("other_id"),
            )
            .where(*where)
            .order_by(*_newest(table))
            .limit(bindparam("limit", type_=Integer))
            .lateral(f"found_{way}")
        )
        arms.append(select(found).select_from(things.join(found, true())))
    both = union_all(*arms).subquery("both_ways")
    return (
        select(both, _name(tables, shape, both.c.other_type, both.c.other_id).label("other_name"))
        .order_by(*_newest(both), both.c.direction)
        .limit(bindparam("limit", type_=Integer))
    )


def _newest(edges: Any) -> list[ColumnElement[Any]]:
    """The last written first; those written together by what they say, never by how they are stored."""
    holds = edges.c.valid_to.desc().nulls_first()
    said = ("edge_type", "source_id", "target_id", "source_type", "target_type")
    return [edges.c.version.desc(), holds, *(edges.c[name].collate("C") for name in said), edges.c.valid_from.asc()]


def _name(tables: Tables, shape: Shape, kind: Any, name: Any) -> ColumnElement[str]:
    """A thing's name as it was written, its id where there is none."""
    node = tables.graph_nodes.table.alias()
    known = Shape(past=shape.past).known(node)
    written = select(node.c.properties["name"].astext).where(known, node.c.node_type == kind, node.c.node_id == name)
    return func.coalesce(written.limit(1).scalar_subquery(), name)


# ---------------------------------------------------------------- facts


@built_once
def facts(tables: Tables, shape: Shape) -> Query:
    """:limit edges of what :names (:keys as aliases) name: both ends named first, ended ones last, newest first.

    Of each thing the :pool newest edges each way come into question, and all between two named. Beside the edge: named,
    ended, source_name, target_name, sources ([kind, id, span] each, or NULL).
    """
    edge = tables.graph_edges.table
    entities = _entities(tables, shape)
    one, other = entities.alias("one"), entities.alias("other")
    seen = [shape.known(edge), *shape.true(edge)]
    arms: list[Query] = []
    for end in ("source", "target"):
        newest = (select(edge.c.id).where(*seen, edge.c[f"{end}_id"] == one.c.name).order_by(*_newest(edge))).limit(
            bindparam("pool", type_=Integer)
        )
        found = newest.lateral(f"of_{end}")
        arms.append(select(found.c.id).select_from(one.join(found, true())))
    pairs = one.join(other, true()).join(edge, and_(edge.c.source_id == one.c.name, edge.c.target_id == other.c.name))
    arms.append(select(edge.c.id).select_from(pairs).where(*seen))
    found = union(*arms).cte("found").prefix_with("MATERIALIZED")
    named = sum(
        (cast(edge.c[f"{end}_id"].in_(select(entities.c.name)), Integer) for end in ("source", "target")),
        start=literal(0, Integer),
    )
    ranked = (
        select(edge, named.label("named"), _ended(edge).label("ended"))
        .select_from(found.join(edge, edge.c.id == found.c.id))
        .where(owned(edge))
        .order_by(named.desc(), _ended(edge), *_newest(edge))
        .limit(bindparam("limit", type_=Integer))
        .subquery("ranked")
    )
    return select(
        ranked,
        _name(tables, shape, ranked.c.source_type, ranked.c.source_id).label("source_name"),
        _name(tables, shape, ranked.c.target_type, ranked.c.target_id).label("target_name"),
        sources_of(tables, shape, ranked.c.edge_id).label("sources"),
    ).order_by(ranked.c.named.desc(), ranked.c.ended, *_newest(ranked))


def _entities(tables: Tables, shape: Shape) -> CTE:
    """(name) of the named things that have an edge."""
    node, edge = tables.graph_nodes.table, tables.graph_edges.table
    listed = func.unnest(bindparam("names", type_=_TEXTS)).table_valued("name", name="listed").render_derived()
    known = Shape(past=shape.past)
    aliased = select(node.c.node_id).where(known.known(node), node.c.alias_keys.overlap(bindparam("keys", type_=_KEYS)))
    asked = union(select(listed.c.name), aliased).subquery("asked")
    # One probe of an index for each name. As a condition it would be planned as a list of all names that have an edge.
    edges = (
        select(literal(1)).where(known.known(edge), edge.c[f"{end}_id"] == asked.c.name).limit(1).correlate(asked)
        for end in ("source", "target")
    )
    has_edge = union_all(*(one.subquery().select() for one in edges)).subquery()
    has_edge = select(literal(1)).select_from(has_edge).limit(1).lateral("has_edge")
    longest = select(asked.c.name).select_from(asked.join(has_edge, true()))
    longest = longest.order_by(func.char_length(asked.c.name).desc(), asked.c.name.collate("C")).limit(MOST_ENTITIES)
    return longest.cte("entities").prefix_with("MATERIALIZED")


def sources_of(tables: Tables, shape: Shape, derived_id: ColumnElement[Any]) -> ColumnElement[Any]:
    """What something derived came from: a JSON list of [kind, id, span], or NULL."""
    c = tables.memory_sources.table.c
    source = func.jsonb_build_array(c.source_kind, c.source_id, c.span, type_=JSONB)
    mine = Shape(past=shape.past).known(tables.memory_sources.table)
    return select(func.jsonb_agg(source, type_=JSONB)).where(mine, c.derived_id == derived_id).scalar_subquery()


# ---------------------------------------------------------------- paths


@built_once
def path(tables: Tables, shape: Shape) -> Query:
    """The edges of a shortest way from one of :near to one of :far, of at most :max_depth edges in any direction.

    A search from both ends that always steps from the end with fewer things to step from, so that a hub is opened once
    and what lies behind it seldom. Each row of `walk` is one step: what it found, by which edges. `back` then goes from
    the meeting point to both ends. Gives per edge: near (which end it leads to), place (from the meeting point, from
    1), met, cut (whether a step followed only `MOST_STEPPED` edges), and the edge; one row without an edge when there
    is no way or nothing to go.
    """
    edge = tables.graph_edges.table
    walk = _walk(tables, shape)
    whole = select(func.max(walk.c.met).label("met"), func.bool_or(walk.c.cut).label("cut")).cte("whole")
    back = _back(tables, walk, whole)
    steps = select(back.c.near, back.c.place, edge).where(owned(edge), edge.c.id == back.c.via).subquery("steps")
    joined = whole.outerjoin(steps, true())
    return select(whole, steps).select_from(joined).order_by(steps.c.near.desc(), steps.c.place)


def _walk(tables: Tables, shape: Shape) -> CTE:
    near, far = (_bytewise(bindparam(name, type_=_TEXTS)) for name in ("near", "far"))
    none = _bytewise(cast(array([], type_=Text), _TEXTS))
    walk = select(
        literal(0, Integer).label("step"),
        literal(True, Boolean).label("near"),
        near.label("near_front"),
        near.label("near_seen"),
        far.label("far_front"),
        far.label("far_seen"),
        none.label("found"),
        cast(array([], type_=UUID), ARRAY(UUID)).label("via"),
        _common(near, far).label("met"),
        literal(False, Boolean).label("cut"),
    ).cte("walk", recursive=True)
    w = walk.c
    turn = func.cardinality(w.near_front) <= func.cardinality(w.far_front)
    front, seen = (case((turn, w[f"near_{what}"]), else_=w[f"far_{what}"]) for what in ("front", "seen"))
    step = _step(tables, shape, front, seen)
    found = step.c.found
    return walk.union_all(
        select(
            w.step + 1,
            turn,
            case((turn, found), else_=w.near_front),
            case((turn, w.near_seen.op("||")(found)), else_=w.near_seen),
            case((turn, w.far_front), else_=found),
            case((turn, w.far_seen), else_=w.far_seen.op("||")(found)),
            found,
            step.c.via,
            _common(found, case((turn, w.far_seen), else_=w.near_seen)),
            step.c.cut,
        )
        .select_from(walk.join(step, true()))
        .where(
            w.step < bindparam("max_depth", type_=Integer),
            w.met.is_(None),
            func.cardinality(w.near_front) > 0,
            func.cardinality(w.far_front) > 0,
        )
    )


def _step(tables: Tables, shape: Shape, front: ColumnElement[Any], seen: ColumnElement[Any]) -> FromClause:
    """What one edge leads to from `front` and was not `seen`: found, via (row ids of the edges), cut."""
    edge = tables.graph_edges.table
    begin = func.unnest(front).table_valued("key", name="begin").render_derived()
    # Compared as the columns are, or no index would do.
    kind = func.split_part(begin.c.key, "/", 1, type_=Text).collate("default")
    name = func.substr(begin.c.key, func.strpos(begin.c.key, "/") + 1, type_=Text).collate("default")
    ways = [
        select(_key(edge, to).label("key"), edge.c.id, _ended(edge).label("ended"), edge.c.version)
        .select_from(begin.join(edge, and_(edge.c[f"{end}_id"] == name, edge.c[f"{end}_type"] == kind)))
        .where(shape.known(edge), *shape.true(edge))
        for end, to in (("source", "target"), ("target", "source"))
    ]
    reached = union_all(*ways).limit(literal(MOST_STEPPED, Integer)).subquery("reached")
    counted = select(reached, func.count().over().label("total")).subquery("counted")
    c = counted.c
    best = (
        select(c.key, c.id, c.total).ext(distinct_on(c.key)).order_by(c.key, c.ended, c.version, c.id).subquery("best")
    )
    old = func.unnest(seen).table_valued("key", name="old").render_derived()
    new = old.c.key.is_(None)
    none = _bytewise(cast(array([], type_=Text), _TEXTS))
    joined = best.outerjoin(old, old.c.key.collate("C") == best.c.key)
    return (
        select(
            func.coalesce(func.array_agg(best.c.key).filter(new), none).label("found"),
            func.coalesce(func.array_agg(best.c.id).filter(new), cast(array([], type_=UUID), ARRAY(UUID))).label("via"),
            func.coalesce(func.max(best.c.total) >= MOST_STEPPED, False).label("cut"),
        )
        .select_from(joined)
        .lateral("step")
    )


def _back(tables: Tables, walk: CTE, whole: CTE) -> CTE:
    """(near, node, place, via): from the meeting point one edge a row towards either end."""
    edge = tables.graph_edges.table
    sides = func.unnest(array([literal(True, Boolean), literal(False, Boolean)])).table_valued("near", name="sides")
    sides = sides.render_derived()
    back = (
        select(
            sides.c.near.label("near"),
            whole.c.met.label("node"),
            literal(0, Integer).label("place"),
            cast(literal(None), UUID).label("via"),
        )
        .select_from(whole.join(sides, true()))
        .where(whole.c.met.is_not(None))
        .cte("back", recursive=True)
    )
    position = func.array_position(walk.c.found, back.c.node)
    source, target = _key(edge, "source"), _key(edge, "target")
    return back.union_all(
        select(
            back.c.near,
            case((source == back.c.node, target), else_=source),
            back.c.place + 1,
            edge.c.id,
        )
        .select_from(back.join(walk, and_(walk.c.near == back.c.near, position.is_not(None))))
        .join(edge, edge.c.id == walk.c.via[position])
        .where(owned(edge))
    )


def _key(edge: Any, end: str) -> ColumnElement[str]:
    key = edge.c[f"{end}_type"].concat("/").concat(edge.c[f"{end}_id"])
    return cast(key, Text).collate("C")


def _bytewise(keys: ColumnElement[Any]) -> ColumnElement[Any]:
    """Compared as bytes: by the rules of a language it would take several times as long."""
    return keys.op("COLLATE", return_type=_TEXTS)(literal_column('"C"'))


def _common(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[str]:
    """The first of what is in both lists, or NULL."""
    left = func.unnest(one).table_valued("key", name="one_key").render_derived()
    right = func.unnest(other).table_valued("key", name="other_key").render_derived()
    both = left.join(right, left.c.key == right.c.key)
    return select(func.min(left.c.key.collate("C"))).select_from(both).scalar_subquery()
