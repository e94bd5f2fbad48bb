"""What users call. A facade opens a session, hands it to a service and asks nothing of the database itself.

`Reader` holds the calls that read, `Writer` those that write; `NeuroMemory` is both, `Transaction` is both inside one
transaction, `AsOf` only reads, at one moment.
"""

from neuromem.facades.context import Context, SessionSource, Where
from neuromem.facades.conversations import ConversationsFacade, ConversationsReader
from neuromem.facades.files import FilesFacade, FilesReader
from neuromem.facades.graph import GraphFacade, GraphReader
from neuromem.facades.kv import KVFacade, KVReader
from neuromem.facades.moving import Moving
from neuromem.facades.reading import AsOf, Reader
from neuromem.facades.writing import Transaction, Writer

__all__ = [
    "AsOf",
    "Context",
    "ConversationsFacade",
    "ConversationsReader",
    "FilesFacade",
    "FilesReader",
    "GraphFacade",
    "GraphReader",
    "KVFacade",
    "KVReader",
    "Moving",
    "Reader",
    "SessionSource",
    "Transaction",
    "Where",
    "Writer",
]
