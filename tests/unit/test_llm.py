"""Language models of one's own, and the hooks that are told of every call."""

import asyncio
import logging
import sys

import pytest

from memground.embedding import OpenAIEmbedding
from memground.errors import ConfigurationError, InvalidInputError, MemoryStoreError, ProviderError, UnavailableError
from neuromem import EmbeddingCall, LLMCall, NeuroMemory
from neuromem.providers.llm import CallbackLLM, LLMProvider, OpenAILLM, report_tokens
from neuromem.providers.watched import WatchedEmbedding, WatchedLLM
from support.embeddings import HashEmbedding
from support.openai_server import OpenAIServer, status

ASK = [{"role": "user", "content": "hello there"}]
SCHEMA = {"title": "extraction", "type": "object"}


class Parrot(LLMProvider):
    """As a user writes it."""

    async def chat(self, messages: list[dict], temperature=0.7, max_tokens=1024) -> str:
        return f"{messages[-1]['content']} {temperature} {max_tokens}"


async def test_a_provider_needs_only_chat():
    parrot = Parrot()
    assert parrot.model_id == "Parrot"
    assert await parrot.chat_json(ASK, schema=SCHEMA, max_tokens=5) == "hello there 0.0 5"
    await parrot.close()


async def test_a_function_may_be_the_model():
    async def plain(messages):
        return messages[0]["content"]

    async def full(messages, temperature, max_tokens):
        return f"{temperature} {max_tokens}"

    async def some(messages, **options):
        return str(sorted(options))

    assert await CallbackLLM(plain).chat(ASK) == "hello there"
    assert await CallbackLLM(full).chat(ASK, 0.5, 6) == "0.5 6"
    assert await CallbackLLM(some).chat(ASK) == "['max_tokens', 'temperature']"
    assert await CallbackLLM(lambda messages: plain([*messages])).chat_json(ASK, schema=SCHEMA) == "hello there"
    assert (CallbackLLM(plain).model_id, CallbackLLM(plain, model="mine").model_id) == ("plain", "mine")


async def test_a_function_that_is_no_model_is_refused():
    with pytest.raises(InvalidInputError):
        CallbackLLM("gpt")  # type: ignore[arg-type]
    with pytest.raises(ProviderError, match="async"):
        await CallbackLLM(lambda messages: "at once").chat(ASK)


@pytest.mark.parametrize("answer", [None, 3, "", "  \n", b"bytes", {"facts": []}])
async def test_an_answer_is_a_text(answer):
    async def model(messages):
        return answer

    with pytest.raises(ProviderError, match="model answered with"):
        await CallbackLLM(model).chat(ASK)

    class Odd(Parrot):
        async def chat(self, messages, temperature=0.7, max_tokens=1024):
            return answer

    with pytest.raises(ProviderError, match="Odd answered with"):
        await WatchedLLM(Odd()).chat(ASK)


async def test_a_provider_written_wrongly_is_an_error_of_ours():
    class Sync(Parrot):
        def chat(self, messages, temperature=0.7, max_tokens=1024):
            return "at once"

    class Narrow(Parrot):
        async def chat(self, messages):
            return "hello"

    for wrong in (Sync(), Narrow()):
        with pytest.raises(ProviderError, match=f"{wrong.model_id} failed: TypeError"):
            await WatchedLLM(wrong).chat(ASK)


async def test_whatever_a_provider_raises_is_an_error_of_ours():
    class Broken(Parrot):
        async def chat(self, messages, temperature=0.7, max_tokens=1024):
            raise KeyError("choices")

    with pytest.raises(ProviderError, match=r"Broken failed: KeyError: 'choices'"):
        await WatchedLLM(Broken()).chat(ASK)


async def test_a_hook_is_told_of_every_call_and_not_what_was_said():
    calls: list[LLMCall] = []
    with OpenAIServer(chat=lambda body: "one two three") as server:
        llm = WatchedLLM(OpenAILLM(server.key, base_url=server.base_url, model="m", max_retries=0), calls.append)
        await llm.chat(ASK)
        await llm.chat_json(ASK, schema=SCHEMA)
        server.fail_next(status(503, "away"))
        with pytest.raises(UnavailableError):
            await llm.chat(ASK)
        await llm.close()
    first, second, third = calls
    assert (first.purpose, second.purpose, first.model, first.error) == ("chat", "extraction", "m", None)
    assert (first.messages, first.characters, first.answered) == (1, 11, 13)
    assert (first.input_tokens, first.output_tokens) == (2, 3)
    assert 0 < first.seconds < 5
    assert third.error is not None
    assert third.error.startswith("UnavailableError: m at 127.0.0.1 answered with status 503")
    assert (third.answered, third.output_tokens) == (0, None)
    assert "hello" not in str(calls)
    assert first.to_dict()["purpose"] == "chat"


@pytest.mark.seed("7.1", "a call of the language model is told of with the tokens it read and wrote")
async def test_a_provider_of_one_s_own_reports_its_tokens():
    calls: list[LLMCall] = []

    async def model(messages):
        report_tokens(input=10, output=1)
        report_tokens(input=5, output=2)
        report_tokens(input="many", output=-1)
        report_tokens(input=True, output=None)
        return "hello"

    await WatchedLLM(CallbackLLM(model), calls.append).chat(ASK)
    assert (calls[0].input_tokens, calls[0].output_tokens) == (15, 3)
    assert await CallbackLLM(model).chat(ASK) == "hello", "nobody has to count"


async def test_calls_at_the_same_time_are_counted_apart():
    calls: list[LLMCall] = []

    async def model(messages):
        report_tokens(input=len(messages))
        await asyncio.sleep(0.01)
        report_tokens(output=len(messages))
        return "hello"

    llm = WatchedLLM(CallbackLLM(model), calls.append)
    await asyncio.gather(*(llm.chat(ASK * count) for count in (1, 2, 3)))
    assert sorted((call.messages, call.input_tokens, call.output_tokens) for call in calls) == [
        (1, 1, 1),
        (2, 2, 2),
        (3, 3, 3),
    ]


async def test_a_hook_may_be_async():
    calls: list[LLMCall] = []

    async def hook(call: LLMCall) -> None:
        await asyncio.sleep(0)
        calls.append(call)

    assert await WatchedLLM(Parrot(), hook).chat(ASK) == "hello there 0.7 1024"
    assert calls[0].input_tokens is None


async def test_a_hook_that_raises_breaks_no_call(caplog):
    def hook(call: LLMCall) -> None:
        raise RuntimeError("the hook is broken")

    with caplog.at_level(logging.ERROR):
        assert await WatchedLLM(Parrot(), hook).chat(ASK) == "hello there 0.7 1024"
    assert "the hook is broken" in caplog.text


async def test_a_cancelled_call_is_told_of_and_stays_cancelled():
    calls: list[LLMCall] = []

    async def forever(messages):
        await asyncio.sleep(60)

    asking = asyncio.create_task(WatchedLLM(CallbackLLM(forever), calls.append).chat(ASK))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert calls[0].error is not None
    assert calls[0].error.startswith("CancelledError")


@pytest.mark.seed("7.1", "a call of the embedding model is told of with the tokens it read")
async def test_embedding_calls_are_told_of_too():
    calls: list[EmbeddingCall] = []
    with OpenAIServer(dims=8) as server:
        inner = OpenAIEmbedding(server.key, base_url=server.base_url, dims=8, model="e", max_retries=0)
        embedding = WatchedEmbedding(inner, calls.append)
        assert (embedding.dims, embedding.model_id) == (8, "e")
        vectors = await embedding.embed_batch(["one two", "three"])
        assert await embedding.embed("one two") == await embedding.embed_query("one two") == vectors[0]
        server.fail_next(status(500))
        with pytest.raises(UnavailableError):
            await embedding.embed("x")
        await embedding.close()
    assert [(call.texts, call.characters, call.input_tokens) for call in calls[:3]] == [
        (2, 12, 3),
        (1, 7, 2),
        (1, 7, 2),
    ]
    assert calls[3].error is not None


async def test_a_mind_tells_its_hooks(open_mind, user):
    embedded: list[EmbeddingCall] = []
    closed: list[str] = []

    class Closing(Parrot):
        async def close(self) -> None:
            closed.append("llm")

    mind = await open_mind(embedding=HashEmbedding(), llm=Closing(), on_embedding_call=embedded.append)
    await mind.add_memory(user, "Anna lives in Porto")
    await mind.recall(user, "where does Anna live?")
    assert [(call.model, call.texts) for call in embedded] == [("hash-32", 1), ("hash-32", 1)]
    await mind.close()
    assert closed == [], "a provider that was passed in belongs to who passed it"


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigurationError, match=r'pip install "neuromem-omnimem\[openai\]"'):
        OpenAILLM("key")


@pytest.mark.parametrize(
    "options", [{"llm": "gpt-4o"}, {"storage": "s3://"}, {"on_llm_call": "log"}, {"on_embedding_call": 1}]
)
def test_a_mind_is_made_of_providers(options):
    with pytest.raises(MemoryStoreError, match=next(iter(options))):
        NeuroMemory("postgresql://localhost/x", HashEmbedding(), **options)
