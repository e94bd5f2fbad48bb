"""Language models: what one is, and the built-in ones. Subclass `LLMProvider` for your own."""

import inspect
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, cast

from memground.errors import InvalidInputError, ProviderError
from memground.text import show
from memground.usage import report_tokens

__all__ = ["CallbackLLM", "LLMProvider", "OpenAILLM", "report_tokens"]

type ChatMessage = dict[str, Any]
"""`{"role": "system" | "user" | "assistant", "content": "…"}`, as OpenAI's protocol has it."""


class LLMProvider(ABC):
    """A language model that continues a conversation.

    A provider of your own needs only ``chat``::

        class MyLLM(LLMProvider):
            async def chat(self, messages: list[dict], temperature=0.7, max_tokens=1024) -> str:
                return await my_model(messages)

    Override ``chat_json`` when the model can be held to a JSON Schema, ``model_id`` when one class serves several
    models.
    """

    @property
    def model_id(self) -> str:
        """The model's name, for messages and hooks. Default: the class name."""
        return type(self).__name__

    @abstractmethod
    async def chat(self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int = 1024) -> str:
        """The model's answer to `messages`, at most `max_tokens` long; `temperature` 0 is the least random.

        Raises ``InvalidInputError`` (no messages), ``ProviderError`` (the model refused, or answered with something
        unusable; ``TruncatedError`` when the answer was cut off) or ``UnavailableError`` (it cannot be reached).
        """

    async def chat_json(
        self,
        messages: list[ChatMessage],
        *,
        schema: Mapping[str, Any],
        temperature: float = 0.0,
        max_tokens: int = 1024,
    ) -> str:
        """As ``chat``, for messages that ask for JSON. `schema`: the JSON Schema of the answer, with a ``title`` that
        names its purpose. The answer is a text, and may still be no such JSON. Default: ``chat``."""
        return await self.chat(messages, temperature=temperature, max_tokens=max_tokens)

    async def close(self) -> None:  # noqa: B027 - overriding is optional
        """Release connections. Default: nothing to release."""


class OpenAILLM(LLMProvider):
    """A model behind ``POST {base_url}/chat/completions``: OpenAI's, DeepSeek's, or any server's that speaks the
    protocol, such as Ollama or vLLM (they take any key).

    ``timeout`` is in seconds per attempt, ``max_retries`` how many attempts may follow the first. What a server does
    not take (a JSON Schema, ``max_tokens`` by this name, a temperature) is left out once it has said so.

    Raises ``ConfigurationError`` at once when the openai package is missing, ``InvalidInputError`` for an empty key.
    """

    def __init__(
        self,
        api_key: str,
        *,
        model: str = "gpt-4o-mini",
        base_url: str | None = None,
        timeout: float = 60,
        max_retries: int = 3,
    ) -> None:
        from neuromem.providers._openai_chat import ChatServer  # brings pydantic, which others need not wait for

        self._server = ChatServer(
            api_key,
            model=model,
            base_url=base_url or "https://api.openai.com/v1",
            timeout=timeout,
            max_retries=max_retries,
        )
        self._model = model

    @property
    def model_id(self) -> str:
        return self._model

    async def chat(self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int = 1024) -> str:
        check_request(messages, temperature, max_tokens)
        return await self._server.ask(messages, temperature, max_tokens)

    async def chat_json(
        self,
        messages: list[ChatMessage],
        *,
        schema: Mapping[str, Any],
        temperature: float = 0.0,
        max_tokens: int = 1024,
    ) -> str:
        check_request(messages, temperature, max_tokens)
        return await self._server.ask(messages, temperature, max_tokens, schema)

    async def close(self) -> None:
        await self._server.close()


class CallbackLLM(LLMProvider):
    """An async function of yours: ``async def answer(messages) -> str``. It is also given ``temperature`` and
    ``max_tokens`` where it has parameters of these names. ``model`` is the name shown for it."""

    def __init__(self, function: Callable[..., Any], *, model: str | None = None) -> None:
        if not callable(function):
            raise InvalidInputError(f"function must be an async function of messages, got {show(function)}")
        self._function = function
        self._model = model or getattr(function, "__name__", type(function).__name__)
        parameters = inspect.signature(function).parameters.values()
        everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        named = {parameter.name for parameter in parameters}
        self._options = {"temperature", "max_tokens"} & (named if not everything else {"temperature", "max_tokens"})

    @property
    def model_id(self) -> str:
        return self._model

    async def chat(self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int = 1024) -> str:
        check_request(messages, temperature, max_tokens)
        given = {"temperature": temperature, "max_tokens": max_tokens}
        answer = self._function(messages, **{name: given[name] for name in self._options})
        if not inspect.isawaitable(answer):
            raise ProviderError(f"{self._model} returned {show(answer)}; it must be an async function")
        return check_answer(await answer, self._model)


def check_request(messages: object, temperature: float, max_tokens: int) -> None:
    """Refuse what no model can be asked. Raises ``InvalidInputError``."""
    given: Any = messages
    if not isinstance(given, list) or not given:
        raise InvalidInputError(f"messages must be a list of one or more, got {show(messages)}")
    for position, message in enumerate(cast("list[Any]", given)):
        if not isinstance(message, dict) or not {"role", "content"} <= cast("dict[Any, Any]", message).keys():
            said = show(cast("object", message))
            raise InvalidInputError(f"message {position} is {said}, expected a dict with role and content")
    try:
        json.dumps(messages, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"the messages hold a lone surrogate {error.object[error.start]!r}; "
            "only text that UTF-8 can hold is accepted"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the messages cannot be written as JSON: {error}") from None
    if not (isinstance(temperature, int | float) and math.isfinite(temperature) and 0 <= temperature <= 2):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"temperature={show(temperature)} is not accepted; pass a number from 0 to 2")
    if not isinstance(max_tokens, int) or max_tokens < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"max_tokens={show(max_tokens)} is not accepted; pass a whole number from 1 on")


def check_answer(answer: object, model_id: str) -> str:
    """A model's answer, if it is a text that says something. Raises ``ProviderError``."""
    if not isinstance(answer, str):
        raise ProviderError(f"{model_id} answered with {type(answer).__name__} {show(answer)} instead of a text")
    if not answer.strip():
        raise ProviderError(f"{model_id} answered with nothing")
    return answer
