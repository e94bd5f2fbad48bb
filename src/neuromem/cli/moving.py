"""`neuromem export` and `import-user`: taking a user elsewhere."""

import gzip
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from memground.errors import InvalidInputError
from neuromem.cli.shared import OPERATIONS, Asked, command

if TYPE_CHECKING:
    from neuromem.types import ImportedUser

_LONGEST_LINE = 50_000_000
Objects = Annotated[
    bool, typer.Option("--objects/--no-objects", help="Whether the bytes of files go along; their texts always do.")
]
type Show = Callable[[str, int, int | None], None]


def register(app: typer.Typer) -> None:
    command(app, panel=OPERATIONS)(export)
    command(app, "import-user", panel=OPERATIONS)(import_user)


async def export(
    asked: Asked,
    *,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE", help="Where to: a file (packed where it ends in .gz), or - ."),
    ] = "-",
    vectors: Annotated[
        bool, typer.Option("--vectors/--no-vectors", help="Whether vectors go along; without they are made anew.")
    ] = True,
    objects: Objects = True,
) -> None:
    """Write everything a user has, with its whole history, as lines of JSON; for import-user.

    A file is there when it is whole, not before.
    """
    records = rows = files = 0
    named: int | None = None
    async with asked.open() as nm:
        with _written(output) as file, _bars(asked) as show:
            async for record in nm.export_user_data(asked.user, vectors=vectors, objects=objects):
                if record["record"] == "header":
                    rows, named = sum(record["rows"].values()), record["objects"]
                if record["record"] == "object" and record["part"] == 1:
                    files += 1
                    show("files", files, named)
                file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
                records += 1
                if records % 100 == 0 and not files:
                    show("writing", records, rows + 2)
    if output == "-":
        return
    value = {"file": output, "records": records, "rows": rows, "objects": files}
    stored = f" and {_files(files)}" if files else ""
    asked.show(value, f"{rows:,} rows{stored}{asked.whose} are in {output}")


async def import_user(
    asked: Asked,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What export wrote; - is stdin.")],
    *,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="USER", help="Another name for the user here.", show_default=False)
    ] = None,
    objects: Objects = True,
) -> None:
    """Restore a user from what export wrote: all of it or nothing, and only where that user has nothing yet.

    The user is called what the export says, or what --as says; --user says nothing here.
    """
    with _read(file) as lines, _bars(asked) as show:
        records = _records(lines, file)
        first = await anext(records, None)
        if first is None:
            raise InvalidInputError(f"{file} is empty; pass a file that neuromem export wrote")
        said = first.get("user_id")
        user = as_ if as_ is not None else said if isinstance(said, str) else asked.user

        async def all_of_them() -> AsyncIterator[dict[str, Any]]:
            yield first
            async for record in records:
                yield record

        async with asked.open() as nm:
            done = await nm.import_user_data(user, all_of_them(), objects=objects, progress=show)
    asked.show(done.to_dict(), _words(done))


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _words(done: "ImportedUser") -> str:
    named = "" if done.exported_from == done.user_id else f" (who was {done.exported_from})"
    rows = ", ".join(f"{count:,} of {table}" for table, count in done.rows.items())
    lines = [
        f"{done.user_id}{named} is here, as of {done.exported_at.isoformat(timespec='seconds')}: {rows or 'empty'}"
    ]
    if done.objects:
        lines.append(f"in the storage: {_files(done.objects)}")
    if done.embedded:
        lines.append(f"{done.embedded:,} texts were embedded anew")
    if done.waiting:
        lines.append(f"{done.waiting:,} messages wait for their vectors; neuromem worker makes them")
    return "\n".join(lines)


@contextmanager
def _written(output: str) -> Generator[IO[bytes]]:
    """Where to write; a file takes its name when all is written, so that nobody takes half of one for whole."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    part = path.with_name(f"{path.name}.part")
    try:
        # Nobody else may read what somebody's memory holds.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            if path.suffix == ".gz":
                with gzip.GzipFile(path.stem, "wb", 6, file) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield file
        part.replace(path)
    except OSError as error:
        raise InvalidInputError(f"{output} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def _read(file: str) -> Generator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            if packed:
                with gzip.open(plain) as unpacked:
                    yield cast(IO[bytes], unpacked)
            else:
                yield plain
    except (EOFError, gzip.BadGzipFile) as error:
        raise InvalidInputError(f"{file} is cut off or damaged: {error}") from None
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror or error}") from None


async def _records(lines: IO[bytes], file: str) -> AsyncIterator[dict[str, Any]]:
    number = 0
    while line := lines.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise InvalidInputError(f"line {number} of {file} has more than {_LONGEST_LINE:,} bytes")
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"line {number} of {file} is no JSON: {str(error)[:100]}") from None
        if not isinstance(record, dict):
            raise InvalidInputError(
                f"line {number} of {file} is no JSON object; pass a file that neuromem export wrote"
            )
        yield record


@contextmanager
def _bars(asked: Asked) -> Generator[Show]:
    """A bar on stderr, where it is a terminal; it goes when all is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from neuromem.cli.render import console

    screen = console(stderr=True)
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task("", total=None)

        def show(what: str, done: int, total: int | None) -> None:
            bars.update(task, description=what, completed=done, total=total)

        yield show
