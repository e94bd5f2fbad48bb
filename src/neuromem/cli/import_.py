"""`neuromem import`: people's real histories."""

import asyncio
import shlex
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuromem.cli.shared import MEMORY, Asked, command

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from neuromem.importers import Export, Report

_LOOK = 0.2
"""Seconds between looks at how much is still to be embedded."""
_LEASE = 10.0
_WORTH_TIMING = 500
_BROKEN, _INTERRUPTED = 1, 130

Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE…", help="Exports: files, zip archives or unpacked folders; - reads standard input."),
]
Format = Annotated[
    str | None,
    typer.Option(help="jsonl, chatgpt, claude, mem0 or locomo, instead of what the file looks like."),
]
Only = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Only what belongs to this user (mem0, JSONL) or dialogue (LoCoMo)."),
]
Prefix = Annotated[str, typer.Option(metavar="TEXT", help="Put before the id of every session.")]
Tools = Annotated[bool, typer.Option("--tools", help="Import calls of tools and their output, too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and count, store nothing.")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Leave the vectors to `neuromem worker` or the next program that is open.")
]


def register(app: typer.Typer) -> None:
    command(app, "import", panel=MEMORY)(import_)


async def import_(
    asked: Asked,
    files: Files,
    *,
    format: Format = None,
    only: Only = None,
    session_prefix: Prefix = "",
    tools: Tools = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> int | None:
    """Import conversations and memories: ChatGPT, Claude, mem0, LoCoMo, JSONL.

    Everything keeps the time it was said, so that --as-of reaches back into it. Importing the same files again adds
    nothing, and continues where an interrupted import stopped.
    """
    from neuromem.importers import Export, load, survey

    export = Export(files, format=format, tools=tools)
    try:
        with _bars() as bars:
            reading = _Reading(bars, export)
            if dry_run:
                report = await survey(export.items(only=only), progress=reading.show)
                _show(asked, export, report, {"dry_run": True})
                return _BROKEN if report.broken else None
            if only is None:
                export.check_owners()
            async with asked.open() as nm:
                report = await load(
                    nm,
                    asked.user,
                    export.items(only=only),
                    origin=export.origin,
                    session_prefix=session_prefix,
                    progress=reading.show,
                )
                waiting = (await nm.background_status(asked.user)).waiting
            reading.done()
            further: dict[str, Any] = {"waiting": waiting}
            if waiting and not no_wait:
                further = await _embed(asked, bars, waiting)
    except asyncio.CancelledError:
        typer.echo("neuromem: interrupted; what was stored stays, the same command continues", err=True)
        return _INTERRUPTED
    _show(asked, export, report, further)
    return _BROKEN if report.broken else None


async def _embed(asked: Asked, bars: "Progress", waiting: int) -> dict[str, Any]:
    """Makes the vectors of what waits, with all cores: that is why it is not done while storing."""
    from memground.postgres.queue import JobPolicy

    begun, left = time.perf_counter(), waiting
    # After a kill, what was claimed waits until its lease ends: short, so that whoever starts again does not wonder.
    policy = JobPolicy(lease=_LEASE)
    task = bars.add_task("embedding", total=waiting, shown=f"{0:,} of {waiting:,} messages")
    async with asked.open(background=policy) as nm:
        while left:
            await asyncio.sleep(_LOOK)
            status = await nm.background_status(asked.user)
            left = status.waiting
            done = max(0, waiting - left)
            rate = done / (time.perf_counter() - begun)
            shown = f"{done:,} of {waiting:,} messages, {rate:,.0f}/s"
            bars.update(task, total=max(waiting, left), completed=done, shown=shown)
        failed = (await nm.background_status(asked.user)).failed
    seconds = time.perf_counter() - begun
    return {"waiting": left, "failed": failed, "embedded": waiting, "embedding_seconds": round(seconds, 2)}


class _Reading:
    """The bar of what is read and stored, by bytes."""

    def __init__(self, bars: "Progress", export: "Export") -> None:
        self._bars = bars
        self._export = export
        self._task: TaskID = bars.add_task("reading", total=export.size, shown="")

    def show(self, report: "Report") -> None:
        rate = report.read / max(report.seconds, 1e-3)
        shown = f"{report.read:,} messages, {rate:,.0f}/s"
        self._bars.update(self._task, completed=self._export.position, shown=shown)

    def done(self) -> None:
        size = self._export.size or self._export.position
        self._bars.update(self._task, total=size, completed=size)


@contextmanager
def _bars() -> "Generator[Progress]":
    """Bars on stderr, where it is a terminal; they go when all is done."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from neuromem.cli.render import console

    screen = console(stderr=True)
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("[dim]{task.fields[shown]}[/]"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        yield bars


def _show(asked: Asked, export: "Export", report: "Report", further: dict[str, Any]) -> None:
    if asked.as_json:
        about = {"user": asked.user, "origin": export.origin, "formats": sorted(export.formats)}
        asked.print_json({**about, **report.to_dict(), **further})
    else:
        undo = f"neuromem undo --origin {shlex.quote(export.origin)}{asked.options()}"
        _in_words(asked.console, asked, report, further, undo)
    if report.broken:
        typer.echo(f"neuromem: {report.broken}", err=True)


def _in_words(console: "Console", asked: Asked, report: "Report", further: dict[str, Any], undo: str) -> None:
    from rich.text import Text

    from memground.text import counted
    from neuromem.cli.render import one_line

    dry = "dry_run" in further
    new = "" if dry else "new "
    found = [counted(report.messages, f"{new}message")] if report.messages else []
    found += [counted(report.memories, f"{new}memory", f"{new}memories")] if report.memories else []
    what = " and ".join(found) or "nothing new"
    where = f" in {counted(report.conversations, 'conversation')}" if report.conversations else ""
    done = "Found" if dry else "Imported"
    console.print(Text.assemble((done, "bold"), f" {what}{where}{asked.whose}"), soft_wrap=True)
    lines = list(_details(report, further))
    if not dry and report.read:
        question = shlex.quote(one_line(report.title or "")[:80] or "what have I been working on?")
        lines.append(("ask", f"neuromem recall {question}{asked.options()}"))
        if report.messages or report.memories:
            lines.append(("take back", undo))
    for name, text in lines:
        console.print(Text.assemble("  ", (f"{name:<14}", "dim"), one_line(text)), soft_wrap=True)


def _details(report: "Report", further: dict[str, Any]) -> Generator[tuple[str, str]]:
    if report.there:
        yield "already there", f"{report.there:,}"
    if report.changed:
        yield "renewed", f"{report.changed:,} memories that changed since the last import"
    for name, tallies in (("left out", report.left_out), ("changed", report.altered)):
        by_count = sorted(tallies.items(), key=lambda item: -item[1].count)
        for place, (reason, tally) in enumerate(by_count):
            yield "" if place else name, f"{tally.count:,} × {reason} (first: {tally.first})"
    if report.first is not None and report.last is not None:
        yield "time", f"{report.first.date()} to {report.last.date()}"
    rate = f"{report.read / max(report.seconds, 1e-3):,.0f} messages a second"
    if further.get("embedded"):
        seconds = max(further["embedding_seconds"], 1e-3)
        rate += f"; embedded {further['embedded'] / seconds:,.0f} a second"
    if report.read >= _WORTH_TIMING:
        yield "speed", rate
    if further.get("failed"):
        yield (
            "failed",
            f"{further['failed']:,} messages have no vector and are found by words only; see neuromem doctor",
        )
    elif further.get("waiting"):
        yield "waiting", f"{further['waiting']:,} messages for their vectors; neuromem worker makes them"
