"""What documents hold: their title, how many pages and chunks, the hash of their bytes, what could not be read."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # Else Alembic takes a dot in the name for two names.
    schema = sa.quoted_name(context.config.attributes["schema"], quote=True)
    columns = (
        sa.Column("title", sa.String(500)),
        sa.Column("page_count", sa.Integer),
        sa.Column("chunk_count", sa.Integer),
        sa.Column("content_hash", sa.String(64)),
        sa.Column("warnings", JSONB),
    )
    for column in columns:
        op.add_column("documents", column, schema=schema)
