"""Columns that several tables share."""

from datetime import datetime

from sqlalchemy import Column, Computed, DateTime


def generation_name(name: str, generation: int) -> str:
    """What a column or index of vectors is called: changing the model makes new ones, and never uses a name again.

    So a program that still has the earlier model open cannot mix its vectors with the new ones; its statements fail.
    """
    return name if generation == 1 else f"{name}_{generation}"


def updated_at() -> Column[datetime]:
    """When this version was written: for the current version, when the thing last changed."""
    return Column("updated_at", DateTime(timezone=True), Computed("recorded_at", persisted=True))
