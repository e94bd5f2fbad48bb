"""Addresses and servers that cannot be used are refused with what to do; passwords are shown nowhere."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dev.servers.mongodb import MongoServer
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from memground.errors import ConfigurationError, InvalidInputError, MemoryStoreError, UnavailableError
from omnimem.storage.mongodb import MongoDatabase, MongoRecords
from omnimem.storage.mongodb.schema import META, VERSION
from omnimem.storage.settings.mongodb import MongoSettings
from omnimem.testing.conformance import record
from support.mongo import mongo_database

SECRET = "s3cr3t-pass"


class Standalone(MongoServer):
    """mongod that is no replica set's."""

    def command(self, program: Path, data: Path) -> list[str]:
        command = super().command(program, data)
        at = command.index("--replSet")
        return command[:at] + command[at + 2 :]

    def answers(self) -> bool:
        try:
            with MongoClient[dict[str, object]]("127.0.0.1", self.port, serverSelectionTimeoutMS=300) as client:
                return bool(client.admin.command("hello")["isWritablePrimary"])
        except PyMongoError:
            return False


class Guarded(MongoServer):
    """mongod that wants a password: user `anna`, `SECRET`."""

    def command(self, program: Path, data: Path) -> list[str]:
        key = data.parent / "key"
        if not key.exists():
            key.write_text("0123456789abcdef")
            key.chmod(0o600)
        return [*super().command(program, data), "--keyFile", str(key)]


@pytest.fixture(scope="module")
def standalone() -> Iterator[Standalone]:
    with Standalone() as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with Guarded() as server:
        with MongoClient[dict[str, object]]("127.0.0.1", server.port, directConnection=True) as client:
            client.admin.command("createUser", "anna", pwd=SECRET, roles=["root"])
        yield server


async def refused(url: str, kind: type[MemoryStoreError], **options: object) -> str:
    """The message of the error that opening must raise; it shows no password."""
    with pytest.raises(kind) as caught:
        await MongoDatabase(MongoSettings(url, **options)).open()  # type: ignore[arg-type]
    shown = f"{caught.value}"
    assert SECRET not in shown
    return shown


@pytest.mark.parametrize("query", ["", "?replicaSet=rs0", "?directConnection=true"])
async def test_a_standalone_server_is_refused(standalone: Standalone, query: str) -> None:
    url = f"mongodb://127.0.0.1:{standalone.port}/{query}"
    said = await refused(url, ConfigurationError, timeout=2)
    assert "standalone server, which has no transactions; start it with --replSet" in said


async def test_an_unreachable_server_is_unavailable_in_time() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for query in ("", "?replicaSet=rs0"):
            began = time.monotonic()
            said = await refused(f"mongodb://anna:{SECRET}@127.0.0.1:{port}/{query}", UnavailableError, timeout=1)
            assert time.monotonic() - began < 5
            assert f"mongodb://anna:***@127.0.0.1:{port}/ cannot be reached" in said


async def test_another_replica_set_is_unavailable(mongo: MongoServer) -> None:
    await refused(f"mongodb://127.0.0.1:{mongo.port}/?replicaSet=other", UnavailableError, timeout=1)


async def test_logins(guarded: Guarded) -> None:
    where = f"127.0.0.1:{guarded.port}/?replicaSet=rs0"
    for login in (f"anna:{SECRET}x@", f"nobody:{SECRET}@", ""):
        assert "refused the login" in await refused(f"mongodb://{login}{where}", ConfigurationError, timeout=5)
    database = MongoDatabase(MongoSettings(f"mongodb://anna:{SECRET}@{where}&authSource=admin", timeout=5))
    await database.open()
    try:
        assert SECRET not in database.location
        records = MongoRecords(database)
        await records.write(lambda work: records.insert(work, [record("m")]))
    finally:
        await database.close()


async def test_a_server_without_tls_is_not_spoken_to_in_tls(mongo: MongoServer) -> None:
    url = f"mongodb://127.0.0.1:{mongo.port}/?tls=true"
    with pytest.raises((ConfigurationError, UnavailableError), match=r"TLS|cannot be reached"):
        await MongoDatabase(MongoSettings(url, timeout=1)).open()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/x",
        "localhost:27017",
        f"mongodb://anna:{SECRET}@",
        f"mongodb://anna:{SECRET}@host:notaport/",
        f"mongodb://anna:{SECRET}@host:99999/",
        f"mongodb://an/na:{SECRET}@host/",
        f"mongodb://anna:{SECRET}@host/?tlsCAFile=/nowhere/ca.pem&tls=true",
        f"mongodb://host/?tls=true&tlsCertificateKeyFile=/nowhere&tlsCertificateKeyFilePassword={SECRET}",
        f"mongodb+srv://anna:{SECRET}@host/",
    ],
)
async def test_addresses_that_are_none(url: str) -> None:
    await refused(url, ConfigurationError, timeout=1)


@pytest.mark.parametrize(
    "given",
    [{"database": "a.b"}, {"database": ""}, {"database": "admin"}, {"database": "x" * 64}, {"timeout": 0},
     {"timeout": float("nan")}, {"timeout": True}, {"pool_size": 0}, {"pool_size": 1.5}],
)  # fmt: skip
def test_options_that_are_none(given: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        MongoSettings("mongodb://localhost/", **given)  # type: ignore[arg-type]


async def test_several_open_a_new_database_at_once(mongo: MongoServer) -> None:
    async with mongo_database(mongo.url) as first:
        await first.client.drop_database(first.name)
        others = [MongoDatabase(MongoSettings(mongo.url, database=first.name)) for _ in range(4)]
        await asyncio.gather(*(other.open() for other in others))
        for number, other in enumerate(others):
            records, new = MongoRecords(other), record(f"m{number}")
            await records.write(lambda work, records=records, new=new: records.insert(work, [new]))
            await other.open()
            await other.close()


async def test_a_database_of_a_newer_program_is_refused(mongo: MongoServer) -> None:
    async with mongo_database(mongo.url) as database:
        meta = database.client[database.name][META]
        await meta.update_one({"_id": "schema"}, {"$set": {"version": VERSION + 1}})
        said = await refused(mongo.url, ConfigurationError, database=database.name)
        assert f"schema version {VERSION + 1}, made by a newer omnimem" in said


async def test_a_closed_database_says_so(mongo: MongoServer) -> None:
    async with mongo_database(mongo.url) as database:
        records = MongoRecords(database)
    with pytest.raises(ConfigurationError, match="not open"):
        await records.write(lambda work: records.insert(work, [record("m")]))
