"""Poolers that lend a server's connection for one transaction at a time: PgBouncer, Supavisor, PgCat, RDS Proxy.

Behind one, two statements that are not in the same transaction may reach two connections of the server. So nothing may
be left on a connection: no prepared statement with a name, no setting, no lock beyond the transaction. And a statement
of its own must go as text, since the driver prepares and runs one with parameters in two steps.
"""

from typing import Any
from urllib.parse import unquote

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from memground.errors import ConfigurationError
from memground.text import show

OPTION = "pgbouncer"
"""The option of a URL that says whether a pooler stands between, where it shall not be found out."""
_SAID = {"true": True, "1": True, "false": False, "0": False}


def told(dsn: str) -> tuple[str, bool | None]:
    """The URL without `pgbouncer=…`, and what that said: True, False, or None where it is to be found out."""
    address, _, query = dsn.partition("?")
    said: bool | None = None
    options: list[str] = []
    for option in query.split("&") if query else ():
        name, _, value = option.partition("=")
        if name != OPTION:
            options.append(option)
        elif (said := _SAID.get(unquote(value).lower())) is None:
            raise ConfigurationError(
                f"{OPTION}={show(unquote(value))} in the database URL is not understood; accepted: {OPTION}=true "
                f"(a pooler in transaction mode stands between), {OPTION}=false (prepared statements may be kept), "
                "or nothing, and it is found out"
            )
    return (f"{address}?{'&'.join(options)}" if options else address), said


async def is_direct(driver: "asyncpg.Connection[asyncpg.Record]") -> bool:
    """Whether the connection is the server's own.

    A pooler gives its clients keys of its own for cancelling, the number of a process in it; the server's process has
    another number. Asked as text, which leaves nothing behind and tells in its answer how many rows there were.
    """
    return await driver.execute(f"SELECT 1 WHERE pg_backend_pid() = {driver.get_server_pid()}") == "SELECT 1"


async def run_alone(connection: AsyncConnection, statement: str) -> None:
    """Runs a statement that may stand in no transaction (`CREATE INDEX CONCURRENTLY …`), after ending the present one.

    Raises what the driver raises; the connection is not used again then.
    """
    await connection.commit()
    try:
        await (await driver_of(connection)).execute(statement)
    except BaseException:  # the pool, which did not see it, must not give out a connection in an unknown state
        await connection.invalidate()
        raise


async def driver_of(connection: AsyncConnection) -> Any:
    """The driver's connection behind SQLAlchemy's."""
    return (await connection.get_raw_connection()).driver_connection
