"""All four roles in one PostgreSQL. Opened by `omnimem.storage.factory` only."""

from omnimem.storage.postgres.database import Database
from omnimem.storage.postgres.keywords import PostgresKeywords
from omnimem.storage.postgres.queue import PostgresQueue
from omnimem.storage.postgres.records import PostgresRecords
from omnimem.storage.postgres.vectors import PostgresVectors

__all__ = ["Database", "PostgresKeywords", "PostgresQueue", "PostgresRecords", "PostgresVectors"]
