"""A fleet every server of which wants TLS and a password; what is wrong with a login is said without it."""

import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import pytest
from dev.servers.elasticsearch import ElasticsearchServer

from memground.postgres.embedded import EmbeddedPostgres
from omnimem import ConfigurationError, MemoryStoreError, OmniMemClient, Scope, Settings
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings
from omnimem.storage.settings.kafka import KafkaSettings
from omnimem.storage.settings.mongodb import MongoSettings
from support import search_proxy
from support.deployments import fresh_name
from support.embeddings import HashEmbedding
from support.secured import PASSWORD, USER, SecuredKafka, SecuredMongo
from support.tls import certificate, tls_server

WRONG = "wr0ng-pass"


@dataclass(frozen=True)
class Secured:
    settings: Settings
    other: str
    """A certificate that signed none of the servers'."""


@pytest.fixture(scope="module")
def mongo() -> Iterator[SecuredMongo]:
    with SecuredMongo() as server:
        server.login()
        yield server


@pytest.fixture(scope="module")
def kafka() -> Iterator[SecuredKafka]:
    with SecuredKafka() as server:
        yield server


@pytest.fixture(scope="module")
async def secured(
    server: EmbeddedPostgres,
    elasticsearch: ElasticsearchServer,
    mongo: SecuredMongo,
    kafka: SecuredKafka,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("search")
    certificate(folder, "server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "server.crt", folder / "server.key")
    own = fresh_name()
    await server.ensure_database("secured")
    async with (
        tls_server(server.socket_dir) as postgres,
        search_proxy.search_proxy(elasticsearch.url, tls=tls, login=True) as search,
    ):
        trusted = f"sslmode=verify-full&sslrootcert={postgres.certificate}"
        settings = Settings.fleet(
            f"postgresql://tenant:s3cret@localhost:{postgres.port}/secured?{trusted}",
            mongodb=MongoSettings(f"{mongo.url}&tlsCAFile={mongo.certificate}", database=own, timeout=5),
            elasticsearch=ElasticsearchSettings(
                f"https://localhost:{search.port}",
                username=search_proxy.USER,
                password=search_proxy.PASSWORD,
                ca_certs=str(folder / "server.crt"),
                prefix=own,
                replicas=0,
            ),
            kafka=KafkaSettings(
                kafka.bootstrap,
                prefix=own,
                tls=True,
                ca_file=str(kafka.certificate),
                mechanism="PLAIN",
                username=USER,
                password=PASSWORD,
                timeout=5,
            ),
            schema=own,
        )
        yield Secured(settings, str(mongo.certificate.parent / "other.crt"))


def connect(settings: Settings) -> OmniMemClient:
    return OmniMemClient.connect(settings, embedding=HashEmbedding(8))


@pytest.mark.parametrize("sync", ["inline", "async"])
async def test_a_memory_lives_behind_locked_doors(secured: Secured, sync: str) -> None:
    async with connect(replace(secured.settings, sync=sync)) as client:
        anna = client.within(Scope(tenant_id="acme", user_id=sync))
        memory = await anna.create("the red lantern")
        later = await anna.update(memory.memory_id, content="the blue lantern")
        await client.wait_idle(30)
        for mode in ("keyword", "semantic"):
            found = await anna.search("blue lantern", mode=mode, strict=True)
            assert [hit.memory.record_id for hit in found] == [later.record_id]
        assert (await client.verify()).count == 0
        about = str(await client.about())
        assert "cannot be reached" not in about
        for secret in (PASSWORD, "s3cret"):
            assert secret not in about
            assert secret not in repr(client)


async def complaint(settings: Settings) -> MemoryStoreError:
    async def use() -> None:
        async with connect(settings) as client:
            await client.create("a lantern")
            await client.status()

    with pytest.raises(MemoryStoreError) as caught:
        await use()
    assert not any(secret in str(caught.value) for secret in (PASSWORD, "s3cret", WRONG))
    return caught.value


async def test_what_is_wrong_with_mongodbs_login_is_said(secured: Secured) -> None:
    settings = secured.settings
    url = settings.mongodb.url

    def with_url(changed: str) -> Settings:
        return replace(settings, mongodb=replace(settings.mongodb, url=changed))

    wrong = await complaint(with_url(url.replace(PASSWORD, WRONG)))
    assert isinstance(wrong, ConfigurationError)
    assert "refused the login" in str(wrong)
    stranger = await complaint(with_url(url.partition("&tlsCAFile")[0] + f"&tlsCAFile={secured.other}"))
    assert isinstance(stranger, ConfigurationError)
    assert "is not trusted; tlsCAFile=" in str(stranger)
    missing = await complaint(with_url(url.partition("&tlsCAFile")[0] + "&tlsCAFile=/nowhere/ca.crt"))
    assert isinstance(missing, ConfigurationError)
    assert "tlscafile" in str(missing)


async def test_what_is_wrong_with_kafkas_login_is_said(secured: Secured) -> None:
    settings = secured.settings

    def with_kafka(**changed: object) -> Settings:
        return replace(settings, sync="async", kafka=replace(settings.kafka, timeout=2.0, **changed))

    wrong = await complaint(with_kafka(password=WRONG))
    assert isinstance(wrong, ConfigurationError)
    assert "uthentication" in str(wrong)
    stranger = await complaint(with_kafka(ca_file=secured.other))
    assert "ertificate" in str(stranger) or "SSL" in str(stranger)
    missing = await complaint(with_kafka(ca_file="/nowhere/ca.crt"))
    assert isinstance(missing, ConfigurationError)
    assert "check ca_file" in str(missing)


def test_settings_of_the_test_are_secret(secured: Secured) -> None:
    shown = f"{secured.settings!r} {secured.settings.kafka.to_dict()}"
    assert PASSWORD not in shown
    assert "s3cret" not in shown
