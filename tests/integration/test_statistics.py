"""What the server has counted, on which its plans rest."""

import asyncio

import pytest
from sqlalchemy import select

from conftest import OpenMind
from memground.postgres.statistics import table_rows
from neuromem import NewMessage
from support.embeddings import HashEmbedding


@pytest.mark.parametrize("name", ["plain", 'My "Schema": it\'s 50%'])
async def test_the_server_has_counted_what_was_imported(open_mind: OpenMind, schema: str, name: str) -> None:
    """Else it plans for empty tables."""
    mind = await open_mind(schema=f"{name} {schema}", embedding=HashEmbedding())
    turns = [NewMessage("user", f"turn {n}") for n in range(600)]
    await mind.conversations.add_messages_batch("anna", turns, session_id="s")

    async def counted() -> float:
        await mind.wait_idle()
        table = mind._db.tables.conversations.table
        async with mind._db.read() as session:
            return await session.scalar(select(table_rows(table)))

    for _ in range(50):  # what a connection has written is reported within a second or so
        if await counted():
            break
        await asyncio.sleep(0.2)
    assert await counted() == 600
