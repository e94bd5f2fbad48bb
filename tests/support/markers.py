"""Looks for words in all that a mind keeps: every column of every table of its schema, every object, the statistics."""

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import text

from neuromem import NeuroMemory

_COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = :schema
AND (data_type IN ('text', 'character varying', 'json', 'jsonb', 'ARRAY', 'bytea', 'uuid', 'xml')
     OR data_type = 'USER-DEFINED') ORDER BY 1, 2
"""
_SAMPLES = """
SELECT tablename, attname FROM pg_catalog.pg_stats WHERE schemaname = :schema AND (
  strpos(lower(most_common_vals::text), :word) > 0 OR strpos(lower(histogram_bounds::text), :word) > 0
  OR strpos(lower(most_common_elems::text), :word) > 0)
"""


async def places(mind: NeuroMemory, words: Iterable[str], folder: Path | None = None) -> set[str]:
    """Where any of the words stands, however it is written."""
    schema, found = mind._db.schema, set[str]()
    async with mind._db.session() as session:
        columns = (await session.execute(text(_COLUMNS), {"schema": schema})).all()
        assert len({table for table, _ in columns}) > 10
        for word in words:
            asked = {"word": word.lower()}
            for table, column in columns:
                holds = f'SELECT 1 FROM "{schema}"."{table}" WHERE strpos(lower("{column}"::text), :word) > 0 LIMIT 1'
                if await session.scalar(text(holds), asked):
                    found.add(f"{table}.{column}: {word}")
            for table, column in await session.execute(text(_SAMPLES), {"schema": schema, **asked}):
                found.add(f"statistics of {table}.{column}: {word}")
    for path in [] if folder is None else folder.rglob("*"):
        for word in words:
            if word.lower() in str(path).lower() or (path.is_file() and word.encode() in path.read_bytes()):
                found.add(f"{path}: {word}")
    return found
