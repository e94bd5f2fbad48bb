"""The ways omnimem is deployed: all on one PostgreSQL, mixed (MongoDB and PostgreSQL), and the whole fleet."""

import itertools
import uuid
from dataclasses import dataclass
from typing import Any

from omnimem import Settings
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings
from omnimem.storage.settings.kafka import KafkaSettings
from omnimem.storage.settings.mongodb import MongoSettings

NAMES = ("postgres", "mixed", "fleet")
_numbers = itertools.count(1)


def fresh_name() -> str:
    """A name for a schema, a database and a prefix that nobody else has."""
    return f"d{next(_numbers)}_{uuid.uuid4().hex[:6]}"


@dataclass(frozen=True)
class Servers:
    """Addresses of servers; those a deployment does not need may be empty."""

    postgres: str
    mongodb: str = ""
    elasticsearch: str = ""
    kafka: str = ""

    def settings(self, deployment: str, own: str | None = None, **given: Any) -> Settings:
        """Settings of a deployment, with everything under a name of its own. Servers that are away are missed soon."""
        own = own or fresh_name()
        given = {"schema": own, "search_deadline": 5.0, **given}
        if deployment == "postgres":
            return Settings(self.postgres, **given)
        mongodb = MongoSettings(self.mongodb, database=own, timeout=5)
        if deployment == "mixed":
            return Settings(self.postgres, records="mongodb", mongodb=mongodb, **given)
        return Settings.fleet(
            self.postgres,
            mongodb=mongodb,
            elasticsearch=ElasticsearchSettings(self.elasticsearch, prefix=own, replicas=0, timeout=5),
            kafka=KafkaSettings(self.kafka, prefix=own, partitions=4, timeout=5, session_timeout=6),
            **given,
        )
