"""The first schema: records, what finds them, changes that wait and the model's name."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

DIMENSIONS = ("tenant_id", "user_id", "app_id", "group_id", "agent_id", "run_id")
WORDS = ("words", "tenant_words", "user_words")
INDEXED = ("memory_vector_index", "memory_vector_history", "memory_keyword_index", "memory_keyword_history")


def upgrade() -> None:
    attributes = context.config.attributes
    schema, dims = attributes["schema"], attributes["dims"]
    _memories(schema)
    _vectors("memory_vector_index", schema, dims)
    _vectors("memory_vector_history", schema, dims, superseded=True)
    _keywords("memory_keyword_index", schema)
    _keywords("memory_keyword_history", schema, superseded=True)
    _keys(schema)
    for table in INDEXED:
        for dimension in DIMENSIONS:
            column = f"scope_{dimension}"
            where = sa.text(f"{column} IS NOT NULL")
            op.create_index(f"ix_{table}_{dimension}", table, [column], schema=schema, postgresql_where=where)
    _view(schema)
    _jobs(schema)
    op.create_table(
        "meta",
        sa.Column("key", sa.String(50), primary_key=True),
        sa.Column("value", postgresql.JSONB(), nullable=False),
        schema=schema,
    )
    op.create_table(
        "memory_index_states",
        sa.Column("index_name", sa.String(50), primary_key=True),
        sa.Column("memory_id", sa.Text(), primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        schema=schema,
    )
    op.create_table(
        "memory_tombstones",
        sa.Column("memory_id", sa.Text(), primary_key=True),
        sa.Column("deleted_time", sa.DateTime(timezone=True), nullable=False),
        schema=schema,
    )


class _HalfVector(sa.types.UserDefinedType[str]):
    """pgvector's `halfvec(dims)`, kept in the row where it fits."""

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def get_col_spec(self, **_: object) -> str:
        return f"halfvec({self.dims})" + (" STORAGE MAIN" if self.dims <= 2_000 else "")


def _scope() -> list[sa.Column[object]]:
    columns: list[sa.Column[object]] = [sa.Column(f"scope_{dimension}", sa.Text()) for dimension in DIMENSIONS]
    return [*columns, sa.Column("scope_tags", postgresql.ARRAY(sa.Text()), nullable=False)]


def _superseded(superseded: bool) -> list[sa.Column[object]]:
    return [sa.Column("superseded_time", sa.DateTime(timezone=True), nullable=False)] if superseded else []


def _memories(schema: str) -> None:
    op.create_table(
        "memories",
        sa.Column("record_id", sa.Text(), primary_key=True),
        sa.Column("memory_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("is_latest", sa.Boolean(), nullable=False),
        *_scope(),
        sa.Column("text", sa.Text()),
        sa.Column("data", postgresql.JSONB()),
        sa.Column("content_schema", postgresql.JSONB()),
        sa.Column("metadata", postgresql.JSONB(), nullable=False),
        sa.Column("type", sa.String(50), nullable=False),
        sa.Column("sources", postgresql.JSONB(), nullable=False),
        sa.Column("index_hint", postgresql.JSONB(), nullable=False),
        sa.Column("created_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded_time", sa.DateTime(timezone=True)),
        sa.Column("event_time", sa.DateTime(timezone=True)),
        sa.Column("valid_time_from", sa.DateTime(timezone=True)),
        sa.Column("valid_time_to", sa.DateTime(timezone=True)),
        schema=schema,
    )
    latest = sa.text("is_latest")
    table = "memories"
    op.create_index("uq_memories_latest", table, ["memory_id"], unique=True, schema=schema, postgresql_where=latest)
    op.create_index("uq_memories_version", table, ["memory_id", "version"], unique=True, schema=schema)
    op.create_index(
        "ix_memories_latest_version", table, ["version", "memory_id"], schema=schema, postgresql_where=latest
    )
    for dimension in DIMENSIONS:
        column = f"scope_{dimension}"
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_memories_{dimension}", table, [column, "version"], schema=schema, postgresql_where=where)
    op.create_index(
        "ix_memories_tags", table, ["scope_tags"], schema=schema, postgresql_using="gin", postgresql_where=latest
    )


def _vectors(name: str, schema: str, dims: int, *, superseded: bool = False) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("memory_id", sa.Text(), nullable=False),
        sa.Column("field_name", sa.Text(), nullable=False),
        sa.Column("model_id", sa.String(255), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        *_scope(),
        sa.Column("content_hash", sa.String(32), nullable=False),
        sa.Column("created_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("embedding", _HalfVector(dims), nullable=False),
        *_superseded(superseded),
        schema=schema,
    )
    if dims <= 4_000:
        op.create_index(
            f"idx_{name}_embedding",
            name,
            ["embedding"],
            schema=schema,
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "halfvec_cosine_ops"},
            postgresql_with={"m": 10, "ef_construction": 80},
        )


def _keywords(name: str, schema: str, *, superseded: bool = False) -> None:
    op.create_table(
        name,
        sa.Column("memory_id", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        *_scope(),
        sa.Column("content_hash", sa.String(32), nullable=False),
        sa.Column("created_time", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(words, postgresql.ARRAY(sa.BigInteger()), nullable=False) for words in WORDS),
        *_superseded(superseded),
        schema=schema,
    )
    for words in WORDS:
        op.create_index(
            f"idx_{name}_{words}",
            name,
            [words],
            schema=schema,
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
        )


def _keys(schema: str) -> None:
    """What is unique in the indexes, and how a memory's history is found."""
    for name, table, columns in (
        ("uq_memory_vector", "memory_vector_index", ["memory_id", "field_name", "model_id"]),
        ("uq_memory_vector_history", "memory_vector_history", ["record_id", "field_name", "model_id"]),
        ("uq_memory_keyword", "memory_keyword_index", ["memory_id"]),
        ("uq_memory_keyword_history", "memory_keyword_history", ["record_id"]),
    ):
        op.create_index(name, table, columns, unique=True, schema=schema)
    for table in ("memory_vector_history", "memory_keyword_history"):
        op.create_index(f"ix_{table}_memory", table, ["memory_id", "version"], schema=schema)


def _view(schema: str) -> None:
    quoted = op.get_bind().dialect.identifier_preparer.quote(schema)
    columns = ", ".join(
        [
            "memory_id", "record_id", "version", *(f"scope_{dimension}" for dimension in DIMENSIONS), "scope_tags",
            "content_hash", "created_time", *WORDS,
        ]
    )  # fmt: skip
    # As it stands: in an SQLAlchemy text a colon in the schema's name would start a parameter.
    op.get_bind().exec_driver_sql(
        f"CREATE VIEW {quoted}.memory_keyword_all AS "  # noqa: S608 - names of our own, the schema's quoted
        f"SELECT {columns}, NULL::timestamptz AS superseded_time FROM {quoted}.memory_keyword_index "
        f"UNION ALL SELECT {columns}, superseded_time FROM {quoted}.memory_keyword_history"
    )


def _jobs(schema: str) -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("kind", sa.String(50), nullable=False),
        sa.Column("ref", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("run_after", time, nullable=False),
        sa.Column("lease_until", time),
        sa.Column("lease_token", sa.UUID()),
        sa.Column("failed_at", time),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", time, nullable=False),
        schema=schema,
    )
    op.create_index("uq_jobs_ref", "jobs", ["kind", "ref"], unique=True, schema=schema)
    op.create_index(
        "ix_jobs_ready", "jobs", ["kind", "run_after"], schema=schema, postgresql_where=sa.text("failed_at IS NULL")
    )
    op.create_index("ix_jobs_owner", "jobs", ["owner"], schema=schema)
