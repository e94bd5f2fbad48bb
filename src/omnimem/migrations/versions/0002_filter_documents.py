"""What indexes filter by, where the truth is in another place."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

TABLE = "memory_filter_documents"
DIMENSIONS = ("tenant_id", "user_id", "app_id", "group_id", "agent_id", "run_id")


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    time = sa.DateTime(timezone=True)
    op.create_table(
        TABLE,
        sa.Column("record_id", sa.Text(), primary_key=True),
        sa.Column("memory_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        *(sa.Column(f"scope_{dimension}", sa.Text()) for dimension in DIMENSIONS),
        sa.Column("scope_tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("text", sa.Text()),
        sa.Column("data", postgresql.JSONB()),
        sa.Column("metadata", postgresql.JSONB(), nullable=False),
        sa.Column("type", sa.String(50), nullable=False),
        sa.Column("sources", postgresql.JSONB(), nullable=False),
        sa.Column("created_time", time, nullable=False),
        sa.Column("event_time", time),
        sa.Column("valid_time_from", time),
        sa.Column("valid_time_to", time),
        sa.Column("in_vector_index", sa.Boolean(), nullable=False),
        sa.Column("in_keyword_index", sa.Boolean(), nullable=False),
        schema=schema,
    )
    op.create_index(f"ix_{TABLE}_memory", TABLE, ["memory_id"], schema=schema)
    for dimension in DIMENSIONS:
        column = f"scope_{dimension}"
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_{TABLE}_{dimension}", TABLE, [column], schema=schema, postgresql_where=where)
