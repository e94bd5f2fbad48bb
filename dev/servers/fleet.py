"""All servers of omnimem's fleet at once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from dev.servers.elasticsearch import ElasticsearchServer
from dev.servers.kafka import KafkaServer
from dev.servers.mongodb import MongoServer
from dev.servers.postgres import PostgresServer
from dev.servers.s3 import S3Server
from dev.servers.server import Server

SERVERS: dict[str, type[Server]] = {
    "mongodb": MongoServer,
    "elasticsearch": ElasticsearchServer,
    "kafka": KafkaServer,
    "postgres": PostgresServer,
    "s3": S3Server,
}


class Fleet:
    """MongoDB, Elasticsearch, Kafka, PostgreSQL and S3 between ``start`` and ``close``, or inside ``with``.

    Their data lie below `folder`, or in temporary folders that ``close`` removes.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.mongodb = MongoServer(_below(folder, MongoServer))
        self.elasticsearch = ElasticsearchServer(_below(folder, ElasticsearchServer))
        self.kafka = KafkaServer(_below(folder, KafkaServer))
        self.postgres = PostgresServer(_below(folder, PostgresServer))
        self.s3 = S3Server(_below(folder, S3Server))

    @property
    def servers(self) -> list[Server]:
        return [self.mongodb, self.elasticsearch, self.kafka, self.postgres, self.s3]

    def start(self) -> Self:
        start_all(self.servers)
        return self

    def close(self) -> None:
        close_all(self.servers)

    def settings(self) -> dict[str, str]:
        """The settings of all, as environment variables."""
        return settings_of(self.servers)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def chosen(names: Sequence[str], folder: Path | None) -> list[Server]:
    """Servers of these names, their data below `folder` in folders that name the version."""
    return [SERVERS[name](_below(folder, SERVERS[name])) for name in names]


def start_all(servers: Sequence[Server]) -> None:
    """Starts them side by side. When one does not start, none is left running."""
    with ThreadPoolExecutor(len(servers)) as pool:
        starting = [pool.submit(server.start) for server in servers]
    if errors := [error for started in starting if (error := started.exception()) is not None]:
        close_all(servers)
        raise errors[0]


def close_all(servers: Sequence[Server]) -> None:
    """Closes them side by side."""
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(lambda server: server.close(), servers))


def settings_of(servers: Sequence[Server]) -> dict[str, str]:
    return {name: value for server in servers for name, value in server.settings().items()}


def _below(folder: Path | None, kind: type[Server]) -> Path | None:
    return folder and folder / kind.name
