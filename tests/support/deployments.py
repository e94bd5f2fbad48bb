"""The ways omnimem is deployed: all on one PostgreSQL, mixed, and the whole fleet."""

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omnimem import Settings
from omnimem.storage.elasticsearch.settings import ElasticsearchSettings
from omnimem.storage.kafka.settings import KafkaSettings
from omnimem.storage.mongodb.settings import MongoSettings

NAMES = ("postgres", "mixed", "fleet")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Servers:
    """Where servers are."""

    postgres: str
    mongodb: str
    elasticsearch: str
    kafka: str

    def settings(self, deployment: str, **given: Any) -> Settings:
        """Settings of a deployment with databases, indexes and topics nobody else has."""
        own = f"d{next(_numbers)}_{uuid.uuid4().hex[:6]}"
        mongodb = MongoSettings(self.mongodb, database=own, timeout=10)
        given.setdefault("schema", own)
        match deployment:
            case "postgres":
                return Settings(self.postgres, **given)
            case "mixed":
                return Settings(self.postgres, records="mongodb", mongodb=mongodb, **given)
            case _:
                return Settings.fleet(
                    self.postgres,
                    mongodb=mongodb,
                    elasticsearch=ElasticsearchSettings(self.elasticsearch, prefix=own, replicas=0, timeout=10),
                    kafka=KafkaSettings(self.kafka, prefix=own, partitions=4, timeout=5, session_timeout=6),
                    **given,
                )


def all_deployments(syncs: Sequence[str] = ("inline", "async")) -> list[tuple[str, str]]:
    """Each deployment in each mode."""
    return [(name, sync) for name in NAMES for sync in syncs]
