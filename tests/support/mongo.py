"""A MongoDB database of a test's own."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from omnimem.storage.mongodb import MongoDatabase
from omnimem.storage.settings.mongodb import MongoSettings


@asynccontextmanager
async def mongo_database(url: str, *, name: str | None = None, **options: Any) -> AsyncGenerator[MongoDatabase]:
    """Opened while the block runs, then dropped; one that is named is another's, who drops it."""
    database = MongoDatabase(MongoSettings(url, database=name or f"test_{uuid.uuid4().hex[:12]}", **options))
    await database.open()
    try:
        yield database
        if name is None:
            await database.client.drop_database(database.name)
    finally:
        await database.close()
