"""Bringing a database to the newest schema, once, however many processes start at the same time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, String, Table, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from memground.errors import ConfigurationError
from memground.postgres.engine import advisory_key
from memground.postgres.pooler import run_alone

VERSION_TABLE = "alembic_version"


@dataclass(frozen=True)
class Migrations:
    """Where a system's Alembic scripts lie, and the newest revision, so that a current database costs one query."""

    location: Path
    head: str


async def migrate(engine: AsyncEngine, migrations: Migrations, schema: str, attributes: Mapping[str, Any]) -> None:
    """Creates `schema` if needed and runs the missing migrations in one transaction, under an advisory lock.

    `attributes` are handed to the scripts (`context.config.attributes`), with `connection` and `schema`.
    Raises ConfigurationError when the database is newer than this program or may not be changed by this login.
    """
    async with engine.connect() as connection:
        if await revision(connection, schema) == migrations.head:
            return
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": advisory_key(schema)})
        found = await revision(connection, schema)
        if found == migrations.head:
            return
        try:
            await connection.run_sync(_upgrade, migrations, schema, attributes)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "42501":
                raise ConfigurationError(
                    f"this login may not create or change schema {schema!r}: {error.orig}; "
                    "run the first start with a login that owns the database"
                ) from error
            if getattr(error.orig, "sqlstate", None) == "42P07":
                raise ConfigurationError(
                    f"schema {schema!r} has somebody else's tables of the same names: {error.orig}; use another schema="
                ) from error
            raise


async def revision(connection: AsyncConnection, schema: str) -> str | None:
    """The schema's revision, None where it does not exist yet."""
    versions = Table(VERSION_TABLE, MetaData(schema=schema), Column("version_num", String))
    name = connection.dialect.identifier_preparer.format_table(versions)
    if await connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
        return None
    return await connection.scalar(select(versions.c.version_num))


async def extension(connection: AsyncConnection, name: str) -> str | None:
    """The extension's version, after creating it where the server offers it; None where it does not."""
    query = text("SELECT extversion FROM pg_extension WHERE extname = :name")
    if (version := await connection.scalar(query, {"name": name})) is not None:
        return version
    offered = text("SELECT count(*) FROM pg_available_extensions WHERE name = :name")
    if not await connection.scalar(offered, {"name": name}):
        return None
    # One at a time: of two that create it at once, one gets an error that looks like a refusal.
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": advisory_key("extensions")})
    try:
        async with connection.begin_nested():
            await connection.execute(text(f'CREATE EXTENSION IF NOT EXISTS "{name}"'))
    except DBAPIError:
        # Offered but refused (no permission, not preloaded): for us the same as not offered; the caller says so.
        return None
    return await connection.scalar(query, {"name": name})


async def build_index(engine: AsyncEngine, statement: str, name: str) -> None:
    """Runs a `CREATE INDEX …` statement without keeping writers out; does nothing where the index is there.

    `name` is the index's, with its schema and quoted. One that a killed builder left unfinished is made again.
    """
    valid = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    async with engine.connect() as connection:
        found = await connection.scalar(valid, {"name": name})
        if found:
            return
        if found is not None:
            await run_alone(connection, f"DROP INDEX CONCURRENTLY {name}")
        await run_alone(connection, statement.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1))


def _upgrade(connection: Connection, migrations: Migrations, schema: str, attributes: Mapping[str, Any]) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(migrations.location))
    config.attributes.update(attributes, connection=connection, schema=schema)
    try:
        command.upgrade(config, migrations.head)
    except CommandError as error:
        raise ConfigurationError(
            f"schema {schema!r} was made by a newer version of this program ({error}); upgrade the package"
        ) from error
