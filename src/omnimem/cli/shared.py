"""What commands share: the options they all take, how they open a client, and how they print.

::

    @command(app)
    async def get(asked: Asked, memory_id: Annotated[str, typer.Argument()]) -> None:
        async with asked.open() as client:
            asked.show(await client.get(memory_id))

The program gets `get`'s own parameters, then the scope's and `--settings --database-url --schema --embedding --sync
--json`.
"""

import asyncio
import inspect
import json
import os
import re
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from memground.errors import ConfigurationError, InvalidInputError

if TYPE_CHECKING:
    from memground.embedding import EmbeddingProvider
    from omnimem import Memory, OmniMemClient, SearchHit

type Command = Callable[..., Coroutine[Any, Any, int | None]]

SCOPE, CONNECTION = "Scope", "Options of every command"
MEMORIES, TIME, OPERATIONS = "Memories", "Time travel", "Operations"
"""The groups of commands in --help."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _scope(name: str, what: str) -> Any:
    return Annotated[
        str | None, typer.Option(f"--{name}", help=f"The {what}.", show_default=False, rich_help_panel=SCOPE)
    ]


_OPTIONS: Mapping[str, tuple[Any, Any]] = {
    "tenant_id": (_scope("tenant", "tenant"), None),
    "user_id": (_scope("user", "user"), None),
    "app_id": (_scope("app", "application"), None),
    "group_id": (_scope("group", "group"), None),
    "agent_id": (_scope("agent", "agent"), None),
    "run_id": (_scope("run", "run or session"), None),
    "namespace": (
        Annotated[
            list[str] | None,
            typer.Option(metavar="KEY=VALUE", help="A dimension of your own; repeatable.", rich_help_panel=SCOPE),
        ],
        None,
    ),
    "settings": (
        Annotated[
            str | None,
            typer.Option(
                envvar="OMNIMEM_SETTINGS",
                metavar="FILE",
                help="A TOML file of settings, for other servers than one PostgreSQL.",
                show_default=False,
                rich_help_panel=CONNECTION,
            ),
        ],
        None,
    ),
    "database_url": (
        Annotated[
            str | None,
            typer.Option(
                envvar="OMNIMEM_DATABASE_URL",
                help="A PostgreSQL URL; without one the embedded PostgreSQL.",
                show_default=False,
                rich_help_panel=CONNECTION,
            ),
        ],
        None,
    ),
    "schema": (
        Annotated[
            str | None,
            typer.Option(
                envvar="OMNIMEM_SCHEMA",
                help="The PostgreSQL schema of the tables (omnimem).",
                show_default=False,
                rich_help_panel=CONNECTION,
            ),
        ],
        None,
    ),
    "embedding": (
        Annotated[
            str,
            typer.Option(
                envvar="OMNIMEM_EMBEDDING",
                help="local, openai:MODEL@DIMS, siliconflow:MODEL@DIMS or sentence-transformers:MODEL.",
                rich_help_panel=CONNECTION,
            ),
        ],
        "local",
    ),
    "sync": (
        Annotated[
            str | None,
            typer.Option(
                envvar="OMNIMEM_SYNC",
                help="inline: indexed at once (the default); async: by a worker.",
                show_default=False,
                rich_help_panel=CONNECTION,
            ),
        ],
        None,
    ),
    "as_json": (
        Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.", rich_help_panel=CONNECTION)],
        False,
    ),
}

Limit = Annotated[int, typer.Option("--limit", "-n", help="At most so many.")]
AsOf = Annotated[
    str | None, typer.Option(metavar="TIME", help="Answer as at that moment, such as 2026-03-01T18:30+01:00.")
]
Filters = Annotated[
    str | None, typer.Option("--filter", metavar="JSON", help='Such as \'{"data.priority": {"gte": 3}}\'.')
]
Cursor = Annotated[str | None, typer.Option(help="Go on where an answer with this cursor ended.")]


@dataclass(frozen=True)
class Asked:
    """The common options of one call of the program."""

    tenant_id: str | None
    user_id: str | None
    app_id: str | None
    group_id: str | None
    agent_id: str | None
    run_id: str | None
    namespace: list[str] | None
    settings: str | None
    database_url: str | None
    schema: str | None
    embedding: str
    sync: str | None
    as_json: bool

    @asynccontextmanager
    async def open(self, *, bound: bool = True) -> "AsyncGenerator[OmniMemClient]":
        """A client bound within the scope asked for; unbound where the command is about everything."""
        from omnimem import Scope

        scope = Scope(
            tenant_id=self.tenant_id,
            user_id=self.user_id,
            app_id=self.app_id,
            group_id=self.group_id,
            agent_id=self.agent_id,
            run_id=self.run_id,
            namespace=_namespace(self.namespace or []),
        )
        async with self.unopened() as made, made as client:
            yield client.within(scope) if bound else client

    @asynccontextmanager
    async def unopened(self) -> "AsyncGenerator[OmniMemClient]":
        """A client with the model asked for, not opened yet."""
        from omnimem import OmniMemClient, Settings

        given = {"database_url": self.database_url, "schema": self.schema, "sync": self.sync}
        settings = Settings() if self.settings is None else Settings.from_file(self.settings)
        settings = replace(settings, **{key: value for key, value in given.items() if value is not None})
        model = open_embedding(self.embedding)
        try:
            yield OmniMemClient.connect(settings, embedding=model, background=False)
        finally:
            await model.close()

    def show(self, value: Any, line: str) -> None:
        """The result: JSON where asked for, else a line."""
        if self.as_json:
            self.json(value)
        else:
            typer.echo(line)

    @staticmethod
    def json(value: Any) -> None:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=datetime.isoformat) + "\n")


def open_embedding(given: str) -> "EmbeddingProvider":
    """The model an option names. Keys come from the environment."""
    from memground.embedding import LocalEmbedding, OpenAIEmbedding, SentenceTransformerEmbedding, SiliconFlowEmbedding

    kind, _, rest = given.partition(":")
    model, _, size = rest.rpartition("@") if kind != "sentence-transformers" else (rest, "", "")
    dims = int(size) if size.isascii() and size.isdigit() and len(size) < 6 else 0
    match kind:
        case "local" if not rest:
            return LocalEmbedding()
        case "sentence-transformers" if model:
            return SentenceTransformerEmbedding(model)
        case "openai" if model and dims:
            base_url = os.environ.get("OPENAI_BASE_URL") or None
            return OpenAIEmbedding(_key("OPENAI_API_KEY"), model=model, dims=dims, base_url=base_url)
        case "siliconflow" if model and dims:
            base_url = os.environ.get("SILICONFLOW_BASE_URL") or "https://api.siliconflow.cn/v1"
            return SiliconFlowEmbedding(_key("SILICONFLOW_API_KEY"), model=model, dims=dims, base_url=base_url)
        case _:
            raise InvalidInputError(
                f"--embedding {given[:80]!r} names no model; accepted: local, openai:MODEL@DIMS, "
                "siliconflow:MODEL@DIMS, sentence-transformers:MODEL"
            )


def _key(variable: str) -> str:
    if key := os.environ.get(variable):
        return key
    raise ConfigurationError(f"this embedding model needs a key; set {variable}")


def _namespace(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise InvalidInputError(f"--namespace {pair[:80]!r} is not accepted; pass KEY=VALUE, such as project=p1")
        found[key] = value
    return found


def read_json(text: str | None, option: str) -> dict[str, Any] | None:
    """A JSON object, or None where none was given."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{option} {text[:80]!r} is no JSON: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise InvalidInputError(f'{option} {text[:80]!r} is no JSON object; pass such as \'{{"topic": "work"}}\'')
    return cast("dict[str, Any]", found)


def moment(text: str | None, option: str) -> datetime | None:
    """A moment; without a time zone the local one holds."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise InvalidInputError(
            f"{option} {text[:80]!r} is no time; accepted: 2026-03-01 or 2026-03-01T18:30:00+01:00"
        ) from None


def one_line(text: str, width: int = 100) -> str:
    """A text a terminal only shows: what would move its cursor becomes a mark."""
    line = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def memory_line(memory: "Memory") -> str:
    """A record in one line: what it says, and how it is named again."""
    content = memory.content
    said = content.text if content.text is not None else json.dumps(content.data, ensure_ascii=False)
    when = memory.created_time.astimezone().isoformat(sep=" ", timespec="seconds")
    return f"{memory.memory_id}  {when}  {one_line(said)}"


def record_line(memory: "Memory") -> str:
    """A record of a history in one line."""
    latest = "  (latest)" if memory.is_latest else ""
    return f"{memory.record_id}  {memory.version}  {memory_line(memory).partition('  ')[2]}{latest}"


def hit_lines(number: int, hit: "SearchHit") -> list[str]:
    """A hit, and where it was asked for why it stands there."""
    lines = [f"{number:>3}  {hit.score:.4f}  {memory_line(hit.memory)}"]
    for arm in hit.explanation.arms if hit.explanation else ():
        field = f" by {arm.field}" if arm.field else ""
        lines.append(f"     {arm.arm}: rank {arm.rank}{field}, score {arm.score:.3f}, adds {arm.added:.4f}")
    return lines


def command(app: typer.Typer, name: str | None = None, *, panel: str) -> Callable[[Command], Command]:
    """Makes an async function a command. It is given an `Asked`, then its own options, and may return an exit code."""

    def register(function: Command) -> Command:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        common = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (annotation, default) in _OPTIONS.items()
        ]

        def run(**given: Any) -> int | None:
            asked = Asked(**{key: given.pop(key) for key in _OPTIONS})
            return asyncio.run(function(asked, **given))

        keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__signature__ = inspect.Signature([*keyword_only, *common])  # pyright: ignore[reportFunctionMemberAccess]
        run.__annotations__ = {}
        run.__doc__ = function.__doc__
        app.command(name or function.__name__.rstrip("_"), rich_help_panel=panel)(run)
        return function

    return register
