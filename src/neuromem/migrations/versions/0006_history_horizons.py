"""From when on a user's history is complete, where any of it was erased."""

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    schema = sa.quoted_name(context.config.attributes["schema"], quote=True)
    time = sa.DateTime(timezone=True)
    op.create_table(
        "history_horizons",
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("before", time, nullable=False),
        sa.Column("purged_at", time, nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
        schema=schema,
    )
