"""Columns that several tables share."""

from datetime import datetime

from sqlalchemy import Column, Computed, DateTime


def updated_at() -> Column[datetime]:
    """When this version was written: for the current version, when the thing last changed."""
    return Column("updated_at", DateTime(timezone=True), Computed("recorded_at", persisted=True))
