"""MongoDB: the truth, and the outbox beside it. Opened by `omnimem.storage.factory` only."""

from memground.extras import missing_package

try:
    import pymongo as pymongo
except ImportError as error:
    raise missing_package("pymongo", "mongodb") from error

from omnimem.storage.mongodb.database import MongoDatabase
from omnimem.storage.mongodb.outbox import MongoOutbox
from omnimem.storage.mongodb.records import MongoRecords

__all__ = ["MongoDatabase", "MongoOutbox", "MongoRecords"]
