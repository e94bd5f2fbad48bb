"""`neuromem erase`: what would go, a typed yes, and a receipt."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memground.errors import InvalidInputError
from neuromem.cli.shared import OPERATIONS, Asked, Takes, Yes, command
from neuromem.cli.times import local, optional_moment

if TYPE_CHECKING:
    from rich.console import RenderableType

    from neuromem import ErasurePreview, ErasureReceipt, NeuroMemory

FULL_ID = 36


def register(app: typer.Typer) -> None:
    command(app, takes=Takes.PLACE, panel=OPERATIONS)(erase)


async def erase(
    asked: Asked,
    user: Annotated[str, typer.Argument(metavar="USER", help="Whose memory.")],
    *,
    memory: Annotated[str | None, typer.Option(metavar="ID", help="Only this memory, and what came from it.")] = None,
    message: Annotated[str | None, typer.Option(metavar="ID", help="Only this message, and what came from it.")] = None,
    document: Annotated[str | None, typer.Option(metavar="ID", help="Only this file, and what came from it.")] = None,
    history_before: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only states that had ended by then; the present stays.")
    ] = None,
    yes: Yes = False,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the receipt to this new file, as JSON.")] = None,
) -> int:
    """Erase for good: everything of a user, or one thing with all that was derived from it. It cannot be undone.

    Shows what would go and asks you to type the user's id. Ends with 1 when anything is left.
    """
    before = optional_moment(history_before, "--history-before")
    if not yes and not sys.stdin.isatty():
        raise InvalidInputError("this asks before it acts, and there is no terminal to ask on; pass --yes")
    if out is not None and (out.exists() or not out.parent.is_dir()):
        raise InvalidInputError(f"--out {str(out)!r} is there already, or its folder is not; name a new file")
    async with asked.open() as nm:
        if memory is not None and 0 < len(memory) < FULL_ID:
            memory = await nm.find_memory_id(user, memory)
        found = await nm.preview_erasure(
            user, memory_id=memory, message_id=message, document_id=document, before=before
        )
        if not yes:
            asked.draw(_table(f"to be erased: {_named(found)}", found))
            if typer.prompt(f"type the user's id ({user}) to erase this for good", err=True) != user:
                asked.say("nothing was erased")
                return 1
        receipt = await _erase(nm, found)
    if out is not None:
        out.write_text(json.dumps(receipt.to_dict(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    _show(asked, receipt)
    return 0 if receipt.complete else 1


async def _erase(nm: "NeuroMemory", found: "ErasurePreview") -> "ErasureReceipt":
    if found.before is not None:
        return await nm.purge_history(found.user_id, found.before)
    if found.id is None:
        return await nm.delete_user_data(found.user_id)
    erase = {"memory": nm.erase_memory, "message": nm.erase_message, "document": nm.erase_document}[found.what]
    return await erase(found.user_id, found.id)


def _show(asked: Asked, receipt: "ErasureReceipt") -> None:
    if asked.as_json:
        return asked.print_json({**receipt.to_dict(), "complete": receipt.complete})
    asked.draw(_table(f"erased: {_named(receipt)}", receipt))
    if receipt.read_again:
        asked.say(f"{receipt.read_again} messages that told of it as well wait to be extracted again")
    counted = f"counted again at {local(receipt.checked_at)}: "
    if receipt.complete:
        asked.say(f"{counted}nothing is left")
    else:
        rows = {name: count for name, count in receipt.left.items() if count}
        left = [*(f"{count:,} in {name}" for name, count in rows.items())]
        left += [f"{receipt.objects_left:,} stored files, which a program with their storage removes"] * bool(
            receipt.objects_left
        )
        asked.say(f"{counted}LEFT: {', '.join(left)}")
    asked.say("what no statement reaches:")
    for line in receipt.unreachable:
        asked.say(f"- {line}")


def _named(found: "ErasurePreview | ErasureReceipt") -> str:
    """What it is about, in words."""
    of = f"of {found.user_id}"
    if found.before is not None:
        return f"the history {of} before {local(found.before)}"
    return f"everything {of}" if found.id is None else f"{found.what} {found.id} {of}, and what came from it"


def _table(title: str, found: "ErasurePreview | ErasureReceipt") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from neuromem.cli import render

    table = render.grid({"style": "dim", "no_wrap": True}, {"justify": "right"})
    rows: Mapping[str, Any] = {**found.rows, "stored files": found.objects} if found.objects else found.rows
    for name, count in rows.items():
        table.add_row(name, f"{count:,}")
    table.add_row(Text("rows in all", style="bold"), Text(f"{found.total:,}", style="bold"))
    return Group(Text(render.one_line(title)), table)
