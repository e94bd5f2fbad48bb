"""Language models behind OpenAI's protocol, against a real server that misbehaves on demand."""

import socket
import time
import traceback
from collections.abc import Iterator

import pytest

from memground.errors import InvalidInputError, ProviderError, TruncatedError, UnavailableError
from neuromem.providers.llm import OpenAILLM
from support.openai_server import (
    CHAT,
    MAY_PASS,
    OpenAIServer,
    changed,
    choice,
    cut_short,
    message,
    prose,
    quoting_key,
    slow,
    status,
)

ASK = [{"role": "system", "content": "You answer with JSON."}, {"role": "user", "content": "北京 🧠"}]
SCHEMA = {"title": "a thing", "type": "object", "properties": {}, "required": [], "additionalProperties": False}


def echo(body) -> str:
    return "said: " + body["messages"][-1]["content"]


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIServer]:
    with OpenAIServer(chat=echo) as server:
        yield server


@pytest.fixture
def server(running: OpenAIServer) -> OpenAIServer:
    running.reset()
    return running


@pytest.fixture
async def llm(server):
    llm = OpenAILLM(server.key, base_url=server.base_url, model="m", max_retries=0, timeout=5)
    yield llm
    await llm.close()


@pytest.mark.seed("5.2", "OpenAILLM speaks OpenAI's protocol")
async def test_an_answer_is_one_call(server, llm):
    assert await llm.chat(ASK) == "said: 北京 🧠"
    assert await llm.chat(ASK, 0.1, 99) == "said: 北京 🧠"
    assert server.calls[0].body == {"model": "m", "messages": ASK, "temperature": 0.7, "max_tokens": 1024}
    assert (server.calls[1].body["temperature"], server.calls[1].body["max_tokens"]) == (0.1, 99)
    assert server.count(CHAT) == 2


async def test_json_is_asked_for_by_its_schema(server, llm):
    assert await llm.chat_json(ASK, schema=SCHEMA, max_tokens=7) == "said: 北京 🧠"
    body = server.calls[0].body
    assert (body["temperature"], body["max_tokens"]) == (0.0, 7)
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "a_thing", "strict": True, "schema": SCHEMA},
    }


async def test_a_server_without_schemas_is_asked_less_and_less_and_remembered(server, llm):
    server.refuses = frozenset({"json_schema", "json_object"})
    assert await llm.chat_json(ASK, schema=SCHEMA) == "said: 北京 🧠"
    forms = [call.body.get("response_format", {}).get("type") for call in server.calls]
    assert forms == ["json_schema", "json_object", None]
    await llm.chat_json(ASK, schema=SCHEMA)
    assert server.count(CHAT) == 4, "what the server refuses is not tried again"
    assert "response_format" not in server.calls[-1].body


@pytest.mark.seed("5.2", "OpenAILLM speaks to DeepSeek")
async def test_deepseek_is_such_a_server(server, monkeypatch):
    """Its address ends without /v1, and it takes no JSON Schema."""
    monkeypatch.setitem(server.endpoints, "/chat/completions", server.endpoints[CHAT])
    server.refuses = frozenset({"json_schema"})
    llm = OpenAILLM(server.key, base_url=server.base_url.removesuffix("/v1"), model="deepseek-chat", max_retries=0)
    assert await llm.chat(ASK) == "said: 北京 🧠"
    assert await llm.chat_json(ASK, schema=SCHEMA) == "said: 北京 🧠"
    assert {(call.path, call.body["model"]) for call in server.calls} == {("/chat/completions", "deepseek-chat")}
    assert server.calls[-1].body["response_format"] == {"type": "json_object"}
    await llm.close()


async def test_models_that_want_other_parameters_get_them(server, llm):
    server.refuses = frozenset({"max_tokens", "temperature", "json_schema"})
    assert await llm.chat_json(ASK, schema=SCHEMA, max_tokens=50) == "said: 北京 🧠"
    last = server.calls[-1].body
    assert "temperature" not in last
    assert (last["max_completion_tokens"], last["response_format"]) == (50, {"type": "json_object"})
    await llm.chat(ASK)
    assert server.count(CHAT) == 5


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (prose(), "I am sorry"),
        (prose("<html>gateway</html>", "text/html"), "<html>gateway</html>"),
        (prose('{"choices": []}'), '{"choices": []}'),
        (prose("[]"), "[]"),
        (changed(lambda answer: {**answer, "choices": None}), "did not answer as a chat model"),
        (message(content=None), "answered with nothing"),
        (message(content="  "), "answered with nothing"),
        (message(content=42), "did not answer as a chat model"),
        (message(content=None, refusal="I can't help with that"), "m refused: I can't help with that"),
        (choice(message=None), "did not answer as a chat model"),
        (choice(finish_reason="content_filter"), "content filter"),
        (status(400, "context length exceeded"), "context length exceeded"),
        (status(404, "no such model"), "no such model"),
    ],
)
async def test_unusable_answers_say_what_came(server, llm, fault, says):
    server.fail_next(fault)
    with pytest.raises(ProviderError) as caught:
        await llm.chat_json(ASK, schema=SCHEMA)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 600
    assert server.count(CHAT) == 1


async def test_an_answer_cut_off_is_no_answer_but_can_be_read(server, llm):
    server.fail_next(cut_short(6))
    with pytest.raises(TruncatedError, match="max_tokens=31") as caught:
        await llm.chat(ASK, max_tokens=31)
    assert caught.value.text == "said: "


async def test_wrong_usage_spoils_no_answer(server, llm):
    server.fail_next(changed(lambda answer: {**answer, "usage": ["?"]}))
    assert await llm.chat(ASK) == "said: 北京 🧠"


@pytest.mark.parametrize(("fault", "says"), MAY_PASS)
async def test_what_may_pass_is_unavailable(server, llm, fault, says):
    server.fail_next(fault)
    with pytest.raises(UnavailableError) as caught:
        await llm.chat(ASK)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 600
    assert await llm.chat(ASK) == "said: 北京 🧠"


async def test_what_may_pass_is_tried_again_as_the_server_says(server):
    llm = OpenAILLM(server.key, base_url=server.base_url, max_retries=2)
    server.fail_next(status(429, retry_after=1), status(500))
    begun = time.monotonic()
    assert await llm.chat(ASK) == "said: 北京 🧠"
    assert time.monotonic() - begun >= 1.0
    assert server.count(CHAT) == 3
    await llm.close()


async def test_a_slow_server_is_given_up(server):
    llm = OpenAILLM(server.key, base_url=server.base_url, max_retries=0, timeout=0.2)
    server.fail_next(slow(1.0))
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.2 seconds"):
        await llm.chat(ASK)
    await llm.close()


async def test_no_server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    llm = OpenAILLM("any", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)
    with pytest.raises(UnavailableError, match=r"gpt-4o-mini at 127\.0\.0\.1 cannot be reached"):
        await llm.chat(ASK)
    await llm.close()


@pytest.mark.parametrize("code", [401, 500])
async def test_the_key_is_in_no_message(server, llm, code):
    server.fail_next(quoting_key(code))
    with pytest.raises((ProviderError, UnavailableError)) as caught:
        await llm.chat(ASK)
    shown = "".join(traceback.format_exception(caught.value)) + repr(llm) + str(llm)
    assert "bad key: Bearer ***" in shown
    assert server.key not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        {"messages": []},
        {"messages": "hello"},
        {"messages": ["hello"]},
        {"messages": [{"content": "hello"}]},
        {"messages": [{"role": "user", "content": "lone \ud800"}]},
        {"messages": [{"role": "user", "content": object()}]},
        {"messages": ASK, "temperature": float("nan")},
        {"messages": ASK, "temperature": -1},
        {"messages": ASK, "max_tokens": 0},
        {"messages": ASK, "max_tokens": "many"},
    ],
)
async def test_what_no_model_can_be_asked_is_refused(server, llm, arguments):
    with pytest.raises(InvalidInputError):
        await llm.chat(**arguments)
    assert server.calls == []


@pytest.mark.parametrize("options", [{"api_key": " "}, {"api_key": "k", "model": ""}])
def test_options_that_cannot_work(options):
    with pytest.raises(InvalidInputError):
        OpenAILLM(**options)
