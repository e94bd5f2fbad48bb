"""graph_nodes and graph_edges: what is known about entities and how they relate."""

from sqlalchemy import BigInteger, Column, DateTime, Index, MetaData, String, Table
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from memground.postgres.versioned import VersionedTable, version_columns, version_indexes
from neuromem.models.columns import updated_at


def graph_nodes(metadata: MetaData) -> VersionedTable:
    """`node_id` is the entity's name in its normal form, within its type; `node_key` the logical id.

    `alias_keys` are its other names as numbers of the user's own, so that an index over all users keeps them apart.
    """
    table = Table(
        "graph_nodes",
        metadata,
        *version_columns("node_key"),
        Column("user_id", String(255), nullable=False),
        Column("node_type", String(100), nullable=False),
        Column("node_id", String(255), nullable=False),
        Column("properties", JSONB, nullable=False),
        updated_at(),
        Column("alias_keys", ARRAY(BigInteger), nullable=False),
    )
    version_indexes("node", table, "node_key")
    names = (table.c.user_id, table.c.node_type, table.c.node_id)
    Index("uq_node_name", *names, unique=True, postgresql_where=table.c.known_to.is_(None))
    Index("ix_node_name", table.c.user_id, table.c.node_id)
    Index("idx_node_aliases", table.c.alias_keys, postgresql_using="gin", postgresql_with={"fastupdate": "off"})
    carried = ("user_id", "node_type", "node_id", "alias_keys")
    return VersionedTable(table, "node_key", content=("properties",), carried=carried)


def graph_edges(metadata: MetaData) -> VersionedTable:
    """An edge holds in the world during [valid_from, valid_to)."""
    time = DateTime(timezone=True)
    table = Table(
        "graph_edges",
        metadata,
        *version_columns("edge_id"),
        Column("user_id", String(255), nullable=False),
        Column("source_type", String(100), nullable=False),
        Column("source_id", String(255), nullable=False),
        Column("edge_type", String(100), nullable=False),
        Column("target_type", String(100), nullable=False),
        Column("target_id", String(255), nullable=False),
        Column("properties", JSONB, nullable=False),
        Column("valid_from", time),
        Column("valid_to", time),
        updated_at(),
    )
    version_indexes("edge", table, "edge_id")
    # The newest of a thing first, so that one with ten thousand edges shows some without reading all.
    Index("ix_edge_source", table.c.user_id, table.c.source_id, table.c.version)
    Index("ix_edge_target", table.c.user_id, table.c.target_id, table.c.version)
    Index("ix_edge_pair", table.c.user_id, table.c.source_id, table.c.target_id)
    ends = ("user_id", "source_type", "source_id", "edge_type", "target_type", "target_id")
    return VersionedTable(table, "edge_id", content=("properties", "valid_from", "valid_to"), carried=ends)
