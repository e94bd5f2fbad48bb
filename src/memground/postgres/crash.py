"""Indexes that a crash of the server leaves behind their tables.

pg_search before 0.24 writes its BM25 indexes past the write-ahead log. After a crash, of the server or of any of its
processes, PostgreSQL restores the tables, but rows written since the last checkpoint are missing from these indexes,
and nothing says so. An UNLOGGED table fares alike, only visibly: it is empty. One row in such a table therefore bears
witness that no crash has happened since the indexes were built.
"""

from sqlalchemy import Column, DateTime, MetaData, Table, exists, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from memground.postgres.versioned import lock_name


def witness_table(metadata: MetaData, name: str = "crash_witness") -> Table:
    """A table that a crash empties. Whoever makes it puts a row in."""
    return Table(name, metadata, Column("since", DateTime(timezone=True), nullable=False), prefixes=["UNLOGGED"])


async def mend(engine: AsyncEngine, witness: Table) -> list[str]:
    """Rebuilds the BM25 indexes declared beside `witness` if the server has crashed since; returns their names.

    All in one transaction; several callers wait for one another, and users of a table for its index.
    """
    present = select(exists().select_from(witness))
    async with engine.begin() as connection:
        if await connection.scalar(present):
            return []
        await lock_name(connection, f"mend {witness.fullname}")
        if await connection.scalar(present):
            return []
        names = [
            str(index.name)
            for table in witness.metadata.sorted_tables
            for index in table.indexes
            if index.dialect_options["postgresql"]["using"] == "bm25" and index.name is not None
        ]
        quote = connection.dialect.identifier_preparer.quote_identifier
        schema = "" if witness.schema is None else f"{quote(witness.schema)}."
        for name in names:
            await connection.execute(text(f"REINDEX INDEX {schema}{quote(name)}"))
        await connection.execute(insert(witness).values(since=func.clock_timestamp()))
    return names
