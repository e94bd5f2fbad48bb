"""Commands of those who run omnimem."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from memground.errors import InvalidInputError, MemoryStoreError
from omnimem.cli.shared import OPERATIONS, Asked, Limit, command, one_line

if TYPE_CHECKING:
    from memground.jobs import QueueStatus
    from omnimem.pipeline.verification import Report
    from omnimem.storage.base import BuildProgress, FailedChange

_SHOWN = 20


def register(app: typer.Typer) -> None:
    command(app, "export", panel=OPERATIONS)(export)
    command(app, "import", panel=OPERATIONS)(import_)
    command(app, "dead-letters", panel=OPERATIONS)(dead_letters)
    for function in (verify, repair, reembed, reindex, worker, doctor):
        command(app, panel=OPERATIONS)(function)


async def export(
    asked: Asked, file: Annotated[str, typer.Argument(metavar="FILE", help="- for standard output.")] = "-"
) -> None:
    """Write every record of the scope as JSON lines."""
    count = 0
    async with asked.open() as client:
        out = _output(file)
        try:
            async for record in client.export():
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
                count += 1
                _progress(count, "records")
        finally:
            if out is not sys.stdout:
                out.close()
    _progress_end()
    if file != "-":
        asked.show({"records": count}, f"{count:,} records written")


async def import_(
    asked: Asked,
    file: Annotated[str, typer.Argument(metavar="FILE", help="- for standard input.")],
    *,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave memories as they are that are there already.")
    ] = False,
    bulk: Annotated[
        bool,
        typer.Option(
            "--bulk", help="For very many: what makes searches quick is made at the end, where little was there before."
        ),
    ] = False,
) -> None:
    """Store what export wrote, with the same ids and history."""
    async with asked.open() as client:
        count = await client.import_records(
            _lines(file), skip_existing=skip_existing, bulk=bulk, progress=_rated() if sys.stderr.isatty() else None
        )
    _progress_end()
    asked.show({"records": count}, f"{count:,} records stored")


After = Annotated[str, typer.Option(metavar="MEMORY_ID", help="Go on behind this memory, as an interrupted run said.")]


async def verify(asked: Asked, *, after: After = "") -> int:
    """Compare the indexes with the truth; exit code 1 where they differ."""
    async with asked.open() as client:
        report = await _compare(client.verify, after)
    if asked.as_json:
        asked.json(report.to_dict())
    else:
        _report(report)
    return 1 if report.count else 0


async def repair(asked: Asked, *, after: After = "") -> None:
    """Compare, and make the index of every memory that differs anew."""
    async with asked.open() as client:
        report = await _compare(client.repair, after)
    if asked.as_json:
        asked.json(report.to_dict())
    else:
        _report(report)
        typer.echo(f"{report.repaired:,} memories indexed anew")


async def reembed(
    asked: Asked,
    *,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give up a change that was begun, and drop its vectors.")
    ] = False,
) -> None:
    """Change the embedding model to that of --embedding: make every vector anew, then switch at once.

    Other programs work on meanwhile, and must be started again with the new model afterwards. Stop it at any time; run
    it again and it goes on where it was.
    """
    async with asked.unopened() as client:
        done = await client.reembed(
            progress=lambda made, total: _progress(made, f"of {total:,} memories"), abandon=abandon
        )
    _progress_end()
    if abandon:
        said = f"stays with {done.model} ({done.dims} dimensions)"
    elif done.model_before == done.model:
        said = f"has vectors of {done.model} ({done.dims} dimensions) already"
    else:
        said = (
            f"now has vectors of {done.model} ({done.dims} dimensions) instead of {done.model_before}; "
            f"those of {done.memories:,} memories were made"
        )
    asked.show({"abandoned": abandon, **done.to_dict()}, said)


async def reindex(
    asked: Asked,
    *,
    abandon: Annotated[bool, typer.Option("--abandon", help="Drop what a run that broke off has made.")] = False,
) -> None:
    """Make the keyword index of Elasticsearch anew from the truth beside the one in use, then switch at once.

    Everybody works on meanwhile. Stop it at any time; run it again, or give it up by --abandon.
    """
    async with asked.open(bound=False) as client:
        if abandon:
            there = await client.abandon_reindex()
            asked.show({"abandoned": there}, "dropped what was made" if there else "there was nothing to give up")
            return
        done = await client.reindex(progress=lambda made, total: _progress(made, f"of {total:,} memories"))
    _progress_end()
    asked.show(done.to_dict(), f"{done.memories:,} memories, {done.records:,} records are in the new index")


async def worker(
    asked: Asked,
    *,
    once: Annotated[bool, typer.Option("--once", help="Apply what waits now, then stop.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="First give failed changes another round of tries.")
    ] = False,
) -> None:
    """Apply changes that wait for the indexes (--sync async), until Ctrl-C or SIGTERM. Several share the work."""
    _cancel_on_signals()
    done = 0
    with suppress(asyncio.CancelledError):
        async with asked.open(bound=False) as client:
            if retry_failed:
                await client.retry_failed()
            status = await client.status()
            if not asked.as_json:
                typer.echo(f"changes waiting: {status.waiting}, failed: {status.failed}")
            try:
                await (client.work() if once else client.work_forever())
            finally:
                done = client.applied
    asked.show({"applied": done}, f"stopped; {done:,} changes applied")


async def dead_letters(
    asked: Asked,
    *,
    replay: Annotated[bool, typer.Option("--replay", help="Give all of them another round of tries.")] = False,
    limit: Limit = 100,
) -> None:
    """List changes that failed for good, latest first: which memory, how often tried, when last, and why."""
    async with asked.open(bound=False) as client:
        if replay:
            count = await client.retry_failed()
            asked.show({"replayed": count}, f"{count:,} changes will be tried again")
            return
        letters = [_letter(each) for each in await client.failed(limit=limit)]
        failed = (await client.status()).failed
    if asked.as_json:
        asked.json({"failed": failed, "items": letters})
        return
    for each in letters:
        named = "the whole memory deleted" if each["record_id"] is None else f"record {each['record_id']}"
        typer.echo(f"{each['memory_id']}  {named}, tried {each['attempts']} times, last {each['time'] or 'long ago'}")
        typer.echo(f"    {one_line(each['error'])}")
    typer.echo(f"{failed:,} changes failed for good" + ("; --replay tries them again" if failed else ""))


async def doctor(asked: Asked) -> int:
    """Look at everything omnimem needs, and say what is missing. Changes nothing but missing tables."""
    checks: list[dict[str, Any]] = []

    def note(name: str, ok: bool, what: str, **more: Any) -> None:
        checks.append({"check": name, "ok": ok, "said": what, **more})

    try:
        async with asked.open(bound=False) as client:
            for name, value in (await client.about()).items():
                note(name, True, value)
            note("memories", True, f"{await client.count():,}")
            status = await client.status()
            since = f" since {status.oldest.astimezone():%Y-%m-%d %H:%M:%S}" if status.oldest else ""
            said = f"{status.waiting} waiting{since}, {status.failed} failed"
            note("changes", status.failed == 0, said, **_plain(status))
            if status.last_error:
                note("last error", False, status.last_error)
    except MemoryStoreError as error:
        note("connection", False, str(error))
    failed = any(not check["ok"] for check in checks)
    if asked.as_json:
        asked.json({"ok": not failed, "checks": checks})
    else:
        for check in checks:
            typer.echo(f"{'ok     ' if check['ok'] else 'PROBLEM'}  {check['check']}: {check['said']}")
    return 1 if failed else 0


def _letter(failed: "FailedChange") -> dict[str, Any]:
    change = failed.change
    return {
        "kind": change.kind, "memory_id": change.memory_id, "record_id": change.record_id,
        "attempts": failed.attempts, "time": failed.time and failed.time.isoformat(), "error": failed.error,
    }  # fmt: skip


def _plain(status: "QueueStatus") -> dict[str, Any]:
    return {
        "waiting": status.waiting, "failed": status.failed, "oldest": status.oldest, "parts": dict(status.parts),
    }  # fmt: skip


def _report(report: Any) -> None:
    for difference in report.differences[:_SHOWN]:
        typer.echo(f"{difference.memory_id}  {difference.index} index {difference.problem}")
    if report.count > _SHOWN:
        typer.echo(f"… and {report.count - _SHOWN:,} more")
    waiting = f", {report.waiting:,} changes still waiting" if report.waiting else ""
    typer.echo(
        f"{report.memories:,} memories, {report.records:,} records compared: {report.count:,} differences{waiting}"
    )


async def _compare(call: "Callable[..., Awaitable[Report]]", after: str) -> "Report":
    last = after

    def progress(done: int, memory_id: str) -> None:
        nonlocal last
        last = memory_id
        _progress(done, "memories")

    try:
        return await call(after=after, progress=progress)
    except asyncio.CancelledError:
        typer.echo(f"\ngo on with --after {last}", err=True)
        raise
    finally:
        _progress_end()


def _output(file: str) -> TextIO:
    if file == "-":
        return sys.stdout
    try:
        return Path(file).open("w", encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be written: {error.strerror}") from None


def _lines(file: str) -> Iterator[dict[str, Any]]:
    with ExitStack() as opened:
        try:
            source = sys.stdin if file == "-" else opened.enter_context(Path(file).open(encoding="utf-8"))
        except OSError as error:
            raise InvalidInputError(f"{file} cannot be read: {error.strerror}") from None
        try:
            for number, line in enumerate(source, start=1):
                if line.strip():
                    yield _record(line, f"{file}, line {number}")
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{file} is no UTF-8 text: {error.reason}") from None


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInputError(f"{where}: {line[:60]!r} is no JSON") from None


def _progress(done: int, what: str) -> None:
    if sys.stderr.isatty() and done % 200 == 0:
        typer.echo(f"\r{done:,} {what}", err=True, nl=False)


def _rated() -> "BuildProgress":
    """Shows how many records are in, and how quickly; then how far each index is."""
    since = time.monotonic()

    def show(step: str, done: int, total: int | None) -> None:
        if step == "memories":
            said = f"{done:,} records, {done / max(time.monotonic() - since, 0.001):,.0f} a second"
        else:
            said = f"{step}: {done / total:.0%}" if total else f"{step} is made"
        typer.echo(f"\r\x1b[K{said}", err=True, nl=False)

    return show


def _progress_end() -> None:
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", err=True, nl=False)


def _cancel_on_signals() -> None:
    """The first SIGINT or SIGTERM cancels the running task, which then ends in order; a second one acts as usual."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        if task is not None:
            task.cancel()

    for number in signals:
        loop.add_signal_handler(number, stop)
