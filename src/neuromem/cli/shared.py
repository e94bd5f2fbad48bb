"""What commands share: the options they all take, how they open a mind, and how they print.

::

    @command(app)
    async def recall(asked: Asked, query: Annotated[str, typer.Argument()], *, limit: Limit = 10) -> int | None:
        async with asked.open() as nm:
            found = await nm.recall(asked.user, query, limit=limit)
        asked.show(found.to_dict(), f"{len(found.merged)} found")

The program gets `recall`'s own parameters, then `--user --database-url --schema --embedding --storage --json`.
"""

import asyncio
import inspect
import json
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from memground.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from memground.filters import Filter
    from memground.postgres.queue import JobPolicy
    from neuromem import NeuroMemory
    from neuromem.facades import Reader
    from neuromem.providers.llm import LLMProvider

type Command = Callable[..., Coroutine[Any, Any, int | None]]

COMMON = "Options of every command"
MEMORY, TIME, OPERATIONS = "Memory", "Time travel", "Operations"
"""The groups of commands in --help."""

User = Annotated[
    str,
    typer.Option("--user", "-u", envvar="NEUROMEM_USER", help="Whose memory.", rich_help_panel=COMMON),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="NEUROMEM_DATABASE_URL",
        help="A PostgreSQL URL; without one the embedded PostgreSQL.",
        show_default=False,
        rich_help_panel=COMMON,
    ),
]
Schema = Annotated[
    str,
    typer.Option(envvar="NEUROMEM_SCHEMA", help="The PostgreSQL schema of the tables.", rich_help_panel=COMMON),
]
Embedding = Annotated[
    str,
    typer.Option(
        envvar="NEUROMEM_EMBEDDING",
        help="The embedding model: local, openai:MODEL, siliconflow:MODEL, sentence-transformers:MODEL.",
        rich_help_panel=COMMON,
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="NEUROMEM_STORAGE",
        metavar="PLACE",
        help="Where files are kept: a folder, or s3://BUCKET; without one a folder beside the embedded PostgreSQL.",
        show_default=False,
        rich_help_panel=COMMON,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.", rich_help_panel=COMMON)]
Limit = Annotated[int, typer.Option("--limit", "-n", help="At most so many.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsOf = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Answer as at that moment: a date, a time, or words such as '3 weeks ago'."),
]
ValidAt = Annotated[str | None, typer.Option(metavar="TIME", help="Only what is true in the world at that moment.")]
Where = Annotated[str | None, typer.Option(metavar="JSON", help='A filter, such as \'{"metadata.topic": "work"}\'.')]
Types = Annotated[
    list[str] | None, typer.Option("--type", "-t", metavar="TYPE", help="Only memories of this type; may be repeated.")
]
Origin = Annotated[str, typer.Option(help="The writer's name, by which undo finds it.")]
Explain = Annotated[bool, typer.Option("--explain", help="Say why each hit stands where it stands.")]


Timezone = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        envvar="NEUROMEM_TIMEZONE",
        metavar="ZONE",
        help="By whose clocks 'yesterday' is meant, such as Europe/Lisbon; without one this machine's.",
        show_default=False,
    ),
]


Model = Annotated[str, typer.Option("--model", envvar="NEUROMEM_LLM", help="The language model's name.")]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="A server that speaks OpenAI's protocol; without one OPENAI_BASE_URL, or OpenAI's.",
        show_default=False,
    ),
]


class Interrupted(Exception):
    """Ctrl-C. A KeyboardInterrupt would be caught, and swallowed, on its way out."""


class Takes(Enum):
    """Which of the common options a command takes."""

    MIND = ("user", "database_url", "schema", "embedding", "storage", "as_json")
    PLACE = ("database_url", "schema", "embedding", "storage", "as_json")
    JSON = ("as_json",)


_DEFAULTS: Mapping[str, tuple[Any, Any]] = {
    "user": (User, "me"),
    "database_url": (DatabaseUrl, None),
    "schema": (Schema, "neuromem"),
    "embedding": (Embedding, "local"),
    "storage": (Storage, None),
    "as_json": (Json, False),
}


@dataclass(frozen=True)
class Asked:
    """The common options of one call of the program."""

    user: str = "me"
    database_url: str | None = None
    schema: str = "neuromem"
    embedding: str = "local"
    storage: str | None = None
    as_json: bool = False

    @asynccontextmanager
    async def open(
        self,
        *,
        background: "bool | JobPolicy" = False,
        llm: "LLMProvider | None" = None,
        timezone: str = "UTC",
    ) -> "AsyncGenerator[NeuroMemory]":
        """The mind asked for. `background`: whether this program makes the vectors of messages meanwhile, and, with
        `llm`, extracts them; `timezone`: by whose clocks. The language model is closed with it."""
        from neuromem import NeuroMemory
        from neuromem.cli.models import open_embedding
        from neuromem.cli.storages import open_storage

        async with AsyncExitStack() as opened:
            if llm is not None:
                opened.push_async_callback(llm.close)
            embedding = open_embedding(self.embedding)
            opened.push_async_callback(embedding.close)
            storage = None if self.storage is None else open_storage(self.storage)
            if storage is not None:
                opened.push_async_callback(storage.close)
            mind = NeuroMemory(
                self.database_url, embedding, llm, storage, schema=self.schema, background=background, timezone=timezone
            )
            yield await opened.enter_async_context(mind)

    @cached_property
    def console(self) -> "Console":
        """Where words for people go: stdout, or stderr when stdout is for JSON."""
        from neuromem.cli.render import console

        return console(stderr=self.as_json)

    def draw(self, what: "RenderableType") -> None:
        """A table or the like, for people."""
        from neuromem.cli.render import draw

        draw(self.console, what)

    def as_of_line(self, as_of: datetime | None) -> None:
        """Says how --as-of was understood, where it was given."""
        if as_of is not None:
            from neuromem.cli import render

            self.draw(render.as_of(as_of))

    def show(self, value: Mapping[str, Any], in_words: str) -> None:
        """The result: JSON where asked for, else a line."""
        if self.as_json:
            print_json(value)
        else:
            self.say(in_words)

    @staticmethod
    def print_json(value: Mapping[str, Any]) -> None:
        """A JSON document on stdout; times as ISO 8601."""
        print_json(value)

    @property
    def whose(self) -> str:
        """Names the user where it is not the usual one, for sentences."""
        return "" if self.user == "me" else f" for {self.user}"

    def say(self, line: str) -> None:
        """A plain line for people; with --json it goes to stderr."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def options(self) -> str:
        """What to repeat so that another command means the same memory, such as ` --user anna`."""
        words: list[str] = []
        for name, (_, default) in _DEFAULTS.items():
            value = getattr(self, name)
            # An address may hold a password.
            if name not in ("as_json", "database_url") and value != default:
                words += [f"--{name}", value]
        return f" {shlex.join(words)}" if words else ""


def print_json(value: Any) -> None:
    """A JSON document on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=datetime.isoformat) + "\n")


def read_json(text: str, option: str) -> Any:
    """What a JSON text says; raises InvalidInputError naming the option."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"{option} {text[:80]!r} is no JSON: {error}") from None
    except RecursionError:
        raise InvalidInputError(f"{option} is nested too deeply") from None


def read_object(text: str | None, option: str) -> dict[str, Any] | None:
    """A JSON object, or None where none was given."""
    if text is None:
        return None
    found = read_json(text, option)
    if not isinstance(found, dict):
        raise InvalidInputError(f'{option} {text[:80]!r} is no JSON object; pass such as \'{{"topic": "work"}}\'')
    return cast("dict[str, Any]", found)


def read_filter(text: str | None) -> "Filter | None":
    """The filter of --where."""
    from memground.filters import parse

    return parse(read_object(text, "--where"))


def read_texts(text: str) -> list[str]:
    """The text, or with `-` the lines of stdin that are not empty."""
    if text != "-":
        return [text]
    # The event loop's handler would only note Ctrl-C, and go on reading.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise KeyboardInterrupt  # noted before
        lines = sys.stdin.buffer.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"stdin is no UTF-8 text: {error}") from None
    finally:
        signal.signal(signal.SIGINT, before)
    return [line for line in lines if line.strip()]


def view_of(nm: "NeuroMemory", as_of: datetime | None) -> "Reader":
    """All reads, at a moment where one is given."""
    return nm if as_of is None else nm.as_of(as_of)


def command(
    app: typer.Typer, name: str | None = None, *, takes: Takes = Takes.MIND, panel: str | None = None
) -> Callable[[Command], Command]:
    """Makes an async function a command. It is given an `Asked`, then its own options, and may return an exit code."""

    def register(function: Command) -> Command:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        common = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (annotation, default) in _DEFAULTS.items()
            if key in takes.value
        ]

        def run(**given: Any) -> int | None:
            asked = Asked(**{key: given.pop(key) for key in takes.value})
            try:
                return asyncio.run(function(asked, **given))
            except KeyboardInterrupt:
                raise Interrupted from None

        keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__signature__ = inspect.Signature([*keyword_only, *common])  # pyright: ignore[reportFunctionMemberAccess]
        run.__annotations__ = {}
        run.__doc__ = function.__doc__
        app.command(name or function.__name__.rstrip("_"), rich_help_panel=panel)(run)
        return function

    return register
