"""What every storage adapter must do, as test classes for pytest (with pytest-asyncio in auto mode).

A backend's test file opens a storage and inherits::

    class TestMine(RecordConformance, VectorConformance, KeywordConformance, QueueConformance):
        @pytest.fixture
        async def storage(self):
            async with open_storage(Settings(…), dims=4, model_id="conformance") as storage:
                yield storage

The storage is empty at the start of each test and holds vectors of 4 numbers. A role that is not yours may be played by
another adapter; `OutboxConformance` is for an outbox beside the truth. What a store declares not to do (`Capabilities`)
is not asked of it, except that it says so. `ClientConformance` asks a client over all of it.
"""

from omnimem.testing.conformance.clients import ClientConformance, LetterEmbedding
from omnimem.testing.conformance.common import DIMS, HOUR, START, insert, record, refused
from omnimem.testing.conformance.indexes import (
    EAST,
    NORTH,
    UP,
    KeywordConformance,
    VectorConformance,
    vectors,
    words,
)
from omnimem.testing.conformance.queues import OutboxConformance, QueueConformance
from omnimem.testing.conformance.records import RecordConformance

__all__ = [
    "DIMS",
    "EAST",
    "HOUR",
    "NORTH",
    "START",
    "UP",
    "ClientConformance",
    "KeywordConformance",
    "LetterEmbedding",
    "OutboxConformance",
    "QueueConformance",
    "RecordConformance",
    "VectorConformance",
    "insert",
    "record",
    "refused",
    "vectors",
    "words",
]
