"""emotion_profiles: a user's recent state (weeks) and long-term picture. Never personality, never values."""

from sqlalchemy import Column, DateTime, Float, Index, MetaData, String, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from memground.postgres.versioned import VersionedTable, version_columns, version_indexes
from neuromem.models.columns import updated_at

_CONTENT = (
    "latest_state", "latest_state_valence", "latest_state_arousal", "latest_state_updated_at", "valence_avg",
    "arousal_avg", "dominant_emotions", "emotion_triggers",
)  # fmt: skip


def emotion_profiles(metadata: MetaData) -> VersionedTable:
    table = Table(
        "emotion_profiles",
        metadata,
        *version_columns("profile_id"),
        Column("user_id", String(255), nullable=False),
        Column("latest_state", Text),
        Column("latest_state_valence", Float),
        Column("latest_state_arousal", Float),
        Column("latest_state_updated_at", DateTime(timezone=True)),
        Column("valence_avg", Float),
        Column("arousal_avg", Float),
        Column("dominant_emotions", JSONB),
        Column("emotion_triggers", JSONB),
        updated_at(),
    )
    version_indexes("emotion", table, "profile_id")
    Index("uq_emotion_user", table.c.user_id, unique=True, postgresql_where=table.c.known_to.is_(None))
    return VersionedTable(table, "profile_id", content=_CONTENT, carried=("user_id",))
