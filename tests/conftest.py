"""One real embedded PostgreSQL for the whole run; tests keep apart by user, schema or database."""

import gc
import itertools
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from dev.servers.elasticsearch import ElasticsearchServer
from dev.servers.kafka import KafkaServer
from dev.servers.mongodb import MongoServer
from dev.servers.postgres import PostgresServer
from dev.servers.s3 import S3Server

from memground.clock import Clock
from memground.embedding import EmbeddingProvider, LocalEmbedding
from memground.postgres.embedded import EmbeddedPostgres
from neuromem import NeuroMemory
from omnimem import OmniMemClient, Scope, Settings
from support.deployments import Servers
from support.embedded import hasty_server
from support.embeddings import HashEmbedding
from support.servers import SharedServers
from support.storages import FolderStorage
from support.templates import SCHEMA, Templates

_numbers = itertools.count(1)

# A shell that starts the tests in the background has them ignore Ctrl-C, and with them the programs they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_LONG = (
    "test_fleet_faults.py", "test_kafka_faults.py", "test_omnimem_kill.py", "test_kill.py", "test_files_kill.py",
    "test_dev_servers.py", "test_search_index.py", "test_reembedding.py", "test_moving_objects.py", "test_docs.py",
)  # fmt: skip
"""Where tests take half a minute each. They begin first: at the end one worker would be left alone with them."""


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores: tests wait for servers, too."""
    return (os.cpu_count() or 1) + 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONG)


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay until the end; the garbage collector need not go through them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
async def server() -> AsyncIterator[EmbeddedPostgres]:
    async with hasty_server() as server:
        yield server


@pytest.fixture(scope="session")
async def pg_url(server: EmbeddedPostgres) -> str:
    """A database of its own, as a SQLAlchemy URL."""
    await server.ensure_database("toys")
    return server.url("toys").replace("postgresql://", "postgresql+asyncpg://")


@pytest.fixture(scope="session")
async def database_url(server: EmbeddedPostgres) -> str:
    """The database most neuromem tests share."""
    await server.ensure_database("minds")
    return server.url("minds")


@pytest.fixture(scope="session")
def templates(server: EmbeddedPostgres) -> Templates:
    """Databases that have their tables from the start."""
    return Templates(server)


@pytest.fixture(scope="session")
def embedding() -> LocalEmbedding:
    """The real local model, loaded once."""
    provider = LocalEmbedding()
    provider.ensure_installed()
    return provider


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> FolderStorage:
    """Where files of minds that tests share are kept."""
    return FolderStorage(tmp_path_factory.mktemp("objects"))


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 gateway: `s3.endpoint`, `s3.access_key`, `s3.secret_key`. Tests keep apart by bucket."""
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServers]:
    """One of each server for all workers of a run. Those that the collected tests ask for start side by side."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    with SharedServers(folder / "servers") as servers:
        servers.start([kind for name, kind in SHARED.items() if name in asked])
        yield servers


SHARED = {
    "mongo": MongoServer,
    "elasticsearch": ElasticsearchServer,
    "kafka": KafkaServer,
    "fleet_postgres": PostgresServer,
}


@pytest.fixture(scope="session")
def mongo(shared_servers: SharedServers) -> MongoServer:
    """A real replica set at `mongo.url`. Tests keep apart by database, and break servers of their own only."""
    return shared_servers.get(MongoServer)


@pytest.fixture(scope="session")
def elasticsearch(shared_servers: SharedServers) -> ElasticsearchServer:
    """A real node at `elasticsearch.url`. Tests keep apart by names of indexes."""
    return shared_servers.get(ElasticsearchServer)


@pytest.fixture(scope="session")
def kafka(shared_servers: SharedServers) -> KafkaServer:
    """A real broker at `kafka.bootstrap`. Tests keep apart by names of topics and groups."""
    return shared_servers.get(KafkaServer)


@pytest.fixture(scope="session")
def fleet_postgres(shared_servers: SharedServers) -> PostgresServer:
    """A real PostgreSQL on a port, at `fleet_postgres.url`. Tests keep apart by schema or database."""
    return shared_servers.get(PostgresServer)


@pytest.fixture(scope="session")
def servers(
    mongo: MongoServer, elasticsearch: ElasticsearchServer, kafka: KafkaServer, fleet_postgres: PostgresServer
) -> Servers:
    """Where the servers of a fleet are. Tests keep apart by `servers.settings(…)`."""
    return Servers(fleet_postgres.url, mongo.url, elasticsearch.url, kafka.bootstrap)


@pytest.fixture
def user() -> str:
    """A user nobody else has."""
    return f"user-{next(_numbers)}-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def schema() -> str:
    """A schema nobody else has."""
    return f"s{next(_numbers)}_{uuid.uuid4().hex[:6]}"


@pytest.fixture(scope="session")
async def nm(database_url: str, embedding: LocalEmbedding) -> AsyncIterator[NeuroMemory]:
    """A mind that tests share: they keep apart by `user`."""
    async with NeuroMemory(database_url, embedding) as mind:
        yield mind


type OpenMind = Callable[..., Awaitable[NeuroMemory]]


@pytest.fixture
async def open_mind(request: pytest.FixtureRequest, database_url: str, templates: Templates) -> AsyncIterator[OpenMind]:
    """Opens minds in a database of the test's own: `await open_mind(embedding=…, clock=…)`; closes them at the end.

    Tests that ask for `schema` get that schema of the shared database.
    """
    opened: list[NeuroMemory] = []
    async with templates.copied() as own:

        async def open_mind(
            url: str | None = None, embedding: EmbeddingProvider | None = None, **options: object
        ) -> NeuroMemory:
            async def fill(url: str) -> None:
                async with NeuroMemory(url, embedding, schema=SCHEMA, background=False):
                    pass

            if url is None and "schema" not in {*request.fixturenames, *options}:
                model = embedding or LocalEmbedding()
                url = await own.url((NeuroMemory, model.model_id, model.dims), fill)
                options["schema"] = SCHEMA
            elif "schema" not in options:
                options["schema"] = request.getfixturevalue("schema")
            mind = NeuroMemory(url or database_url, embedding, **options)  # type: ignore[arg-type]
            await mind.init()
            opened.append(mind)
            return mind

        yield open_mind
        for mind in opened:
            await mind.close()


@pytest.fixture(scope="session")
async def records_url(server: EmbeddedPostgres) -> str:
    """The database omnimem tests share."""
    await server.ensure_database("records")
    return server.url("records")


@pytest.fixture(scope="session")
async def shared_record(records_url: str) -> AsyncIterator[OmniMemClient]:
    """A record that tests share: they keep apart by tenant."""
    async with OmniMemClient.connect(records_url, embedding=HashEmbedding()) as client:
        yield client


@pytest.fixture
def record(shared_record: OmniMemClient, user: str) -> OmniMemClient:
    """The shared record within a tenant nobody else has."""
    return shared_record.within(Scope(tenant_id=user))


type OpenRecord = Callable[..., Awaitable[OmniMemClient]]


@pytest.fixture
async def open_record(
    request: pytest.FixtureRequest, records_url: str, templates: Templates
) -> AsyncIterator[OpenRecord]:
    """Opens records in a database of the test's own: `await open_record(sync="async")`; closes them at the end.

    Tests that ask for `schema` get that schema of the shared database.
    """
    opened: list[OmniMemClient] = []
    async with templates.copied() as own:

        async def open_record(
            embedding: EmbeddingProvider | None = None,
            clock: Clock | None = None,
            background: bool = True,
            **given: Any,
        ) -> OmniMemClient:
            model = embedding or HashEmbedding()

            async def fill(url: str) -> None:
                async with OmniMemClient.connect(Settings(url, schema=SCHEMA), embedding=model, background=False):
                    pass

            if {"database_url", "schema", "records"}.isdisjoint({*request.fixturenames, *given}):
                url = await own.url((OmniMemClient, model.model_id, model.dims), fill)
                settings = Settings(url, schema=SCHEMA, **given)
            else:
                place = {"database_url": records_url, "schema": request.getfixturevalue("schema")}
                settings = Settings(**{**place, **given})
            client = OmniMemClient.connect(settings, embedding=model, clock=clock, background=background)
            await client.open()
            opened.append(client)
            return client

        yield open_record
        for client in opened:
            await client.close()
