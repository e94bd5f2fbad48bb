"""`neuromem kv`: key-values, such as the profile."""

import json
from typing import Annotated, Any

import typer

from memground.errors import NotFoundError
from neuromem.cli.shared import MEMORY, Asked, AsOf, Origin, command, view_of
from neuromem.cli.times import local, optional_moment

Namespace = Annotated[str, typer.Option("--namespace", "-N", help="Which collection of keys.")]
Key = Annotated[str, typer.Argument(help="The key.")]

_ABSENT = object()


def register(app: typer.Typer) -> None:
    kv = typer.Typer(help="Key-values, such as the profile; every change is a version.")
    for function in (get, set_, list_, delete, history):
        command(kv)(function)
    app.add_typer(kv, name="kv", rich_help_panel=MEMORY)


async def get(asked: Asked, key: Key, *, namespace: Namespace = "profile", as_of: AsOf = None) -> None:
    """Print the value under a key."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        value = await view_of(nm, known).kv.get(namespace, asked.user, key, default=_ABSENT)
    if value is _ABSENT:
        raise NotFoundError(f"nothing under {key!r} in namespace {namespace!r}{asked.whose}; see: neuromem kv list")
    if asked.as_json:
        return asked.print_json({"as_of": known, "namespace": namespace, "key": key, "value": value})
    from neuromem.cli import render

    asked.as_of_line(known)
    asked.say(render.clean(_shown(value)))


async def set_(
    asked: Asked,
    key: Key,
    value: Annotated[str, typer.Argument(help="JSON, or else a text.")],
    *,
    namespace: Namespace = "profile",
    text: Annotated[bool, typer.Option("--text", help="Take the value as a text, whatever it looks like.")] = False,
    origin: Origin = "cli",
) -> None:
    """Set the value under a key."""
    async with asked.open() as nm:
        entry = await nm.kv.set(namespace, asked.user, key, value if text else _value(value), origin=origin)
    asked.show(entry.to_dict(), f"{key} = {json.dumps(entry.value, ensure_ascii=False)}")


async def list_(
    asked: Asked,
    *,
    namespace: Namespace = "profile",
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    as_of: AsOf = None,
) -> None:
    """List the entries of a namespace, by key."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        entries = await view_of(nm, known).kv.list(namespace, asked.user, prefix=prefix)
    if asked.as_json:
        return asked.print_json({"as_of": known, "entries": [entry.to_dict() for entry in entries]})
    from neuromem.cli import render

    asked.as_of_line(known)
    if not entries:
        asked.say(f"nothing in namespace {namespace!r}{asked.whose}")
    table = render.grid({"no_wrap": True}, {"overflow": "fold"}, {"style": "dim", "no_wrap": True})
    for entry in entries:
        table.add_row(render.one_line(entry.key), render.clean(_shown(entry.value)), render.ago(entry.updated_at))
    asked.draw(table)


async def delete(asked: Asked, key: Key, *, namespace: Namespace = "profile", origin: Origin = "cli") -> None:
    """End an entry. Earlier moments still know it."""
    async with asked.open() as nm:
        if not await nm.kv.delete(namespace, asked.user, key, origin=origin):
            raise NotFoundError(f"nothing under {key!r} in namespace {namespace!r}{asked.whose}; see: neuromem kv list")
    asked.show({"namespace": namespace, "key": key, "deleted": True}, f"forgotten {key}")


async def history(asked: Asked, key: Key, *, namespace: Namespace = "profile", as_of: AsOf = None) -> None:
    """List all versions of an entry, the newest first."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        versions = await view_of(nm, known).kv.history(namespace, asked.user, key)
    if not versions:
        raise NotFoundError(f"nothing was ever under {key!r} in namespace {namespace!r}{asked.whose}")
    if asked.as_json:
        return asked.print_json({"as_of": known, "versions": [version.to_dict() for version in versions]})
    from neuromem.cli import render

    asked.as_of_line(known)
    table = render.grid({"style": "dim", "no_wrap": True}, {"overflow": "fold"}, {"style": "dim", "no_wrap": True})
    for version in versions:
        until = f"until {local(version.known_to, precise=True)}" if version.known_to else ""
        table.add_row(local(version.known_from, precise=True), render.clean(_shown(version.value)), until)
    asked.draw(table)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
