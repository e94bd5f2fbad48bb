"""`neuromem files`: files, what is written in them, and their bytes."""

import asyncio
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memground.errors import InvalidInputError, NotFoundError
from neuromem.cli.shared import MEMORY, Asked, AsOf, Explain, Limit, Origin, command, read_object, view_of
from neuromem.cli.times import local, optional_moment

if TYPE_CHECKING:
    from rich.progress import Progress

    from neuromem.facades import Reader
    from neuromem.types import Document, FileProgress

_FAILED, _INTERRUPTED = 1, 130
_MANY = 1_000
_SHOWN = 1_500

Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag; may be repeated.")]
Category = Annotated[str | None, typer.Option("--category", "-c", help="Its category.")]
FileType = Annotated[str | None, typer.Option("--file-type", metavar="TYPE", help="text, markdown, html, pdf or docx.")]
FileId = Annotated[
    str, typer.Argument(metavar="FILE", help="A file's name, its id, or the first characters of it (four or more).")
]


def register(app: typer.Typer) -> None:
    files = typer.Typer(help="Files and what is written in them.")
    for function in (add, list_, search, show, get, set_, rm):
        command(files)(function)
    app.add_typer(files, name="files", rich_help_panel=MEMORY)


async def add(
    asked: Asked,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files, or folders of files.")],
    *,
    tags: Tag = None,
    category: Category = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="An object, kept with each.")] = None,
    known_at: Annotated[str | None, typer.Option(metavar="TIME", help="When they became known, if not now.")] = None,
    origin: Origin = "cli",
) -> int | None:
    """Store files and remember what is written in them: text, Markdown, HTML, PDF, Word."""
    found = list(_files(paths))
    about: dict[str, Any] = {
        "category": "general" if category is None else category,
        "tags": tags or (),
        "metadata": read_object(metadata, "--metadata"),
        "known_at": optional_moment(known_at, "--known-at"),
        "origin": origin,
    }
    stored: list[Document] = []
    failed: dict[str, str] = {}
    try:
        with _bars() as bars:
            async with asked.open() as nm:
                for path in found:
                    with _bar(bars, path.name) as progress:
                        try:
                            document = await nm.files.upload(asked.user, path.name, path, progress=progress, **about)
                        except InvalidInputError as error:  # of this file; the next one may be good
                            failed[str(path)] = str(error)
                            continue
                    stored.append(document)
                    _say_stored(asked, document)
    except asyncio.CancelledError:
        typer.echo("neuromem: interrupted; whole files stay, the same command continues", err=True)
        return _INTERRUPTED
    if asked.as_json:
        asked.print_json({"stored": [document.to_dict() for document in stored], "failed": failed})
    for path, error in failed.items():
        typer.echo(f"neuromem: {path}: {' '.join(error.split())}", err=True)
    return _FAILED if failed else None


async def list_(
    asked: Asked,
    *,
    tags: Tag = None,
    category: Category = None,
    file_type: FileType = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the list before ended.")] = None,
    as_of: AsOf = None,
) -> None:
    """List files, the last stored or changed first."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        page = await view_of(nm, known).files.list(
            asked.user, category=category, tags=tags, file_type=file_type, cursor=cursor, limit=limit
        )
    if asked.as_json:
        return asked.print_json({"as_of": known, **page.to_dict()})
    from neuromem.cli import render

    asked.as_of_line(known)
    if not page.items:
        asked.say(f"no files{asked.whose}")
    table = render.grid(
        {"style": "cyan", "no_wrap": True},
        {"overflow": "fold"},
        {"style": "dim", "no_wrap": True},
        {"style": "dim", "overflow": "fold"},
    )
    for document in page.items:
        size = f"{document.file_type}, {_size(document.file_size)}"
        labels = " ".join((document.category, *(f"#{tag}" for tag in document.tags)))
        table.add_row(
            render.short(document.document_id), render.one_line(document.filename), size, render.one_line(labels)
        )
    asked.draw(table)
    if page.cursor:
        asked.say(f"more: neuromem files list --cursor {page.cursor}{asked.options()}")


async def search(
    asked: Asked,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    tags: Tag = None,
    category: Category = None,
    file_type: FileType = None,
    in_: Annotated[str | None, typer.Option("--in", metavar="FILE", help="Only in this file.")] = None,
    limit: Limit = 5,
    explain: Explain = False,
    as_of: AsOf = None,
) -> None:
    """Find passages of files, by meaning and by word."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        reader = view_of(nm, known)
        document_id = None if in_ is None else (await _named(asked, reader, in_)).document_id
        hits = await reader.files.search(
            asked.user,
            query,
            limit=limit,
            category=category,
            tags=tags,
            file_type=file_type,
            document_id=document_id,
            explain=explain,
        )
    if asked.as_json:
        return asked.print_json({"as_of": known, "hits": [hit.to_dict() for hit in hits]})
    from neuromem.cli import render

    asked.as_of_line(known)
    if not hits:
        asked.say("no file says anything of that")
    if explain:
        asked.draw(render.explained([(hit.text, hit.score, hit.explanation) for hit in hits]))
        return
    for number, hit in enumerate(hits, 1):
        where = hit.document.filename if hit.document.pages < 2 else f"{hit.document.filename}, page {hit.page}"
        about = (render.one_line(where), render.short(hit.document.document_id), f"score {hit.score:.2f}")
        asked.draw(render.Entry(number, hit.text, about))


async def show(
    asked: Asked,
    file: FileId,
    *,
    page: Annotated[int | None, typer.Option(help="The whole text of this page.")] = None,
    text: Annotated[bool, typer.Option("--text", help="The whole text.")] = False,
    as_of: AsOf = None,
) -> None:
    """Show what is known of a file, and how its text begins."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        reader = view_of(nm, known)
        document = await _named(asked, reader, file)
        written = await reader.files.get_text(asked.user, document.document_id, page=page)
        versions = await reader.files.history(asked.user, document.document_id)
    if asked.as_json:
        return asked.print_json({"as_of": known, **document.to_dict(), "text": written, "versions": len(versions)})
    from neuromem.cli import render

    asked.as_of_line(known)
    if text or page is not None:
        return asked.say(render.clean(written.rstrip("\n")))
    asked.draw(_details(document, len(versions)))
    begins = written[:_SHOWN].rstrip()
    asked.say("\n" + render.clean(begins) + (" …" if len(written) > _SHOWN else ""))


async def get(
    asked: Asked,
    file: FileId,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="Where to write it; - is stdout. Default: its name, here."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    url: Annotated[bool, typer.Option("--url", help="Print an address to download it from instead.")] = False,
    expires: Annotated[int, typer.Option(metavar="SECONDS", help="For how long that address works.")] = 3600,
    as_of: AsOf = None,
) -> None:
    """Get a file back as it was stored."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        reader = view_of(nm, known)
        document = await _named(asked, reader, file)
        if url:
            address = await reader.files.download_url(asked.user, document.document_id, expires_in=expires)
            return asked.show({"document_id": document.document_id, "url": address}, address)
        data = await reader.files.download(asked.user, document.document_id)
    if output is not None and str(output) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return None
    path = Path(Path(document.filename).name or "file") if output is None else output
    path = path / Path(document.filename).name if path.is_dir() else path
    try:
        with path.open("wb" if force else "xb") as written:
            written.write(data)
    except FileExistsError:
        raise InvalidInputError(
            f"{path} is there already; pass --force to write over it, or another --output"
        ) from None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror or error}") from None
    asked.show(
        {"document_id": document.document_id, "path": str(path), "bytes": len(data)},
        f"wrote {path} ({_size(len(data))})",
    )


async def set_(
    asked: Asked,
    file: FileId,
    *,
    tags: Tag = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Take all tags away.")] = False,
    category: Category = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="An object, in place of the one before.")] = None,
    origin: Origin = "cli",
) -> None:
    """Change what is said of a file: its tags, its category."""
    given = {
        "category": category,
        "tags": [] if no_tags else tags,
        "metadata": read_object(metadata, "--metadata"),
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise InvalidInputError("nothing to change; pass --tag, --no-tags, --category or --metadata")
    async with asked.open() as nm:
        document = await _named(asked, nm, file)
        document = await nm.files.update(asked.user, document.document_id, **changes, origin=origin)
    asked.show(document.to_dict(), f"now {_brief(document)}")


async def rm(
    asked: Asked,
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Names, ids, or the first characters of ids.")],
    *,
    origin: Origin = "cli",
) -> None:
    """Forget files from now on. Earlier moments still know them, and adding them again brings them back."""
    async with asked.open() as nm:
        found = [await _named(asked, nm, file) for file in files]
        for document in found:
            await nm.files.delete(asked.user, document.document_id, origin=origin)
    if asked.as_json:
        return asked.print_json({"deleted": [document.document_id for document in found]})
    for document in found:
        asked.say(f"forgotten {_brief(document)}")


def _files(paths: Sequence[Path]) -> Generator[Path]:
    """The files meant: of a folder all below it, but for hidden ones."""
    for path in paths:
        if path.is_dir():
            below = (found for found in path.rglob("*") if found.is_file())
            yield from sorted(
                found for found in below if not any(p.startswith(".") for p in found.relative_to(path).parts)
            )
        elif path.is_file():
            yield path
        else:
            raise InvalidInputError(f"{str(path)!r} is no file and no folder")


async def _named(asked: Asked, reader: "Reader", file: str) -> "Document":
    """The one file by this name or id; the last stored one of several by a name."""
    from neuromem import F

    page = await reader.files.list(asked.user, where=F("filename") == file, limit=1) if file.strip() else None
    if page is not None and page.items:
        return page.items[0]
    prefix, cursor = file.lower(), None
    matching: list[Document] = []
    while len(prefix) >= 4:
        listed = await reader.files.list(asked.user, limit=_MANY, cursor=cursor)
        matching += [document for document in listed.items if document.document_id.startswith(prefix)]
        if (cursor := listed.cursor) is None:
            break
    if not matching:
        raise NotFoundError(
            f"no file is called {file!r}, nor does an id begin so{asked.whose}; see: neuromem files list"
        )
    if len(matching) > 1:
        raise InvalidInputError(f"{file!r} begins several ids; pass more of it")
    return matching[0]


def _details(document: "Document", versions: int) -> Any:
    from neuromem.cli import render

    known = document.known_from
    return render.details(
        [
            ("file", document.filename),
            ("title", document.title or ""),
            ("id", document.document_id),
            ("type", f"{document.file_type}, {_size(document.file_size)}, {render.counted(document.pages, 'page')}"),
            ("category", document.category),
            ("tags", ", ".join(document.tags)),
            ("metadata", str(dict(document.metadata)) if document.metadata else ""),
            ("passages", f"{document.chunks:,}"),
            ("known from", f"{local(known)} ({render.ago(known, datetime.now(UTC))})"),
            ("versions", str(versions) if versions > 1 else ""),
            ("by", document.origin),
            ("not read", "; ".join(document.warnings)),
        ]
    )


def _brief(document: "Document") -> str:
    from neuromem.cli import render

    labels = "".join(f" #{tag}" for tag in document.tags)
    return render.one_line(f"{render.short(document.document_id)}  {document.filename} ({document.category}){labels}")


def _say_stored(asked: Asked, document: "Document") -> None:
    from neuromem.cli import render

    if document.stored_before:
        asked.say(f"known already {render.short(document.document_id)}  {render.one_line(document.filename)}")
    else:
        pages, passages = render.counted(document.pages, "page"), render.counted(document.chunks, "passage")
        name = render.one_line(document.filename)
        asked.say(f"stored {render.short(document.document_id)}  {name}: {pages}, {passages}")


def _size(size: int | None) -> str:
    number = float(size or 0)
    for unit in ("B", "kB", "MB"):
        if number < 1000 or unit == "MB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


@contextmanager
def _bars() -> "Generator[Progress]":
    """Bars on stderr, where it is a terminal; they go when all is done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from neuromem.cli.render import console

    screen = console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("[dim]{task.fields[shown]}[/]"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        yield bars


@contextmanager
def _bar(bars: "Progress", name: str) -> "Generator[Any]":
    """The bar of one file: pages read, then passages embedded."""
    from rich.markup import escape

    from neuromem.cli.render import one_line

    task = bars.add_task(escape(one_line(name)), total=None, shown="")
    words = {"reading": "pages read", "embedding": "passages embedded", "storing": "stored"}

    def progress(at: "FileProgress") -> None:
        shown = f"{at.done:,} of {at.total:,} {words[at.stage]}"
        bars.update(task, total=at.total, completed=at.done, shown=shown)

    try:
        yield progress
    finally:
        bars.remove_task(task)
