"""key_values: JSON under (namespace, scope_id, key). The user's profile is namespace "profile"."""

from sqlalchemy import Column, Index, MetaData, String, Table
from sqlalchemy.dialects.postgresql import JSONB

from memground.postgres.versioned import VersionedTable, version_columns, version_indexes
from neuromem.models.columns import updated_at


def key_values(metadata: MetaData) -> VersionedTable:
    table = Table(
        "key_values",
        metadata,
        *version_columns("entry_id"),
        Column("namespace", String(255), nullable=False),
        Column("scope_id", String(255), nullable=False),
        Column("key", String(255), nullable=False),
        Column("value", JSONB, nullable=False),
        updated_at(),
    )
    version_indexes("kv", table, "entry_id")
    names = (table.c.namespace, table.c.scope_id, table.c.key)
    Index("uq_kv_name", *names, unique=True, postgresql_where=table.c.known_to.is_(None))
    Index("ix_kv_scope", table.c.scope_id, table.c.namespace)
    return VersionedTable(table, "entry_id", content=("value",), carried=("namespace", "scope_id", "key"))
