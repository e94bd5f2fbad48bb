"""One chat model behind OpenAI's protocol: how it is asked, and how its answer is read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from memground.errors import InvalidInputError, ProviderError, TruncatedError
from memground.openai_protocol import excerpt, naming_failures, open_client, report_usage


@dataclass(frozen=True)
class _Dialect:
    """How a server wants to be asked."""

    form: Literal["json_schema", "json_object"] | None = "json_schema"
    length: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    tempered: bool = True

    def understood(self, refusal: str, *, formed: bool) -> "_Dialect | None":
        """How to ask instead, or None where the refusal is about something else. `formed`: a form was asked for."""
        if self.length == "max_tokens" and "max_completion_tokens" in refusal:
            return replace(self, length="max_completion_tokens")
        if self.tempered and "temperature" in refusal:
            return replace(self, tempered=False)
        if formed and self.form and re.search(r"response.?format|json.?schema|json.?object|structured|schema", refusal):
            return replace(self, form="json_object" if self.form == "json_schema" else None)
        return None


class ChatServer:
    """Asks one model, and remembers what its server does not take."""

    def __init__(self, api_key: str, *, model: str, base_url: str, timeout: float, max_retries: int) -> None:
        if not isinstance(model, str) or not model.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"model={model!r} is not accepted; pass the model's name")
        self._client = open_client(api_key, base_url=base_url, timeout=timeout, max_retries=max_retries)
        self._model = model
        self._dialect = _Dialect()

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        temperature: float,
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
    ) -> str:
        """The model's answer; raises ProviderError, TruncatedError, UnavailableError."""
        from openai import APIStatusError

        create: Any = self._client.chat.completions.with_raw_response.create
        dialect = self._dialect
        with naming_failures(self._model, self._client):
            while True:
                options: dict[str, Any] = {dialect.length: max_tokens}
                if dialect.tempered:
                    options["temperature"] = temperature
                if schema is not None and dialect.form is not None:
                    options["response_format"] = _response_format(schema, dialect.form)
                try:
                    response = await create(model=self._model, messages=messages, **options)
                    break
                except APIStatusError as refusal:
                    better = dialect.understood(refusal.response.text.lower(), formed=schema is not None)
                    if refusal.status_code not in (400, 422) or better is None:
                        raise
                    self._dialect = dialect = better
        # Read here and not by the client, which believes whatever comes.
        return self._read(response.http_response.content, max_tokens)

    async def close(self) -> None:
        await self._client.close()

    def _read(self, content: bytes, max_tokens: int) -> str:
        try:
            answer = _Answer.model_validate_json(content)
        except ValidationError:
            found = excerpt(content.decode(errors="replace"), self._client)
            raise ProviderError(f"{self._model} did not answer as a chat model but with: {found}") from None
        report_usage(answer.usage)
        choice = answer.choices[0]
        text = choice.message.content or ""
        if choice.message.refusal:
            raise ProviderError(f"{self._model} refused: {excerpt(choice.message.refusal, self._client)}")
        if choice.finish_reason == "length":
            raise TruncatedError(
                f"{self._model} was cut off at max_tokens={max_tokens}; allow more, or ask for less", text
            )
        if choice.finish_reason == "content_filter":
            raise ProviderError(f"{self._model} gave no answer: its server's content filter stopped it")
        if not text.strip():
            raise ProviderError(f"{self._model} answered with nothing (finish_reason {choice.finish_reason!r})")
        return text


def _response_format(schema: Mapping[str, Any], form: Literal["json_schema", "json_object"]) -> dict[str, Any]:
    if form == "json_object":
        return {"type": "json_object"}
    name = re.sub(r"[^A-Za-z0-9_-]", "_", str(schema.get("title", "answer")))[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Answer(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Any = None
