"""An index along the time that memories are about."""

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # Else Alembic takes a dot in the name for two names.
    schema = sa.quoted_name(context.config.attributes["schema"], quote=True)
    op.create_index("ix_emb_time", "embeddings", ["user_id", "event_at"], schema=schema)
