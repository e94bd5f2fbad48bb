"""What every caller of a server that speaks OpenAI's protocol shares: opening a client and naming its failures."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from memground.errors import InvalidInputError, ProviderError, UnavailableError
from memground.extras import missing_package
from memground.usage import report_tokens

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_EXCERPT = 300


def open_client(api_key: str, *, base_url: str, timeout: float, max_retries: int) -> "AsyncOpenAI":
    """A client that waits ``timeout`` seconds per attempt and tries ``max_retries`` more times when that may help
    (connection lost, timeout, 408, 409, 429, 5xx), with growing pauses or as the server's Retry-After says.

    Raises ``ConfigurationError`` when the openai package is missing.
    """
    try:
        from openai import AsyncOpenAI
    except ImportError:
        raise missing_package("openai", "openai") from None
    if not api_key.strip():
        raise InvalidInputError(f"api_key is empty; pass the key for {base_url}")
    client = AsyncOpenAI(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=max_retries)
    # The client takes these from the environment and would send them to whichever server base_url names.
    client.organization = client.project = None
    return client


@contextmanager
def naming_failures(model: str, client: "AsyncOpenAI") -> Generator[None]:
    """Turn the client's errors into ``UnavailableError`` (later may work) or ``ProviderError`` (it will not).

    The messages name the model and the server, never the key, whatever the server wrote.
    """
    from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

    server = f"{model} at {client.base_url.host}"
    try:
        yield
    except APITimeoutError:
        raise UnavailableError(f"{server} did not answer within {client.timeout} seconds") from None
    except APIConnectionError as error:
        reason = excerpt(str(error.__cause__ or error), client)
        raise UnavailableError(f"{server} cannot be reached: {reason}") from None
    except APIStatusError as error:
        text = f"{server} answered with status {error.status_code}: {excerpt(error.message, client)}"
        may_pass = error.status_code in (408, 409, 429) or error.status_code >= 500
        raise (UnavailableError(text) if may_pass else ProviderError(text)) from None
    except APIError as error:
        raise ProviderError(f"{server} failed: {excerpt(error.message, client)}") from None


def report_usage(usage: Any) -> None:
    """Report what an answer's `usage` says was read and written, where it says so."""
    if isinstance(usage, dict):
        counts = cast("dict[str, Any]", usage)
        report_tokens(input=counts.get("prompt_tokens"), output=counts.get("completion_tokens"))


def excerpt(text: str, client: "AsyncOpenAI") -> str:
    """The beginning of what a server wrote, without the key it may have quoted."""
    text = text.replace(client.api_key, "***")
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"
