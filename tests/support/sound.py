"""What must hold in the versioned tables whatever was written, asked of the rows themselves."""

from sqlalchemy import text

from memground.postgres.versioned import VersionedTable
from neuromem import NeuroMemory

_UNSOUND = """
    SELECT {key} FROM (
        SELECT {key}, known_from, known_to, lead(known_from) OVER (PARTITION BY {key} ORDER BY version) AS next_from
        FROM {table}
    ) AS rows
    WHERE known_to < known_from OR next_from < coalesce(known_to, 'infinity')
"""
_TWICE = """
    SELECT a.external_id FROM {schema}.conversations a
    JOIN {schema}.conversations b USING (user_id, session_id, external_id)
    WHERE a.id <> b.id AND a.known_from < coalesce(b.known_to, 'infinity') AND a.known_to > b.known_from
"""
_WITHOUT_VECTOR = """
    SELECT message_id FROM {schema}.conversations m
    FULL JOIN {schema}.conversation_embeddings v USING (message_id, version)
    WHERE (m.known_from, m.known_to) IS DISTINCT FROM (v.known_from, v.known_to)
"""


async def check_sound(mind: NeuroMemory) -> None:
    """No moment knows two states of a thing, nor an external id twice; every version of a message has its vector."""
    tables, schema = mind._db.tables, mind._db.schema
    statements = {"twice": _TWICE.format(schema=schema), "without vector": _WITHOUT_VECTOR.format(schema=schema)}
    for vt in (value for value in vars(tables).values() if isinstance(value, VersionedTable)):
        statements[f"overlapping {vt.table.name}"] = _UNSOUND.format(key=vt.key, table=vt.table.fullname)
    async with mind._db.read() as session:
        for what, statement in statements.items():
            found = (await session.execute(text(statement))).all()
            assert not found, f"{what}: {len(found)} rows, such as {found[0]}"
