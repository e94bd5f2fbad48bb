"""Opens the stores that settings name. The only place that knows the adapters."""

import tomllib
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, cast

from memground.errors import InvalidInputError
from memground.jobs import JobPolicy
from memground.text import show
from omnimem.models.base import Value, instance
from omnimem.storage.base import Storage
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings
from omnimem.storage.settings.kafka import KafkaSettings
from omnimem.storage.settings.mongodb import MongoSettings

_BACKENDS = {
    "records": ("postgres", "mongodb"),
    "vectors": ("postgres",),
    "keywords": ("postgres", "elasticsearch"),
    "queue": ("postgres", "kafka"),
}
"""Which servers can play which role."""
_SERVERS: Mapping[str, tuple[type[Any], str]] = {
    "mongodb": (MongoSettings, "url"),
    "elasticsearch": (ElasticsearchSettings, "url"),
    "kafka": (KafkaSettings, "servers"),
}
"""The settings of a server, and the field of them that a text alone stands for."""


class SyncMode(StrEnum):
    """When the indexes follow the truth."""

    INLINE = "inline"
    """Before a write returns: what was written is found at once."""
    ASYNC = "async"
    """Soon, by a worker: writes are quicker, and do not wait for the embedding model."""


@dataclass(frozen=True)
class Settings(Value):
    """Which servers keep what, and how. `Settings()` is one PostgreSQL that starts by itself; `Settings.fleet` spreads
    the roles over servers of your own.

    `database_url`: a PostgreSQL URL; None starts an embedded PostgreSQL in your home folder, `embedded:///folder` in a
    folder of yours. `schema`: the PostgreSQL schema of the tables. `sync`: see SyncMode. `records` ("postgres" or
    "mongodb"), `vectors` ("postgres"), `keywords` ("postgres" or "elasticsearch"), `queue` ("postgres" or "kafka"): who
    plays each role. `mongodb`, `elasticsearch`, `kafka`: those servers, by their settings or an address alone. `jobs`:
    how changes are worked off. `search_deadline`: seconds a search waits for an index that is not beside the truth.
    """

    database_url: str | None = field(default=None, repr=False)
    schema: str = "omnimem"
    pool_size: int = 10
    sync: SyncMode = SyncMode.INLINE
    records: str = "postgres"
    vectors: str = "postgres"
    keywords: str = "postgres"
    queue: str = "postgres"
    mongodb: MongoSettings = field(default_factory=MongoSettings)
    elasticsearch: ElasticsearchSettings = field(default_factory=ElasticsearchSettings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    jobs: JobPolicy = field(default_factory=JobPolicy)
    search_deadline: float = 10.0

    def __post_init__(self) -> None:
        for role, accepted in _BACKENDS.items():
            if getattr(self, role) not in accepted:
                raise InvalidInputError(
                    f"{role}={show(getattr(self, role))} is not accepted; pass one of {', '.join(accepted)}"
                )
        if self.records == "postgres" and (self.keywords != "postgres" or self.queue != "postgres"):
            raise InvalidInputError(
                f'records="postgres" keeps its indexes and its queue beside it, but keywords={self.keywords!r} and '
                f'queue={self.queue!r} were given; choose records="mongodb" to spread them'
            )
        if self.sync not in tuple(SyncMode):
            raise InvalidInputError(f"sync={show(self.sync)} is not accepted; pass one of {', '.join(SyncMode)}")
        for server, (kind, address) in _SERVERS.items():
            given = getattr(self, server)
            self._settle(**{server: kind(**{address: given}) if isinstance(given, str) else given})
            instance(getattr(self, server), server, kind, f"{kind.__name__} or an address")
        instance(self.jobs, "jobs", JobPolicy, "a JobPolicy")
        wait = self.search_deadline
        if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 < wait <= 3_600:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"search_deadline={show(wait)} is not accepted; pass seconds above 0, up to 3,600")
        self._settle(sync=SyncMode(self.sync))

    @classmethod
    def fleet(
        cls,
        database_url: str,
        *,
        mongodb: MongoSettings | str,
        elasticsearch: ElasticsearchSettings | str,
        kafka: KafkaSettings | str,
        **more: Any,
    ) -> Self:
        """The truth in MongoDB, vectors in PostgreSQL at `database_url`, words in Elasticsearch, changes through Kafka.

        `more`: other fields of Settings, such as `sync="async"`.
        """
        servers: dict[str, Any] = {"mongodb": mongodb, "elasticsearch": elasticsearch, "kafka": kafka}
        roles = {"records": "mongodb", "keywords": "elasticsearch", "queue": "kafka"}
        return cls(database_url, **roles, **servers, **more)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """The settings in a TOML file, named as here, each server in a table of its own.

        Raises InvalidInputError for what is no such file, and for a setting there is none of.
        """
        try:
            with Path(path).expanduser().open("rb") as file:
                given = tomllib.load(file)
        except OSError as error:
            raise InvalidInputError(f"settings file {str(path)!r} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"settings file {str(path)!r} is no TOML: {error}") from None
        try:
            return cls.from_dict(given)
        except InvalidInputError as error:
            raise InvalidInputError(f"settings file {str(path)!r}: {error}") from None

    @classmethod
    def _read(cls, given: dict[str, Any]) -> dict[str, Any]:
        parts = dict(given)
        for server, (kind, _) in _SERVERS.items():
            if isinstance(parts.get(server), Mapping):
                parts[server] = kind.from_dict(parts[server])
        if isinstance(parts.get("jobs"), Mapping):
            try:
                parts["jobs"] = JobPolicy(**cast("Mapping[str, Any]", parts["jobs"]))
            except TypeError as error:
                raise InvalidInputError(f"jobs is no JobPolicy: {error}") from None
        return parts


@asynccontextmanager
async def open_storage(settings: Settings, *, dims: int, model_id: str) -> AsyncGenerator[Storage]:
    """The stores, opened; closed at the end of the block."""
    from omnimem.storage.postgres import Database, PostgresKeywords, PostgresQueue, PostgresRecords, PostgresVectors

    database = Database(
        settings.database_url,
        dims=dims,
        model_id=model_id,
        schema=settings.schema,
        pool_size=settings.pool_size,
        truth=settings.records == "postgres",
    )
    async with AsyncExitStack() as opened:
        opened.push_async_callback(database.close)
        # An index that is away keeps nobody from the truth; the truth that is away does.
        await (database.open() if database.tables.truth else database.open_when_reached())
        storage = Storage(
            records=PostgresRecords(database),
            vectors=PostgresVectors(database),
            keywords=PostgresKeywords(database),
            queue=PostgresQueue(database, settings.jobs),
            location=database.location,
        )
        if settings.records == "mongodb":
            storage = await _spread(settings, storage, opened)
        yield storage


async def _spread(settings: Settings, storage: Storage, opened: AsyncExitStack) -> Storage:
    """The storage with roles given to other servers; what is opened is closed with `opened`."""
    from omnimem.storage.mongodb import MongoDatabase, MongoOutbox, MongoRecords

    mongodb = MongoDatabase(settings.mongodb)
    opened.push_async_callback(mongodb.close)
    await mongodb.open()
    storage = replace(storage, records=MongoRecords(mongodb), outbox=MongoOutbox(mongodb))
    locations = [mongodb.location, storage.location]
    if settings.keywords == "elasticsearch":
        from omnimem.storage.elasticsearch import ElasticsearchKeywords

        keywords = ElasticsearchKeywords(settings.elasticsearch)
        opened.push_async_callback(keywords.close)
        await keywords.open()
        storage = replace(storage, keywords=keywords)
        locations.append(settings.elasticsearch.location)
    if settings.queue == "kafka":
        from omnimem.storage.kafka import KafkaQueue

        queue = KafkaQueue(settings.kafka, settings.jobs)
        opened.push_async_callback(queue.close)
        storage = replace(storage, queue=queue)
        locations.append(f"kafka://{settings.kafka.servers}")
    return replace(storage, location=", ".join(locations))
