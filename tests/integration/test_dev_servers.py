"""The servers of dev/servers are real: they answer, keep what was written through kill -9, freeze, and end."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import boto3
import psutil
import pytest
from botocore.config import Config
from confluent_kafka import Consumer, Producer, TopicPartition
from dev.servers import server as servers
from dev.servers.elasticsearch import ElasticsearchServer
from dev.servers.kafka import KafkaServer
from dev.servers.mongodb import MongoServer
from dev.servers.postgres import PostgresServer
from dev.servers.s3 import S3Server
from dev.servers.server import Server
from elasticsearch import AsyncElasticsearch
from pymongo import AsyncMongoClient

from support.embedded import short_tmp_dir

ROOT = Path(__file__).parents[2]


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


class Client[S: Server]:
    """Writes a number and reads all numbers back, as a program would."""

    kind: type[S]

    def __init__(self, server: S) -> None:
        self.server = server

    async def write(self, number: int) -> None:
        raise NotImplementedError

    async def read(self) -> set[int]:
        raise NotImplementedError


class Mongo(Client[MongoServer]):
    kind = MongoServer

    async def write(self, number: int) -> None:
        async with (
            AsyncMongoClient[dict[str, Any]](self.server.url) as client,
            client.start_session() as session,
            await session.start_transaction(),
        ):
            await client["kept"]["numbers"].insert_one({"number": number}, session=session)

    async def read(self) -> set[int]:
        async with AsyncMongoClient[dict[str, Any]](self.server.url) as client:
            return {document["number"] async for document in client["kept"]["numbers"].find()}


class Elastic(Client[ElasticsearchServer]):
    kind = ElasticsearchServer

    async def write(self, number: int) -> None:
        async with AsyncElasticsearch(self.server.url) as client:
            await client.index(index="kept", document={"number": number}, refresh=True)

    async def read(self) -> set[int]:
        async with AsyncElasticsearch(self.server.url) as client:
            found = await client.search(index="kept")
            return {hit["_source"]["number"] for hit in found["hits"]["hits"]}


class Kafka(Client[KafkaServer]):
    kind = KafkaServer

    async def write(self, number: int) -> None:
        refused: list[Any] = []
        producer = Producer({"bootstrap.servers": self.server.bootstrap, "enable.idempotence": True})
        producer.produce("kept", str(number), partition=0, on_delivery=lambda error, _: refused.append(error))
        assert producer.flush(30) == 0
        assert refused == [None]

    async def read(self) -> set[int]:
        consumer = Consumer({"bootstrap.servers": self.server.bootstrap, "group.id": "reader"})
        partition = TopicPartition("kept", 0, 0)
        consumer.assign([partition])
        _, end = consumer.get_watermark_offsets(partition, timeout=30)
        messages = consumer.consume(end, timeout=30)
        consumer.close()
        return {int(message.value() or b"") for message in messages}


class Postgres(Client[PostgresServer]):
    kind = PostgresServer

    async def write(self, number: int) -> None:
        connection = await asyncpg.connect(self.server.url)
        await connection.execute("create extension if not exists vector")
        await connection.execute("create table if not exists kept (number int, place vector(1))")
        await connection.execute(f"insert into kept values ({number}, '[{number}]')")
        await connection.close()

    async def read(self) -> set[int]:
        connection = await asyncpg.connect(self.server.url)
        found = await connection.fetch("select number from kept order by place <-> '[1]'")
        await connection.close()
        return {row["number"] for row in found}


class S3(Client[S3Server]):
    kind = S3Server

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.server.endpoint,
            aws_access_key_id=self.server.access_key,
            aws_secret_access_key=self.server.secret_key,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    async def write(self, number: int) -> None:
        client = self.client()
        if not client.list_buckets()["Buckets"]:
            client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key=str(number), Body=b"here")

    async def read(self) -> set[int]:
        return {int(item["Key"]) for item in self.client().list_objects_v2(Bucket="kept")["Contents"]}


@pytest.mark.parametrize("kind", [Mongo, Elastic, Kafka, Postgres, S3])
async def test_a_server_keeps_what_was_written_whatever_is_done_to_it(kind: type[Client[Any]]) -> None:
    with kind.kind() as server:
        client, settings = kind(server), server.settings()
        await client.write(1)

        server.freeze()
        assert not server.answers()
        server.thaw()
        until(server.answers)
        await client.write(2)

        server.kill()
        assert not server.answers()
        server.start()
        assert server.settings() == settings
        assert await client.read() == {1, 2}

        server.freeze()
        server.stop()
        assert not server.answers()
        folder = server._folder
        assert folder is not None
    assert not server.answers()
    assert not folder.exists()


async def test_elasticsearch_has_the_analyzers_of_a_full_one(elasticsearch: ElasticsearchServer) -> None:
    async with AsyncElasticsearch(elasticsearch.url) as client:
        assert elasticsearch.name == f"elasticsearch-{(await client.info())['version']['number']}"

        async def words(analyzer: str, text: str) -> list[str]:
            answer = await client.indices.analyze(analyzer=analyzer, text=text)
            return [token["token"] for token in answer["tokens"]]

        assert await words("english", "the running horses") == ["run", "hors"]
        assert await words("cjk", "北京大学") == ["北京", "京大", "大学"]
        assert "北京大学" in await words("smartcn", "我在北京大学")
        filters = ["cjk_width", "lowercase", "asciifolding", "cjk_bigram", "porter_stem"]
        answer = await client.indices.analyze(tokenizer="standard", filter=filters, text="Ｃafés 北京")
        assert [token["token"] for token in answer["tokens"]] == ["cafe", "北京"]


async def test_mongodb_rolls_back(mongo: MongoServer) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongo.url) as client:
        numbers = client["rolling-back"]["numbers"]
        await numbers.insert_one({"number": 1})
        async with client.start_session() as session:
            await session.start_transaction()
            await numbers.insert_one({"number": 2}, session=session)
            await session.abort_transaction()
        assert [document["number"] async for document in numbers.find()] == [1]
        assert f"mongodb-{(await client.server_info())['version']}" == mongo.name


USER = """
import sys
from pathlib import Path
from dev.servers.s3 import S3Server
from dev.servers.shared import shared
with shared(S3Server, Path(sys.argv[1])) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


def test_processes_of_a_run_share_a_server_that_ends_after_the_last_killed_or_not(tmp_path: Path) -> None:
    def user() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", USER, str(tmp_path)]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def port(of: "subprocess.Popen[bytes]") -> int:
        assert of.stdout is not None
        return int(of.stdout.readline())

    users = [user() for _ in range(3)]
    ports = [port(one) for one in users]
    assert len(set(ports)) == 1
    server = S3Server.attached(ports)
    users[0].kill()
    users[1].communicate(b"")
    time.sleep(0.3)
    assert server.answers()
    users[2].kill()
    until(lambda: not server.answers())
    again = user()
    assert S3Server.attached([port(again)]).answers()
    again.communicate(b"")
    for one in users:
        one.wait()
        for stream in (one.stdin, one.stdout):
            assert stream is not None
            stream.close()
    until(lambda: not (tmp_path / "s3" / "ports").exists())


@pytest.fixture
def background() -> Iterator[Callable[..., str]]:
    """Runs `python -m dev.servers` with data in a folder of the test's own; returns what it printed."""
    with short_tmp_dir() as folder:

        def run(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "dev.servers", *arguments],
                cwd=ROOT,
                env={**os.environ, "NEUROMEM_SERVERS": str(folder)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            return done.stdout

        yield run
        run("--stop")


def keeper(settings: dict[str, str]) -> int:
    """The process that holds the servers of which one listens at this address."""
    port = int(settings["S3_ENDPOINT"].rpartition(":")[2])
    (listener,) = {c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN"}
    return next(p.pid for p in psutil.Process(listener).parents() if "--keep" in p.cmdline())


@pytest.mark.torture  # starts everything a second time
def test_all_servers_in_the_background(background: Callable[..., str]) -> None:
    settings = json.loads(background("--background", "--json"))
    assert settings.keys() >= {"MONGODB_URL", "ELASTICSEARCH_URL", "KAFKA_BOOTSTRAP", "POSTGRES_URL", "S3_ENDPOINT"}
    exported = background("--background").splitlines()
    assert exported == [f"export {name}='{value}'" for name, value in settings.items()]

    held = below(keeper(settings))
    assert len(held) > 10
    next(process for process in held if process.name() == "mongod").suspend()
    psutil.Process(keeper(settings)).kill()
    until(lambda: not alive(held))

    assert json.loads(background("--background", "--json")) == settings, "the same data, so the same ports"
    held = below(keeper(settings))
    background("--stop")
    assert not alive(held)


def test_those_who_install_at_once_wait_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "CACHE", tmp_path)
    installed: list[Path] = []

    class Slow(S3Server):
        name = "slow"

        def install(self, folder: Path) -> None:
            time.sleep(0.2)
            (folder / "whole").touch()
            installed.append(folder)

    found: list[bool] = []
    waiting = [threading.Thread(target=lambda: found.append((Slow().program() / "whole").exists())) for _ in range(4)]
    for one in waiting:
        one.start()
    for one in waiting:
        one.join()
    assert found == [True] * 4
    assert len(installed) == 1


def test_an_installation_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "CACHE", tmp_path)

    class Failing(S3Server):
        name = "failing"

        def install(self, folder: Path) -> None:
            (folder / "half").touch()
            raise RuntimeError("no network")

    with pytest.raises(RuntimeError, match="no network"):
        Failing().start()
    assert [path.name for path in tmp_path.iterdir()] == ["failing.lock"]


def test_a_server_that_ends_at_once_says_why() -> None:
    class Refusing(S3Server):
        def command(self, program: Path, data: Path) -> list[str]:
            return ["sh", "-c", "echo no such option; exit 3"]

    with pytest.raises(RuntimeError, match="no such option"):
        Refusing().start()
