"""The first schema: nine tables of memory, what they came from, jobs and the model's name."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    attributes = context.config.attributes
    schema, dims = attributes["schema"], attributes["dims"]
    _conversation_embeddings(schema, dims)
    _conversation_sessions(schema)
    _conversations(schema)
    _documents(schema)
    _embeddings(schema, dims)
    _emotion_profiles(schema)
    _graph_edges(schema)
    _graph_nodes(schema)
    _jobs(schema)
    _key_values(schema)
    _memory_sources(schema)
    _meta(schema)


class _Vector(sa.types.UserDefinedType[str]):
    """pgvector's `vector(dims)`."""

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def get_col_spec(self, **_: object) -> str:
        return f"vector({self.dims})"


def _hnsw(name: str, table: str, schema: str, dims: int) -> None:
    """As `vector` up to 2,000 dimensions, as `halfvec` up to 4,000, no index above."""
    if dims <= 2_000:
        op.create_index(
            name,
            table,
            ["embedding"],
            schema=schema,
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "vector_cosine_ops"},
        )
    elif dims <= 4_000:
        half = sa.text(f"(CAST(embedding AS halfvec({dims}))) halfvec_cosine_ops")
        op.create_index(name, table, [half], schema=schema, postgresql_using="hnsw")


def _conversation_embeddings(schema: str, dims: int) -> None:
    op.create_table(
        "conversation_embeddings",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("message_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("closed_origin", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("embedding", _Vector(dims), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    _hnsw("idx_conv_emb_vector", "conversation_embeddings", schema, dims)
    op.create_index("ix_conv_emb_user", "conversation_embeddings", ["user_id"], unique=False, schema=schema)
    op.create_index(
        "uq_conv_emb_current",
        "conversation_embeddings",
        ["message_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index(
        "uq_conv_emb_version", "conversation_embeddings", ["message_id", "version"], unique=True, schema=schema
    )


def _conversation_sessions(schema: str) -> None:
    op.create_table(
        "conversation_sessions",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("session_id", sa.String(length=255), nullable=False),
        sa.Column("message_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_message_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_index("uq_session", "conversation_sessions", ["user_id", "session_id"], unique=True, schema=schema)


def _conversations(schema: str) -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("message_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("closed_origin", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("session_id", sa.String(length=255), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=50), nullable=False),
        sa.Column("speaker", sa.String(length=255), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("extracted", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("metadata_", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("external_id", sa.String(length=255), nullable=True),
        sa.Column("event_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("question_share", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_index("ix_conv_session", "conversations", ["user_id", "session_id", "seq"], unique=False, schema=schema)
    op.create_index(
        "uq_conv_current",
        "conversations",
        ["message_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index(
        "uq_conv_external",
        "conversations",
        ["user_id", "session_id", "external_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL AND external_id IS NOT NULL"),
    )
    op.create_index(
        "ix_conv_external_left",
        "conversations",
        ["user_id", "session_id", "external_id"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("known_to IS NOT NULL AND external_id IS NOT NULL"),
    )
    op.create_index("uq_conv_version", "conversations", ["message_id", "version"], unique=True, schema=schema)


def _documents(schema: str) -> None:
    op.create_table(
        "documents",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("document_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("closed_origin", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("filename", sa.String(length=500), nullable=False),
        sa.Column("file_type", sa.String(length=50), nullable=True),
        sa.Column("mime_type", sa.String(length=100), nullable=True),
        sa.Column("file_size", sa.Integer(), nullable=True),
        sa.Column("object_key", sa.String(length=500), nullable=True),
        sa.Column("extracted_text", sa.Text(), nullable=True),
        sa.Column("embedding_id", sa.UUID(), nullable=True),
        sa.Column("category", sa.String(length=100), server_default="general", nullable=False),
        sa.Column("tags", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("metadata_", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("source_type", sa.String(length=50), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), sa.Computed("recorded_at", persisted=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_index("ix_doc_user", "documents", ["user_id"], unique=False, schema=schema)
    op.create_index(
        "uq_doc_current",
        "documents",
        ["document_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index("uq_doc_version", "documents", ["document_id", "version"], unique=True, schema=schema)


def _embeddings(schema: str, dims: int) -> None:
    op.create_table(
        "embeddings",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("memory_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("closed_origin", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("embedding", _Vector(dims), nullable=True),
        sa.Column("memory_type", sa.String(length=50), server_default="general", nullable=False),
        sa.Column("metadata_", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("importance", sa.SmallInteger(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("event_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), sa.Computed("recorded_at", persisted=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    _hnsw("idx_emb_vector", "embeddings", schema, dims)
    op.create_index("ix_emb_user", "embeddings", ["user_id"], unique=False, schema=schema)
    op.create_index(
        "ix_emb_user_current",
        "embeddings",
        ["user_id", "version"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index(
        "uq_emb_current",
        "embeddings",
        ["memory_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index("uq_emb_version", "embeddings", ["memory_id", "version"], unique=True, schema=schema)


def _emotion_profiles(schema: str) -> None:
    op.create_table(
        "emotion_profiles",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("profile_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("closed_origin", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("latest_state", sa.Text(), nullable=True),
        sa.Column("latest_state_valence", sa.Float(), nullable=True),
        sa.Column("latest_state_arousal", sa.Float(), nullable=True),
        sa.Column("latest_state_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valence_avg", sa.Float(), nullable=True),
        sa.Column("arousal_avg", sa.Float(), nullable=True),
        sa.Column("dominant_emotions", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("emotion_triggers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), sa.Computed("recorded_at", persisted=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_index(
        "uq_emotion_current",
        "emotion_profiles",
        ["profile_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index(
        "uq_emotion_user",
        "emotion_profiles",
        ["user_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index("uq_emotion_version", "emotion_profiles", ["profile_id", "version"], unique=True, schema=schema)


def _graph_edges(schema: str) -> None:
    op.create_table(
        "graph_edges",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("edge_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("closed_origin", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("source_type", sa.String(length=100), nullable=False),
        sa.Column("source_id", sa.String(length=255), nullable=False),
        sa.Column("edge_type", sa.String(length=100), nullable=False),
        sa.Column("target_type", sa.String(length=100), nullable=False),
        sa.Column("target_id", sa.String(length=255), nullable=False),
        sa.Column("properties", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), sa.Computed("recorded_at", persisted=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_index(
        "ix_edge_source", "graph_edges", ["user_id", "source_type", "source_id"], unique=False, schema=schema
    )
    op.create_index(
        "ix_edge_target", "graph_edges", ["user_id", "target_type", "target_id"], unique=False, schema=schema
    )
    op.create_index(
        "uq_edge_current",
        "graph_edges",
        ["edge_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index("uq_edge_version", "graph_edges", ["edge_id", "version"], unique=True, schema=schema)


def _graph_nodes(schema: str) -> None:
    op.create_table(
        "graph_nodes",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("node_key", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("closed_origin", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("node_type", sa.String(length=100), nullable=False),
        sa.Column("node_id", sa.String(length=255), nullable=False),
        sa.Column("properties", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), sa.Computed("recorded_at", persisted=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_index(
        "uq_node_current",
        "graph_nodes",
        ["node_key"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index(
        "uq_node_name",
        "graph_nodes",
        ["user_id", "node_type", "node_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index("uq_node_version", "graph_nodes", ["node_key", "version"], unique=True, schema=schema)


def _jobs(schema: str) -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.String(length=50), nullable=False),
        sa.Column("ref", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("run_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.UUID(), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_index("ix_jobs_owner", "jobs", ["owner"], unique=False, schema=schema)
    op.create_index(
        "ix_jobs_ready",
        "jobs",
        ["kind", "run_after"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("failed_at IS NULL"),
    )
    op.create_index("uq_jobs_ref", "jobs", ["kind", "ref"], unique=True, schema=schema)


def _key_values(schema: str) -> None:
    op.create_table(
        "key_values",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("entry_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("closed_origin", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("scope_id", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), sa.Computed("recorded_at", persisted=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_index("ix_kv_scope", "key_values", ["scope_id", "namespace"], unique=False, schema=schema)
    op.create_index(
        "uq_kv_current",
        "key_values",
        ["entry_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index(
        "uq_kv_name",
        "key_values",
        ["namespace", "scope_id", "key"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index("uq_kv_version", "key_values", ["entry_id", "version"], unique=True, schema=schema)


def _memory_sources(schema: str) -> None:
    op.create_table(
        "memory_sources",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("link_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("closed_origin", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("derived_kind", sa.String(length=50), nullable=False),
        sa.Column("derived_id", sa.UUID(), nullable=False),
        sa.Column("source_kind", sa.String(length=50), nullable=False),
        sa.Column("source_id", sa.UUID(), nullable=False),
        sa.Column("span", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_index("ix_src_derived", "memory_sources", ["user_id", "derived_id"], unique=False, schema=schema)
    op.create_index("ix_src_source", "memory_sources", ["user_id", "source_id"], unique=False, schema=schema)
    op.create_index(
        "uq_src_current",
        "memory_sources",
        ["link_id"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("known_to IS NULL"),
    )
    op.create_index("uq_src_version", "memory_sources", ["link_id", "version"], unique=True, schema=schema)


def _meta(schema: str) -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=50), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        schema=schema,
    )
