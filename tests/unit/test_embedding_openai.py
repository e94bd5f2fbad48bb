"""The providers that speak OpenAI's protocol, against a real server that misbehaves on demand."""

import json
import socket
import time
import traceback
from collections.abc import Iterator

import pytest

from memground.embedding import OpenAIEmbedding, SiliconFlowEmbedding
from memground.errors import InvalidInputError, ProviderError, UnavailableError
from support.openai_server import (
    MAY_PASS,
    OpenAIServer,
    changed,
    nan,
    prose,
    quoting_key,
    shuffled,
    slow,
    status,
    vector_of,
    wrong_count,
    wrong_dims,
)

EMBEDDINGS = "/v1/embeddings"


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIServer]:
    with OpenAIServer(dims=8) as server:
        yield server


@pytest.fixture
def server(running: OpenAIServer) -> OpenAIServer:
    running.reset()
    return running


@pytest.fixture(params=[OpenAIEmbedding, SiliconFlowEmbedding])
async def provider(request, server):
    provider = request.param(server.key, base_url=server.base_url, model="m", dims=8, max_retries=0, timeout=5)
    yield provider
    await provider.close()


async def test_one_text_is_one_call(server, provider):
    assert await provider.embed("hello") == vector_of("hello", 8)
    assert await provider.embed_query("hello") == vector_of("hello", 8)
    assert server.count(EMBEDDINGS) == 2
    assert server.calls[0].body == {"input": ["hello"], "model": "m", "encoding_format": "float"}


async def test_a_batch_is_one_call_in_order(server, provider):
    texts = [f"text {number}" for number in range(20)]
    assert await provider.embed_batch(texts) == [vector_of(text, 8) for text in texts]
    assert server.count(EMBEDDINGS) == 1


async def test_nothing_to_embed_is_no_call(server, provider):
    assert await provider.embed_batch([]) == []
    assert server.calls == []


async def test_order_is_restored_by_index(server, provider):
    server.fail_next(shuffled())
    assert await provider.embed_batch(["a", "b", "c"]) == [vector_of(text, 8) for text in "abc"]


async def test_unicode_arrives_as_it_was(server, provider):
    text = "北京 – naïve 🧠\n\ttab"
    assert await provider.embed(text) == vector_of(text, 8)
    assert server.calls[0].body["input"] == [text]


@pytest.mark.seed(
    "5.1", "SiliconFlowEmbedding: BAAI/bge-m3, 1024 numbers", "SiliconFlowEmbedding takes Chinese and English"
)
@pytest.mark.seed("5.1", "OpenAIEmbedding: text-embedding-3-small, 1536 numbers")
@pytest.mark.parametrize(
    ("kind", "model", "dims"),
    [(SiliconFlowEmbedding, "BAAI/bge-m3", 1024), (OpenAIEmbedding, "text-embedding-3-small", 1536)],
)
async def test_of_itself_each_asks_its_own_model(server, monkeypatch, kind, model, dims):
    monkeypatch.setattr(server, "dims", dims)
    provider = kind(server.key, base_url=server.base_url)
    assert (provider.model_id, provider.dims) == (model, dims)
    texts = ["I live in Porto", "我住在波尔图"]
    assert await provider.embed_batch(texts) == [vector_of(text, dims) for text in texts]
    assert len(await provider.embed(texts[1])) == dims
    assert [(call.body["model"], call.body["input"]) for call in server.calls] == [(model, texts), (model, texts[1:])]
    await provider.close()


async def test_batches_split_at_the_number_of_texts(server):
    provider = OpenAIEmbedding(server.key, base_url=server.base_url, model="m", dims=8, batch_size=4)
    texts = [str(number) for number in range(10)]
    assert await provider.embed_batch(texts) == [vector_of(text, 8) for text in texts]
    assert [len(call.body["input"]) for call in server.calls] == [4, 4, 2]
    await provider.close()


async def test_batches_split_at_the_size_of_a_request(server, provider):
    texts = ["x" * 120_000] * 5 + ["y" * 400_000]
    assert len(await provider.embed_batch(texts)) == 6
    assert [len(call.body["input"]) for call in server.calls] == [2, 2, 1, 1]


def test_the_defaults_are_what_the_vendors_take():
    openai, siliconflow = OpenAIEmbedding("key"), SiliconFlowEmbedding("key")
    assert (openai.model_id, openai.dims) == ("text-embedding-3-small", 1536)
    assert (siliconflow.model_id, siliconflow.dims) == ("BAAI/bge-m3", 1024)


@pytest.mark.parametrize(
    ("kind", "model", "sent"),
    [
        (OpenAIEmbedding, "text-embedding-3-large", True),
        (OpenAIEmbedding, "text-embedding-ada-002", False),
        (SiliconFlowEmbedding, "Qwen/Qwen3-Embedding-8B", True),
        (SiliconFlowEmbedding, "BAAI/bge-m3", False),
    ],
)
async def test_dimensions_go_only_to_models_that_take_them(server, kind, model, sent):
    provider = kind(server.key, base_url=server.base_url, model=model, dims=8)
    await provider.embed("x")
    await provider.close()
    assert server.calls[0].body.get("dimensions") == (8 if sent else None)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (wrong_dims(5), "vector of 5 numbers, expected 8"),
        (wrong_count(), "1 vectors for 2 texts"),
        (nan(), "containing nan"),
        (prose(), "I am sorry"),
        (prose("<html>gateway</html>", "text/html"), "<html>gateway</html>"),
        (prose(json.dumps({"error": "over quota"})), "over quota"),
        (changed(lambda answer: {"data": [{**item, "embedding": None} for item in answer["data"]]}), "did not answer"),
        (changed(lambda answer: {"data": [{**item, "index": 0} for item in answer["data"]]}), "numbered"),
        (status(400, "input too long"), "input too long"),
        (status(404, "no such model"), "no such model"),
    ],
)
async def test_unusable_answers_say_what_came(server, provider, fault, says):
    server.fail_next(fault)
    with pytest.raises(ProviderError) as caught:
        await provider.embed_batch(["a", "b"])
    assert says in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("fault", "says"), MAY_PASS)
async def test_what_may_pass_is_unavailable(server, provider, fault, says):
    server.fail_next(fault)
    with pytest.raises(UnavailableError) as caught:
        await provider.embed("a")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 600
    assert await provider.embed("a") == vector_of("a", 8)


async def test_what_may_pass_is_tried_again_as_the_server_says(server):
    provider = OpenAIEmbedding(server.key, base_url=server.base_url, model="m", dims=8, max_retries=2)
    server.fail_next(status(429, retry_after=1), status(500))
    begun = time.monotonic()
    assert await provider.embed("a") == vector_of("a", 8)
    assert time.monotonic() - begun >= 1.0
    assert server.count(EMBEDDINGS) == 3
    await provider.close()


async def test_a_slow_server_is_given_up(server):
    provider = OpenAIEmbedding(server.key, base_url=server.base_url, model="m", dims=8, max_retries=0, timeout=0.2)
    server.fail_next(slow(1.0))
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.2 seconds"):
        await provider.embed("a")
    await provider.close()


async def test_no_server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    provider = OpenAIEmbedding("key", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)
    with pytest.raises(UnavailableError, match=r"text-embedding-3-small at 127\.0\.0\.1 cannot be reached"):
        await provider.embed("a")
    await provider.close()


async def test_a_refused_key_is_an_error_of_the_provider(server):
    provider = OpenAIEmbedding("sk-wrong", base_url=server.base_url, dims=8)
    with pytest.raises(ProviderError, match=r"status 401.*Incorrect API key"):
        await provider.embed("a")
    assert server.count(EMBEDDINGS) == 1, "a refused key is not tried again"
    await provider.close()


@pytest.mark.parametrize("code", [401, 500])
async def test_the_key_is_in_no_message(server, provider, code):
    server.fail_next(quoting_key(code))
    with pytest.raises((ProviderError, UnavailableError)) as caught:
        await provider.embed("a")
    shown = "".join(traceback.format_exception(caught.value)) + repr(provider) + str(provider)
    assert "bad key: Bearer ***" in shown
    assert server.key not in shown


async def test_the_environment_names_no_organization(server, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-somebody")
    provider = SiliconFlowEmbedding(server.key, base_url=server.base_url, dims=8)
    await provider.embed("a")
    await provider.close()
    assert "somebody" not in str(server.calls[0].headers)


@pytest.mark.parametrize("options", [{"api_key": " "}, {"api_key": "k", "dims": 0}, {"api_key": "k", "batch_size": 0}])
def test_options_that_cannot_work_are_refused(options):
    with pytest.raises(InvalidInputError):
        OpenAIEmbedding(**options)


async def test_a_text_json_cannot_hold_is_refused_before_any_call(server, provider):
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        await provider.embed_batch(["fine", "\udfff"])
    assert server.calls == []
