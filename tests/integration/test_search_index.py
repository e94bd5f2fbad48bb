"""The keyword index in Elasticsearch through breakdowns, races and rebuilds."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest
from dev.servers.elasticsearch import ElasticsearchServer

from memground.errors import ConfigurationError, ConflictError, InvalidInputError, UnavailableError
from memground.filters import F
from omnimem.models import Content, Scope
from omnimem.storage.base import Selection
from omnimem.storage.elasticsearch import ElasticsearchKeywords
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings
from omnimem.testing.conformance import HOUR, START, record, refused
from support.search_index import WORD, entry, found, holding, search_index, search_settings
from support.search_proxy import API_KEY, PASSWORD, USER, search_proxy
from support.tls import certificate


async def test_a_removal_wins_over_writes_that_race_with_it(elasticsearch: ElasticsearchServer) -> None:
    """Latest records, superseded ones and the removal of one memory, all at once: nothing of it is left."""
    async with search_index(elasticsearch.url) as keywords:
        for turn in range(15):
            key = f"m{turn}"
            life = [entry(record(key, hour, end=hour + 1)) for hour in range(4)] + [entry(record(key, 4))]
            await keywords.apply(None, life[:2])
            await asyncio.gather(
                *(keywords.apply(None, [each]) for each in life),
                keywords.remove(None, [key]),
                keywords.apply(None, life),
            )
            assert await keywords.contents(None, [key]) == {}
        assert await keywords.memory_ids(None, after="", limit=50) == []


async def test_a_tombstone_outlives_merges_and_restarts() -> None:
    """It is a document, so that it lasts longer than Elasticsearch's own memory of what was deleted."""
    with ElasticsearchServer() as server:
        settings = search_settings(server.url)
        keywords = ElasticsearchKeywords(settings)
        await keywords.open()
        await keywords.apply(None, [entry(record("gone")), entry(record("kept"))], refresh=True)
        await keywords.remove(None, ["gone"])
        await keywords.connection.run(lambda c: c.indices.forcemerge(index=keywords.indexes.both, max_num_segments=1))
        server.kill()
        assert settings.location in await refused(keywords.apply(None, [entry(record("late"))]), UnavailableError)
        server.start()
        await keywords.apply(None, [entry(record("gone", 9)), entry(record("gone", 8, end=9))], refresh=True)
        assert await found(keywords) == {"kept"}
        assert await keywords.memory_ids(None, after="", limit=5) == ["kept"]
        await keywords.close()


async def test_a_rebuild_is_switched_to_while_everybody_goes_on(elasticsearch: ElasticsearchServer) -> None:
    """Writers that know nothing of it, in other programs, lose nothing; searches answer all the time."""
    async with search_index(elasticsearch.url) as keywords:
        other = ElasticsearchKeywords(keywords.connection.settings)
        await other.open()
        before = [entry(each) for each in holding([{"n": n} for n in range(50)])]
        await keywords.apply(None, before, refresh=True)
        await keywords.remove(None, ["m49"])
        written: list[str] = []
        missed: list[str] = []
        done = asyncio.Event()

        async def write() -> None:
            while not done.is_set():
                key = f"n{len(written)}"
                await other.apply(None, [entry(record(key, 0, end=1)), entry(record(key, 1))])
                written.append(key)

        async def search() -> None:
            while not done.is_set():
                if len(await found(other, F("data.n") >= 0)) != 49:
                    missed.append("a search found less")

        going = [asyncio.create_task(write()), asyncio.create_task(search())]
        async with keywords.rebuilding():
            assert "rebuild" in await keywords.about()
            # What the truth has by now; what is written from now on goes into both.
            known = [entry(each) for key in list(written) for each in (record(key, 0, end=1), record(key, 1))]
            await keywords.apply(None, [*before[:49], *known])
            await asyncio.sleep(0.5)
        await asyncio.sleep(0.2)
        done.set()
        await asyncio.gather(*going)
        about = await keywords.about()
        assert "-memories-v1-2: " in about[keywords.indexes.memories]
        assert "rebuild" not in about
        await other.apply(None, [entry(record("m49", 5))])  # late, and removed before the rebuild
        await other.refresh()
        assert await found(keywords) == {f"m{n}" for n in range(49)} | set(written)
        assert len(await keywords.contents(None, written)) == 2 * len(written) > 0
        assert missed == []
        names = await keywords.connection.run(lambda c: c.indices.get(index=f"{keywords.indexes.memories}*"))
        assert len(names) == 1
        await other.close()


async def test_a_rebuild_that_broke_off_is_gone_on_with_or_given_up(elasticsearch: ElasticsearchServer) -> None:
    async with search_index(elasticsearch.url) as keywords:
        await keywords.apply(None, [entry(record("a")), entry(record("b"))], refresh=True)
        await refused(_broken_rebuild(keywords), ConflictError)
        assert await found(keywords) == {"a", "b"}
        async with keywords.rebuilding(), keywords.rebuilding():  # two at once do the same work
            await keywords.apply(None, [entry(record("b"))])
        assert await found(keywords) == {"a", "b"}
        await refused(_broken_rebuild(keywords), ConflictError)
        await keywords.abandon()
        assert "rebuild" not in await keywords.about()
        assert await found(keywords) == {"a", "b"}


async def test_a_deleted_index_is_not_made_by_a_write(elasticsearch: ElasticsearchServer) -> None:
    """Elasticsearch would make one with a mapping of its own guessing."""
    async with search_index(elasticsearch.url) as keywords:
        await keywords.drop()
        message = await refused(keywords.apply(None, [entry(record("m"))]), UnavailableError)
        assert "has no index" in message
        assert keywords.indexes.memories in message
        await refused(keywords.candidates(None, WORD, Selection(), limit=5), UnavailableError)
        again = ElasticsearchKeywords(keywords.connection.settings)
        await asyncio.gather(again.open(), keywords.indexes.ensure(), keywords.indexes.ensure())
        await again.apply(None, [entry(record("m"))], refresh=True)
        assert await found(keywords) == {"m"}
        await again.close()


async def test_who_opens_an_index_of_a_newer_omnimem_is_told(elasticsearch: ElasticsearchServer) -> None:
    async with search_index(elasticsearch.url) as keywords:
        await keywords.connection.run(
            lambda c: c.indices.put_mapping(index=keywords.indexes.memories, meta={"omnimem_mapping": 99})
        )
        again = ElasticsearchKeywords(keywords.connection.settings)
        assert "made by a newer omnimem (mapping 99, this one knows 1)" in await refused(
            again.open(), ConfigurationError
        )


async def test_a_record_that_no_form_of_is_taken_is_named(elasticsearch: ElasticsearchServer) -> None:
    """The fields all records have are in everybody's mapping, so this takes a mapping that is not ours."""
    async with search_index(elasticsearch.url) as keywords:
        index, alias = f"{keywords.indexes.memories}-v1", keywords.indexes.memories
        await keywords.connection.run(lambda c: c.indices.delete(index=index))
        broken = {"properties": {"memory_id": {"type": "keyword"}, "content_hash": {"type": "long"}}}
        await keywords.connection.run(lambda c: c.indices.create(index=index, mappings=broken, aliases={alias: {}}))
        message = await refused(keywords.apply(None, [entry(record("m"))]), InvalidInputError)
        assert "record m@0 of memory m cannot be indexed" in message


async def test_a_block_is_waited_for_and_blames_no_record(elasticsearch: ElasticsearchServer) -> None:
    async with search_index(elasticsearch.url) as keywords:
        for blocked in ("read_only_allow_delete", "write"):
            await _block(keywords, blocked, True)
            await refused(keywords.apply(None, [entry(record("m"))]), UnavailableError)
            await _block(keywords, blocked, None)
        await keywords.apply(None, [entry(record("m"))], refresh=True)
        assert await found(keywords) == {"m"}


async def test_a_busy_server_is_asked_again_and_a_frozen_one_given_up(elasticsearch: ElasticsearchServer) -> None:
    async with (
        search_proxy(elasticsearch.url) as proxy,
        search_index(f"http://127.0.0.1:{proxy.port}", timeout=1.5) as keywords,
    ):
        proxy.busy = 2
        await keywords.apply(None, [entry(record("m"))], refresh=True)
        assert proxy.busy == 0
        proxy.busy = 10
        assert "429" in await refused(keywords.candidates(None, WORD, Selection(), limit=5), UnavailableError)
        assert proxy.busy == 6
        proxy.busy, proxy.frozen = 0, True
        began = time.monotonic()
        await refused(keywords.candidates(None, WORD, Selection(), limit=5), UnavailableError)
        assert time.monotonic() - began < 5
        proxy.frozen = False
        assert await found(keywords) == {"m"}


async def test_logins_and_certificates(elasticsearch: ElasticsearchServer, tmp_path: Path) -> None:
    for name in ("server", "other"):
        certificate(tmp_path, name)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    trusted, other = str(tmp_path / "server.crt"), str(tmp_path / "other.crt")
    async with search_proxy(elasticsearch.url, tls=tls, login=True) as proxy:
        url = f"https://localhost:{proxy.port}"
        for login in ({"username": USER, "password": PASSWORD}, {"api_key": API_KEY}):
            async with search_index(url, ca_certs=trusted, **login) as keywords:
                await keywords.apply(None, [entry(record("m"))], refresh=True)
                assert await found(keywords) == {"m"}
        inside = url.replace("://", f"://{USER}:{PASSWORD}@")
        async with search_index(inside, ca_certs=trusted) as keywords:
            assert PASSWORD not in keywords.location
        wrong = ElasticsearchKeywords(search_settings(url, ca_certs=trusted, username=USER, password="wr0ng"))
        message = await refused(wrong.open(), ConfigurationError)
        assert "refused the login" in message
        assert "wr0ng" not in message
        assert "not trusted" in await refused(
            ElasticsearchKeywords(search_settings(inside, ca_certs=other)).open(), ConfigurationError
        )
        missing = ElasticsearchKeywords(search_settings(url, ca_certs="/nowhere/ca.crt"))
        await refused(missing.open(), ConfigurationError)


async def test_an_address_where_nobody_is() -> None:
    keywords = ElasticsearchKeywords(ElasticsearchSettings("http://anna:s3cret@127.0.0.1:9", timeout=2))
    await keywords.open()
    message = await refused(keywords.candidates(None, WORD, Selection(), limit=5), UnavailableError)
    await keywords.close()
    assert "http://127.0.0.1:9" in message
    assert "s3cret" not in message
    assert "s3cret" not in repr(keywords.connection.settings)


@pytest.mark.parametrize(
    "given",
    [
        {"url": "localhost:9200"}, {"url": "ftp://x"}, {"url": "http://x:99999"}, {"url": ""}, {"prefix": "Omni"},
        {"prefix": "a,b*"}, {"timeout": 0}, {"timeout": True}, {"shards": 0}, {"replicas": -1}, {"password": "x"},
        {"username": "a", "password": "b", "api_key": "c"}, {"refresh_interval": "soon"}, {"fields": 5},
    ],
)  # fmt: skip
def test_settings_that_are_not_accepted(given: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        ElasticsearchSettings(**given)  # type: ignore[arg-type]


async def test_the_past_is_searched_as_it_was(elasticsearch: ElasticsearchServer) -> None:
    mine = Scope(tenant_id="a")
    async with search_index(elasticsearch.url) as keywords:
        life = [
            record("m", hour, end=hour + 1 if hour < 3 else None, scope=mine, content=Content(WORD, {"n": hour}))
            for hour in range(4)
        ]
        await keywords.apply(None, [entry(each) for each in life], refresh=True)
        await keywords.apply(None, [entry(record("theirs", scope=Scope(tenant_id="b")))], refresh=True)
        for hour in range(5):
            moment = START + hour * HOUR + HOUR / 2
            selection = Selection(mine, F("data.n") == min(hour, 3), moment)
            hits = await keywords.candidates(None, WORD, selection, limit=5)
            assert [(hit.record_id, hit.decided) for hit in hits] == [(f"m@{min(hour, 3)}", True)]
            assert await found(keywords, F("data.n") > 3, as_of=moment) == set()
        assert await found(keywords, as_of=START - HOUR) == set()
        assert await found(keywords, as_of=START) == {"m", "theirs"}


async def test_a_question_of_thousands_of_words(elasticsearch: ElasticsearchServer) -> None:
    async with search_index(elasticsearch.url) as keywords:
        await keywords.apply(None, [entry(record("m"))], refresh=True)
        long = f"{WORD} " + " ".join(f"word{n}" for n in range(2_000))
        assert [c.memory_id for c in await keywords.candidates(None, long, Selection(), limit=5)] == ["m"]


async def _broken_rebuild(keywords: ElasticsearchKeywords) -> None:
    async with keywords.rebuilding():
        await keywords.apply(None, [entry(record("a"))])
        raise ConflictError("on purpose")


async def _block(keywords: ElasticsearchKeywords, kind: str, value: bool | None) -> None:
    settings = {f"index.blocks.{kind}": value}
    await keywords.connection.run(lambda c: c.indices.put_settings(index=keywords.indexes.both, settings=settings))
