"""The opened database: client, collections, sessions."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from memground.errors import ConfigurationError
from omnimem.storage.base import Work
from omnimem.storage.mongodb.coding import OPTIONS, Document
from omnimem.storage.mongodb.errors import redact, reporting, translated
from omnimem.storage.mongodb.schema import migrate
from omnimem.storage.mongodb.sessions import CausalSessions
from omnimem.storage.mongodb.transactions import MongoWork, Transactions
from omnimem.storage.settings.mongodb import MongoSettings

_OLDEST = (6, 0)
_MAJORITY = WriteConcern("majority")


class MongoDatabase:
    """One database of a MongoDB replica set or sharded cluster, with omnimem's collections."""

    def __init__(self, settings: MongoSettings) -> None:
        self.url, self.name = settings.url, settings.database
        self._pool_size, self._timeout = settings.pool_size, float(settings.timeout)
        self._client: AsyncMongoClient[Document] | None = None
        self._sessions = CausalSessions(self)
        self.transactions = Transactions(self._sessions, self.url, self.place, self._timeout)
        self.server_version = ""

    async def open(self) -> None:
        """Connects, checks the server, creates or upgrades the collections. Does nothing the second time.

        Raises ConfigurationError for an address, a login or a server that cannot be used, and UnavailableError.
        """
        if self._client is not None:
            return
        try:
            with reporting(self.url):
                self._client = self._connect()
                await self._check_server(self._client)
                await migrate(self._database(write_concern=_MAJORITY))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Gives the connections back."""
        await self.transactions.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @property
    def location(self) -> str:
        """The address in use, without a password."""
        return f"{redact(self.url)} ({self.name})"

    @property
    def place(self) -> str:
        """Names what shares a transaction."""
        return f"mongodb/{id(self)}/{self.name}"

    @property
    def client(self) -> AsyncMongoClient[Document]:
        if self._client is None:
            raise ConfigurationError("the database is not open; use `async with OmniMemClient.connect(…) as client:`")
        return self._client

    def collection(self, name: str) -> AsyncCollection[Document]:
        """A collection, read on the primary and written to the majority."""
        return self._database(write_concern=_MAJORITY)[name]

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[MongoWork]:
        """A session whose reads all see one moment, not before what this client wrote."""
        await self._sessions.catch_up()
        async with self.client.start_session(snapshot=True) as session:
            yield self.transactions.work(session)

    async def write[T](self, body: Callable[[Work], Awaitable[T]]) -> T:
        """Runs `body` in a transaction; see `Transactions.run`."""
        _ = self.client
        return await self.transactions.run(body)

    def joined(self, work: Work) -> AsyncClientSession:
        """The session of a transaction of this database."""
        return self.work(work).session

    def work(self, work: Work) -> MongoWork:
        if not isinstance(work, MongoWork) or work.place != self.place:
            raise ConfigurationError("a transaction of another store was handed to this one; pass one of its own")
        return work

    def _database(self, *, write_concern: WriteConcern) -> AsyncDatabase[Document]:
        return self.client.get_database(
            self.name,
            codec_options=OPTIONS,
            read_preference=ReadPreference.PRIMARY,
            write_concern=write_concern,
        )

    # ---------------------------------------------------------------- opening

    def _connect(self) -> AsyncMongoClient[Document]:
        milliseconds = max(1, round(self._timeout * 1000))
        given: dict[str, Any] = {
            "appname": "omnimem",
            "maxPoolSize": self._pool_size,
            "serverSelectionTimeoutMS": milliseconds,
            "connectTimeoutMS": milliseconds,
            "timeoutMS": milliseconds,
            "event_listeners": [self._sessions.primaries],
        }
        named = self.url.partition("?")[2].lower()  # the address has the last word
        options = {key: value for key, value in given.items() if f"{key.lower()}=" not in named}
        try:
            return AsyncMongoClient(self.url, document_class=dict[str, Any], **options)
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            said = str(error)[:300] if "@" not in str(error) else type(error).__name__
            raise ConfigurationError(f"the MongoDB address {redact(self.url)!r} cannot be used: {said}") from error

    async def _check_server(self, client: AsyncMongoClient[Document]) -> None:
        try:
            hello = await client.admin.command("hello")
        except PyMongoError as error:
            if await self._is_standalone():
                raise self._standalone() from error
            raise translated(error, self.url) from error
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise self._standalone()
        info = await client.server_info()
        self.server_version = str(info["version"])
        if tuple(info["versionArray"][:2]) < _OLDEST:
            raise ConfigurationError(f"MongoDB at {redact(self.url)} is {self.server_version}; 6.0 or newer is needed")

    async def _is_standalone(self) -> bool:
        """Whether a server that was asked for as a replica set's answers as none's."""
        options: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 2_000}
        try:
            base, _, query = self.url.partition("?")
            kept = [part for part in query.split("&") if part and not part.lower().startswith("replicaset=")]
            async with AsyncMongoClient[Document](f"{base}?{'&'.join(kept)}" if kept else base, **options) as client:
                hello = await client.admin.command("hello")
        except (PyMongoError, ValueError):
            return False
        return "setName" not in hello and hello.get("msg") != "isdbgrid"

    def _standalone(self) -> ConfigurationError:
        return ConfigurationError(
            f"MongoDB at {redact(self.url)} is a standalone server, which has no transactions; start it with --replSet "
            "and run rs.initiate(), a replica set of one member is enough"
        )
