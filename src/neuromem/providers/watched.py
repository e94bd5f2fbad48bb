"""Providers that tell a hook about every call, and let nothing but our errors out."""

import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from memground.embedding import EmbeddingProvider
from memground.errors import MemoryStoreError, ProviderError
from memground.usage import Tokens, counting
from neuromem.providers.llm import ChatMessage, LLMProvider, check_answer
from neuromem.types import Value

_log = logging.getLogger("neuromem.hooks")


@dataclass(frozen=True, slots=True)
class LLMCall(Value):
    """One call of the language model, after it ended. What was said is not in it.

    `purpose`: "extraction", "chat", …. `messages`: how many were sent, of `characters` in all; `answered`: characters
    of the answer. `input_tokens`, `output_tokens`: as the server counted them, retries not included; None where it
    does not say. `seconds` include retries. `error`: what it ended with, None when it worked.
    """

    purpose: str
    model: str
    messages: int
    characters: int
    answered: int
    input_tokens: int | None
    output_tokens: int | None
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class EmbeddingCall(Value):
    """One call of the embedding model, after it ended; the fields as in `LLMCall`. `texts`: how many were embedded."""

    model: str
    texts: int
    characters: int
    input_tokens: int | None
    seconds: float
    error: str | None


type LLMHook = Callable[[LLMCall], Awaitable[None] | None]
type EmbeddingHook = Callable[[EmbeddingCall], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class _Ended[T]:
    """How a call ended: the answer, None where it failed, and what it cost."""

    answer: T | None
    tokens: Tokens
    seconds: float
    error: str | None


class WatchedLLM(LLMProvider):
    """Another provider, whose calls `hook` is told of."""

    def __init__(self, llm: LLMProvider, hook: LLMHook | None = None) -> None:
        self._llm = llm
        self._hook = hook

    @property
    def model_id(self) -> str:
        return self._llm.model_id

    async def chat(self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int = 1024) -> str:
        ask = partial(self._llm.chat, messages, temperature=temperature, max_tokens=max_tokens)
        return await self._watch("chat", messages, ask)

    async def chat_json(
        self,
        messages: list[ChatMessage],
        *,
        schema: Mapping[str, Any],
        temperature: float = 0.0,
        max_tokens: int = 1024,
    ) -> str:
        ask = partial(self._llm.chat_json, messages, schema=schema, temperature=temperature, max_tokens=max_tokens)
        return await self._watch(str(schema.get("title", "chat")), messages, ask)

    async def close(self) -> None:
        await self._llm.close()

    async def _watch(self, purpose: str, messages: list[ChatMessage], ask: Callable[[], Awaitable[str]]) -> str:
        async def answer() -> str:
            return check_answer(await ask(), self.model_id)

        def call(ended: _Ended[str]) -> LLMCall:
            return LLMCall(
                purpose=purpose,
                model=self.model_id,
                messages=len(messages),
                characters=sum(len(str(message.get("content", ""))) for message in messages),
                answered=len(ended.answer or ""),
                input_tokens=ended.tokens.input,
                output_tokens=ended.tokens.output,
                seconds=ended.seconds,
                error=ended.error,
            )

        return await _watch(answer, self.model_id, self._hook, call)


class WatchedEmbedding(EmbeddingProvider):
    """Another provider, whose calls `hook` is told of."""

    def __init__(self, embedding: EmbeddingProvider, hook: EmbeddingHook) -> None:
        self._embedding = embedding
        self._hook = hook

    @property
    def dims(self) -> int:
        return self._embedding.dims

    @property
    def model_id(self) -> str:
        return self._embedding.model_id

    async def embed(self, text: str) -> list[float]:
        return await self._watch([text], partial(self._embedding.embed, text))

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        return await self._watch(texts, partial(self._embedding.embed_batch, texts))

    def batches(self, texts: list[str]) -> Iterable[list[str]]:
        return self._embedding.batches(texts)

    async def embed_query(self, text: str) -> list[float]:
        return await self._watch([text], partial(self._embedding.embed_query, text))

    async def close(self) -> None:
        await self._embedding.close()

    async def _watch[T](self, texts: list[str], embed: Callable[[], Awaitable[T]]) -> T:
        def call(ended: _Ended[T]) -> EmbeddingCall:
            return EmbeddingCall(
                model=self.model_id,
                texts=len(texts),
                characters=sum(map(len, texts)),
                input_tokens=ended.tokens.input,
                seconds=ended.seconds,
                error=ended.error,
            )

        return await _watch(embed, self.model_id, self._hook, call)


async def _watch[T, C](
    work: Callable[[], Awaitable[T]],
    model: str,
    hook: Callable[[C], Awaitable[None] | None] | None,
    call: Callable[[_Ended[T]], C],
) -> T:
    answer: T | None = None
    error: str | None = None
    begun = time.perf_counter()
    with counting() as tokens:
        try:
            answer = await work()
            return answer
        except BaseException as failure:  # a provider is the user's code and may raise anything
            error = f"{type(failure).__name__}: {failure}"
            if isinstance(failure, Exception) and not isinstance(failure, MemoryStoreError):
                raise ProviderError(f"{model} failed: {error}") from failure
            raise
        finally:
            if hook is not None:
                await _tell(hook, call(_Ended(answer, tokens, time.perf_counter() - begun, error)))


async def _tell[C](hook: Callable[[C], Awaitable[None] | None], call: C) -> None:
    try:
        told = hook(call)
        if inspect.isawaitable(told):
            await told
    except Exception:  # noqa: BLE001 - a hook is the user's code; what it raises must not fail the call it watches
        _log.exception("the hook for %s raised", type(call).__name__)
