"""A MongoDB database of a test's own."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from omnimem.storage.mongodb.database import MongoDatabase


@asynccontextmanager
async def mongo_database(url: str, **options: Any) -> AsyncGenerator[MongoDatabase]:
    """Opened while the block runs, then dropped."""
    database = MongoDatabase(url, database=f"test_{uuid.uuid4().hex[:12]}", **options)
    await database.open()
    try:
        yield database
        await database.client.drop_database(database.name)
    finally:
        await database.close()
