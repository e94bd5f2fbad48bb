"""Sessions that read what this client wrote, whoever is the primary by then."""

from collections.abc import Sequence
from typing import Any, Protocol

from bson import Timestamp
from pymongo import AsyncMongoClient, monitoring
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern
from pymongo.topology_description import TopologyDescription

from omnimem.storage.mongodb.coding import Document
from omnimem.storage.mongodb.errors import reporting
from omnimem.storage.mongodb.schema import META


class Connected(Protocol):
    """What the sessions are of."""

    url: str

    @property
    def client(self) -> AsyncMongoClient[Document]: ...
    def collection(self, name: str) -> AsyncCollection[Document]: ...


class CausalSessions:
    """Remembers the last write that was acknowledged to this client."""

    def __init__(self, database: Connected) -> None:
        self._database = database
        self.primaries = Primaries()
        self._settled = 0
        self._written: tuple[Timestamp | None, Any] = (None, None)

    def open(self) -> AsyncClientSession:
        """A causally consistent session, not before what this client wrote."""
        session = self._database.client.start_session(causal_consistency=True)
        time, cluster = self._written
        if time is not None:
            session.advance_operation_time(time)
            session.advance_cluster_time(cluster)
        return session

    def committed(self, session: AsyncClientSession) -> None:
        """Its transaction was acknowledged."""
        time = session.operation_time
        if time is not None and (self._written[0] is None or time > self._written[0]):
            self._written = time, session.cluster_time

    async def kill(self, ids: Sequence[Any]) -> None:
        """Ends the transactions of sessions."""
        await self._database.client.admin.command("killSessions", list(ids))

    async def catch_up(self) -> None:
        """Waits until a new primary knows that it has what the one before acknowledged, to whomever.

        A snapshot of one primary has what a majority acknowledged there. A new one may need a moment to know it, and a
        worker that did not find what it was told of would take it for deleted.
        """
        changes = self.primaries.changes
        if changes == self._settled:
            return
        with reporting(self._database.url):
            meta = self._database.collection(META).with_options(read_concern=ReadConcern("linearizable"))
            await meta.find_one({"_id": "schema"})
        self._settled = changes


class Primaries(monitoring.TopologyListener):
    """Counts how often there was another primary."""

    def __init__(self) -> None:
        self.changes = 0

    def opened(self, event: monitoring.TopologyOpenedEvent) -> None:
        """Nothing to do."""

    def closed(self, event: monitoring.TopologyClosedEvent) -> None:
        """Nothing to do."""

    def description_changed(self, event: monitoring.TopologyDescriptionChangedEvent) -> None:
        before, now = _primaries_of(event.previous_description), _primaries_of(event.new_description)
        if now and now != before:
            self.changes += 1


def _primaries_of(topology: TopologyDescription) -> set[tuple[Any, Any]]:
    servers = topology.server_descriptions().values()
    return {(server.address, server.election_id) for server in servers if server.is_writable}
