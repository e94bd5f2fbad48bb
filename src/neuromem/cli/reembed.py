"""`neuromem reembed`: another embedding model for a schema."""

from typing import TYPE_CHECKING, Annotated

import typer

from neuromem.cli.shared import OPERATIONS, Asked, Takes, command

if TYPE_CHECKING:
    from neuromem.types import Reembedded


def register(app: typer.Typer) -> None:
    command(app, takes=Takes.PLACE, panel=OPERATIONS)(reembed)


async def reembed(
    asked: Asked,
    *,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give up a change that was begun, and drop its vectors.")
    ] = False,
) -> None:
    """Change the embedding model of a schema to that of --embedding: make every vector anew, then switch at once.

    Other programs work on meanwhile, and must be started again with the new model afterwards. Stop it at any time; run
    it again and it goes on where it was.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from neuromem import reembed as change
    from neuromem.cli.models import open_embedding

    embedding = open_embedding(asked.embedding)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=asked.console, transient=True, disable=not asked.console.is_terminal) as bars:
            bar = bars.add_task("vectors", total=None)

            def progress(done: int, total: int) -> None:
                description = "vectors" if done < total else "switching"
                bars.update(bar, completed=done, total=total, description=description)

            done = await change(asked.database_url, embedding, schema=asked.schema, progress=progress, abandon=abandon)
    finally:
        await embedding.close()
    asked.show({"abandoned": abandon, **done.to_dict()}, _words(asked.schema, done, abandon=abandon))


def _words(schema: str, done: "Reembedded", *, abandon: bool) -> str:
    if abandon:
        return f"schema {schema!r} stays with {done.model} ({done.dims} dimensions)"
    if done.model_before == done.model and not done.memories + done.messages:
        return f"schema {schema!r} has vectors of {done.model} ({done.dims} dimensions) already"
    return (
        f"schema {schema!r} now has vectors of {done.model} ({done.dims} dimensions) instead of {done.model_before}: "
        f"{done.memories:,} of memories and {done.messages:,} of messages were made"
    )
