"""docker-compose.yml starts what the design says, of the versions that the tests run against."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dev.servers.elasticsearch import ElasticsearchServer
from dev.servers.kafka import KafkaServer
from dev.servers.mongodb import MongoServer
from dev.servers.server import Server

from memground.postgres._host import installation, server_account

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
FLEET = {"mongo", "elasticsearch", "kafka"}
PORTS = {"db": {5432}, "minio": {9000, 9001}, "mongo": {27017}, "elasticsearch": {9200}, "kafka": {9092}}


@pytest.mark.seed("9.3", "docker compose up -d db starts PostgreSQL alone")
def test_what_neuromem_uses_starts_by_itself_and_the_fleet_by_its_profile() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"db", "minio"}
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["fleet"]} == FLEET


@pytest.mark.seed("8.1", "docker compose gives MinIO on port 9000, and its console on 9001")
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_on_loopback_keeps_its_data_and_says_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z0-9/]+:[\w.-]*\d[\w.-]*", service["image"])
    published = [re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in service["ports"]]
    assert {int(port[1]) for port in published if port is not None} == PORTS[name]
    assert all(published)
    volumes = [volume.partition(":")[0] for volume in service["volumes"]]
    assert volumes
    assert set(volumes) <= FILE["volumes"].keys()
    assert service["healthcheck"].keys() >= {"test", "interval", "timeout", "retries"}


@pytest.mark.seed("8.1", "docker compose gives PostgreSQL with pgvector and pg_search on port 5432")
def test_the_database_is_of_the_versions_that_are_embedded() -> None:
    extensions = installation(server_account(Path("/nowhere"))) / "share" / "postgresql" / "extension"
    versions = {
        name: re.findall(r"default_version = '(.+)'", (extensions / f"{name}.control").read_text())[0]
        for name in ("vector", "pg_search")
    }
    assert SERVICES["db"]["image"] == f"paradedb/paradedb:{versions['pg_search']}-pg17"
    assert f"pgvector/pgvector:{versions['vector']}-pg17" in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("service", "server"), [("elasticsearch", ElasticsearchServer), ("kafka", KafkaServer)])
def test_the_fleet_is_of_the_versions_that_the_tests_start(service: str, server: type[Server]) -> None:
    assert SERVICES[service]["image"].partition(":")[2] == server.name.partition("-")[2]


def test_mongodb_is_of_the_release_that_the_tests_start() -> None:
    """The image has the last correction of the same release, which is what people should run."""
    image, server = SERVICES["mongo"]["image"].partition(":")[2], MongoServer.name.partition("-")[2]
    assert image.rpartition(".")[0] == server.rpartition(".")[0]
    assert int(image.rpartition(".")[2]) >= int(server.rpartition(".")[2])
