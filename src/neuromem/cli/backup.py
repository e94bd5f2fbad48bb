"""`neuromem backup` and `restore`: a schema as a file."""

import os
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memground.errors import ConfigurationError
from neuromem.cli.shared import OPERATIONS, Asked, Takes, command

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from memground.postgres.dump import Progress

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


def register(app: typer.Typer) -> None:
    command(app, takes=Takes.PLACE, panel=OPERATIONS)(backup)
    command(app, takes=Takes.PLACE, panel=OPERATIONS)(restore)


async def backup(asked: Asked, file: FileArgument) -> None:
    """Write a schema into a new file, while programs work on: memories, conversations, vectors, all versions.

    It is pg_dump's custom format. Files that were uploaded lie in their storage and are not in it.
    """
    from memground.postgres.dump import dump
    from memground.text import counted

    begun = time.perf_counter()
    async with _place(asked) as (connection, url):
        tables, objects = await _size(connection, asked.schema)
        await connection.rollback()
        with _drawn(asked) as progress:
            size = await dump(
                url,
                asked.schema,
                file,
                tables=tables,
                environment=os.environ,
                progress=progress,
            )
    seconds = round(time.perf_counter() - begun, 2)
    done = {"file": str(file), "bytes": size, "schema": asked.schema, "tables": tables, "seconds": seconds}
    asked.show(
        {**done, "objects_in_storage": objects},
        f"schema {asked.schema!r} is in {file} ({size / 1e6:,.1f} MB, {seconds} s)",
    )
    if objects:
        asked.say(f"{counted(objects, 'uploaded file')} lie in their storage: copy them from there")


async def restore(asked: Asked, file: FileArgument) -> None:
    """Make the schema of a backup in a database that does not have it: whole, or not at all.

    The schema is named as it was; --schema must say the same.
    """
    from memground.postgres.dump import restore as read_back
    from memground.postgres.dump import schema_in

    begun = time.perf_counter()
    held = await schema_in(file, environment=os.environ)
    if held != asked.schema:
        raise ConfigurationError(f"{file} holds the schema {held!r}, asked for was {asked.schema!r}: pass --schema")
    async with _place(asked) as (connection, url):
        await _prepare(connection, asked.schema)
        with _drawn(asked) as progress:
            await read_back(url, file, environment=os.environ, progress=progress)
        tables, objects = await _size(connection, asked.schema)
        await _count_rows(connection, asked.schema)
    seconds = round(time.perf_counter() - begun, 2)
    done = {"file": str(file), "schema": held, "tables": tables, "seconds": seconds, "objects_in_storage": objects}
    asked.show(done, f"schema {held!r} is back from {file} ({seconds} s)")


@asynccontextmanager
async def _place(asked: Asked) -> "AsyncGenerator[tuple[AsyncConnection, str]]":
    from memground.postgres.engine import redact
    from memground.postgres.pooler import driver_of, is_direct
    from neuromem.cli.doctor import connected

    async with connected(asked.database_url, create=True) as (connection, url):
        if not await is_direct(await driver_of(connection)):
            # pg_dump and pg_restore leave settings on their connection, which would then be somebody else's.
            raise ConfigurationError(
                f"a pooler stands before PostgreSQL at {redact(url)}: for backups give the server's own address"
            )
        yield connection, url


async def _size(connection: "AsyncConnection", schema: str) -> tuple[int, int]:
    """How many tables a schema has, and how many uploaded files it names. Raises where it is none of ours."""
    from sqlalchemy import func, select

    from memground.postgres.schema import revision
    from neuromem.models import build_tables

    if await revision(connection, schema) is None:
        raise ConfigurationError(f"there is no schema {schema!r} with memories there")
    tables = build_tables(1, schema)
    documents = tables.documents.table
    objects = await connection.scalar(select(func.count(documents.c.object_key.distinct())))
    return len(tables.metadata.tables) + 1, objects or 0


async def _prepare(connection: "AsyncConnection", schema: str) -> None:
    """Makes sure of pgvector, and that nothing is in the way."""
    from sqlalchemy import text

    from memground.postgres.schema import extension

    if await connection.scalar(text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :name"), {"name": schema}):
        raise ConfigurationError(
            f"there is a schema {schema!r} already: restore into another database (CREATE DATABASE …), or drop it first"
        )
    if await extension(connection, "vector") is None:
        raise ConfigurationError("that server offers no extension 'vector'; install pgvector ≥ 0.7 there")
    await connection.commit()


async def _count_rows(connection: "AsyncConnection", schema: str) -> None:
    """A dump holds no statistics; without them the first questions are slow."""
    from memground.postgres.pooler import run_alone
    from neuromem.models import build_tables

    prepare = connection.dialect.identifier_preparer
    for table in build_tables(1, schema).metadata.sorted_tables:
        await run_alone(connection, f"ANALYZE {prepare.format_table(table)}")


@contextmanager
def _drawn(asked: Asked) -> "Generator[Progress]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=asked.console, transient=True, disable=not asked.console.is_terminal) as bars:
        bar = bars.add_task("", total=None)

        def progress(done: int, total: int, what: str) -> None:
            bars.update(bar, completed=done, total=total, description=what)

        yield progress
