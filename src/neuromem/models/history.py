"""history_horizons: from when on a user's history is complete, where any of it was erased."""

from sqlalchemy import Column, DateTime, MetaData, String, Table


def history_horizons(metadata: MetaData) -> Table:
    """Operational: what is known of no moment before `before` as it was then."""
    time = DateTime(timezone=True)
    return Table(
        "history_horizons",
        metadata,
        Column("user_id", String(255), primary_key=True),
        Column("before", time, nullable=False),
        Column("purged_at", time, nullable=False),
    )
