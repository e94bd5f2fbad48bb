"""embeddings: the memories. memory_sources: what each derived row came from."""

from typing import Any

from sqlalchemy import UUID, BigInteger, Column, DateTime, Index, MetaData, SmallInteger, String, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from memground.postgres.arms import HalfVector, KeywordArm, VectorArm
from memground.postgres.versioned import VersionedTable, version_columns, version_indexes
from neuromem.models.columns import generation_name, updated_at

MEMORY_CONTENT = (
    "content",
    "memory_type",
    "metadata_",
    "importance",
    "valid_from",
    "valid_to",
)


def embeddings(metadata: MetaData, dims: int, generation: int) -> tuple[VersionedTable, VectorArm, KeywordArm]:
    vector = generation_name("embedding", generation)
    time = DateTime(timezone=True)
    table = Table(
        "embeddings",
        metadata,
        *version_columns("memory_id"),
        Column("user_id", String(255), nullable=False),
        Column("content", Text, nullable=False),
        Column(vector, HalfVector(dims)),
        Column("memory_type", String(50), nullable=False, server_default="general"),
        Column("metadata_", JSONB, nullable=False),
        Column("importance", SmallInteger, nullable=False),
        Column("valid_from", time),
        Column("valid_to", time),
        Column("event_at", time, nullable=False),
        updated_at(),
        Column("words", ARRAY(BigInteger), nullable=False),
    )
    version_indexes("emb", table, "memory_id")
    Index("ix_emb_user", table.c.user_id)
    Index("ix_emb_time", table.c.user_id, table.c.event_at)
    Index("ix_emb_user_current", table.c.user_id, table.c.version, postgresql_where=table.c.known_to.is_(None))
    vectors = VectorArm(table.c[vector], table.c.user_id, dims)
    vectors.index(generation_name("idx_emb_vector", generation))
    words = KeywordArm(table.c.words)
    words.index("idx_emb_words")
    versioned = VersionedTable(
        table, "memory_id", content=MEMORY_CONTENT, carried=("user_id", vector, "words", "event_at")
    )
    return versioned, vectors, words


def memory_sources(metadata: MetaData) -> VersionedTable:
    """One row per (derived thing, thing it came from), both named by logical id; as versioned as what it explains."""
    columns: list[Column[Any]] = [
        Column("user_id", String(255), nullable=False),
        Column("derived_kind", String(50), nullable=False),
        Column("derived_id", UUID, nullable=False),
        Column("source_kind", String(50), nullable=False),
        Column("source_id", UUID, nullable=False),
        Column("span", JSONB),
    ]
    table = Table("memory_sources", metadata, *version_columns("link_id"), *columns)
    version_indexes("src", table, "link_id")
    Index("ix_src_derived", table.c.user_id, table.c.derived_id)
    Index("ix_src_source", table.c.user_id, table.c.source_id)
    return VersionedTable(
        table,
        "link_id",
        content=("span",),
        carried=("user_id", "derived_kind", "derived_id", "source_kind", "source_id"),
    )
