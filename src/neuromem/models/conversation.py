"""conversations: the messages. conversation_sessions: counters per session. conversation_embeddings: their vectors."""

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from memground.postgres.arms import HalfVector, KeywordArm, VectorArm
from memground.postgres.versioned import VersionedTable, version_columns, version_indexes
from neuromem.models.columns import generation_name


def conversations(metadata: MetaData) -> tuple[VersionedTable, KeywordArm]:
    """Messages are immutable: a version row is only ever ended and begun again (rollback, undo).

    So `extracted` stays as written; whether one was extracted is told by its links in `memory_sources` (decision 13).
    """
    table = Table(
        "conversations",
        metadata,
        *version_columns("message_id"),
        Column("user_id", String(255), nullable=False),
        Column("session_id", String(255), nullable=False),
        Column("seq", Integer, nullable=False),
        Column("role", String(50), nullable=False),
        Column("speaker", String(255)),
        Column("content", Text, nullable=False),
        Column("extracted", Boolean, nullable=False, server_default="false"),
        Column("metadata_", JSONB, nullable=False),
        Column("external_id", String(255)),
        Column("event_at", DateTime(timezone=True), nullable=False),
        Column("question_share", Float, nullable=False),
        Column("words", ARRAY(BigInteger), nullable=False),
    )
    version_indexes("conv", table, "message_id")
    session = (table.c.user_id, table.c.session_id)
    Index("ix_conv_session", *session, table.c.seq)
    Index("ix_conv_time", table.c.user_id, table.c.event_at)
    Index(
        "uq_conv_external",
        *session,
        table.c.external_id,
        unique=True,
        postgresql_where=and_(table.c.known_to.is_(None), table.c.external_id.is_not(None)),
    )
    Index(
        "ix_conv_external_left",
        *session,
        table.c.external_id,
        postgresql_where=and_(table.c.known_to.is_not(None), table.c.external_id.is_not(None)),
    )
    words = KeywordArm(table.c.words)
    words.index("idx_conv_words")
    carried = (
        "user_id", "session_id", "seq", "role", "speaker", "content", "extracted", "metadata_", "external_id",
        "event_at", "question_share", "words",
    )  # fmt: skip
    return VersionedTable(table, "message_id", content=(), carried=carried), words


def conversation_sessions(metadata: MetaData) -> Table:
    """Operational counters; what a moment in the past saw is derived from the messages."""
    time = DateTime(timezone=True)
    table = Table(
        "conversation_sessions",
        metadata,
        Column("id", UUID, primary_key=True),
        Column("user_id", String(255), nullable=False),
        Column("session_id", String(255), nullable=False),
        Column("message_count", Integer, nullable=False, server_default="0"),
        Column("last_message_at", time),
        Column("closed_at", time),
        Column("created_at", time, nullable=False),
        Column("updated_at", time, nullable=False),
    )
    Index("uq_session", table.c.user_id, table.c.session_id, unique=True)
    return table


def conversation_embeddings(metadata: MetaData, dims: int, generation: int) -> tuple[VersionedTable, VectorArm]:
    """A message's vector: one version row for each of the message's, with the same known time."""
    vector = generation_name("embedding", generation)
    table = Table(
        "conversation_embeddings",
        metadata,
        *version_columns("message_id"),
        Column("user_id", String(255), nullable=False),
        Column(vector, HalfVector(dims), nullable=False),
    )
    version_indexes("conv_emb", table, "message_id")
    Index("ix_conv_emb_user", table.c.user_id)
    vectors = VectorArm(table.c[vector], table.c.user_id, dims)
    vectors.index(generation_name("idx_conv_emb_vector", generation))
    return VersionedTable(table, "message_id", content=(), carried=("user_id", vector)), vectors
