"""An index along the time that messages were said."""

import sqlalchemy as sa
from alembic import context, op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # Else Alembic takes a dot in the name for two names.
    schema = sa.quoted_name(context.config.attributes["schema"], quote=True)
    op.create_index("ix_conv_time", "conversations", ["user_id", "event_at"], schema=schema)
