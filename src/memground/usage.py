"""How a provider says what a call cost in tokens, to whoever is counting."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_counting: ContextVar["Tokens | None"] = ContextVar("tokens", default=None)


@dataclass(slots=True)
class Tokens:
    """Tokens read and written by the model, summed over the requests of a call; None: the server did not say."""

    input: int | None = None
    output: int | None = None


@contextmanager
def counting() -> Generator[Tokens]:
    """What is reported inside the block is added up here."""
    tokens = Tokens()
    token = _counting.set(tokens)
    try:
        yield tokens
    finally:
        _counting.reset(token)


def report_tokens(*, input: object = None, output: object = None) -> None:
    """Called by a provider with what its server said; anything but a count is ignored, and all when nobody counts."""
    tokens = _counting.get()
    if tokens is not None:
        tokens.input = _sum(tokens.input, input)
        tokens.output = _sum(tokens.output, output)


def _sum(before: int | None, more: object) -> int | None:
    if not isinstance(more, int) or isinstance(more, bool) or more < 0:
        return before
    return (before or 0) + more
