"""PostgreSQL URLs and pools.

asyncpg reads the URL itself, so everything libpq users know works: `sslmode=…`, several hosts, `host=/socket/dir`,
`application_name=…`, password files.
"""

import hashlib
import ssl
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import asyncpg
from sqlalchemy import BigInteger, ColumnElement, RowMapping, Select, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Result
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.base import Executable

from memground.errors import ConfigurationError, ConflictError, UnavailableError
from memground.postgres import jsonb, pooler
from memground.text import show

type Query = Select[*tuple[Any, ...]]
"""A statement that reads, whatever its columns."""

type Row = RowMapping | Mapping[str, Any]
"""A row by column name: as read, or as about to be written."""


class Executor(Protocol):
    """What runs statements in the caller's transaction: a connection, or a session of the system above."""

    async def execute(self, statement: Executable, parameters: Any = None, /) -> Result[Any]: ...


DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What the driver raises for a statement, the connection aside (OSError)."""

_SCHEMES = ("postgres", "postgresql")
_CONNECTION, DEADLOCK, TIMED_OUT = "08", "40P01", "55P03"


def check_url(url: str) -> str:
    """The URL in the form asyncpg reads; raises ConfigurationError for anything else, without showing a password."""
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"the database URL must be a str, got {type(url).__name__} {show(url)}")
    scheme, _, rest = url.partition("://")
    scheme = scheme.removesuffix("+asyncpg")
    if scheme not in _SCHEMES or not rest:
        raise ConfigurationError(
            f"the database URL {redact(url)!r} is not understood; "
            "accepted: postgresql://user:password@host:port/database?sslmode=…, or None for the embedded PostgreSQL"
        )
    return f"postgresql://{rest}"


def redact(url: str) -> str:
    """The URL without its password, for messages and logs."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://…"
    if parts.password is None and "password" not in parse_qs(parts.query):
        return url
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or ""
    return f"{parts.scheme}://{user}:***@{host}{parts.path}"


POOLED = "pooled"
"""The engine's option that says whether a pooler stands between."""

type Driver = asyncpg.Connection[asyncpg.Record]


async def open_engine(url: str, *, pool_size: int = 10, application_name: str = "memground") -> AsyncEngine:
    """An engine as `make_engine` makes it, after a look at whether a pooler such as PgBouncer stands between.

    Raises UnavailableError and ConfigurationError as every connecting does. `?pgbouncer=true` (or false) in the URL
    says it; without it, the first connection finds out.
    """
    dsn, pooled = pooler.told(check_url(url))
    first: Driver | None = None
    if pooled is None:
        with _naming_failures(dsn):
            first = await _connect(dsn, application_name, pooled=False)
            try:
                pooled = not await pooler.is_direct(first)
            except BaseException:
                first.terminate()
                raise
            if pooled:
                await first.close()
                first = None
    return _engine(dsn, pool_size, application_name, pooled=pooled, first=first)


def make_engine(url: str, *, pool_size: int = 10, application_name: str = "memground") -> AsyncEngine:
    """An engine on `url` with a pool of `pool_size` connections and none beyond it.

    It takes the URL's word for whether a pooler stands between, and else that none does.
    """
    dsn, pooled = pooler.told(check_url(url))
    return _engine(dsn, pool_size, application_name, pooled=bool(pooled), first=None)


def _engine(dsn: str, pool_size: int, application_name: str, *, pooled: bool, first: Driver | None) -> AsyncEngine:
    waiting = [] if first is None else [first]

    async def connect() -> Driver:
        if waiting and not waiting[-1].is_closed():
            return waiting.pop()
        with _naming_failures(dsn):
            return await _connect(dsn, application_name, pooled=pooled)

    # A statement without a name ends with the transaction at the latest; the next one takes its place.
    nameless = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    return create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": connect, **(nameless if pooled else {})},
        pool_size=pool_size,
        pool_use_lifo=True,  # the connection last used has the most in its server's memory
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=False,
        query_cache_size=1_000,
        json_serializer=jsonb.written,
        execution_options={POOLED: pooled},
        hide_parameters=True,  # an error's text may reach a log, and parameters are people's words
    )


async def _connect(dsn: str, application_name: str, *, pooled: bool) -> Driver:
    settings = {} if "application_name" in dsn else {"application_name": application_name}
    if pooled:
        return await asyncpg.connect(dsn, server_settings=settings, timeout=30, statement_cache_size=0)
    # Statements are kept however long their text is: the longest take longest to plan.
    return await asyncpg.connect(dsn, server_settings=settings, timeout=30, max_cacheable_statement_size=0)


@contextmanager
def _naming_failures(url: str) -> Generator[None]:
    """Turns what goes wrong while connecting into errors of ours. Here, because the pool would wrap them."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(
            f"the certificate of PostgreSQL at {redact(url)} is not trusted: {error}; sslrootcert=… names who signed it"
        ) from error
    except (
        OSError,
        asyncpg.CannotConnectNowError,
        asyncpg.TooManyConnectionsError,
        asyncpg.PostgresConnectionError,
    ) as error:
        if isinstance(error, FileNotFoundError) and (missing := _missing_file(url)):
            raise ConfigurationError(f"the database URL names {missing}, and there is no such file") from error
        if "authentication failed" in str(error):  # a pooler's word for it, under the code of a broken protocol
            raise ConfigurationError(f"PostgreSQL at {redact(url)} refused the login: {error}") from error
        raise UnavailableError(_unavailable(url, error)) from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise ConfigurationError(f"PostgreSQL at {redact(url)} refused the login: {error}") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise ConfigurationError(f"PostgreSQL at {redact(url)}: {error}; create it with CREATE DATABASE") from error
    except (ValueError, *DRIVER_ERRORS) as error:
        if lost_connection(error):  # a server that is being stopped lets a connection in and ends it
            raise UnavailableError(_unavailable(url, error)) from error
        raise ConfigurationError(f"the database URL {redact(url)!r} cannot be used: {error}") from error


def _missing_file(url: str) -> str | None:
    """The first file for TLS that an address names and that is not there."""
    options = parse_qs(urlsplit(url).query)
    named = [
        f"{name}={path}" for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl") for path in options.get(name, ())
    ]
    return next((file for file in named if not Path(file.partition("=")[2]).exists()), None)


@contextmanager
def reporting(url: str) -> Generator[None]:
    """Turns the driver's ways of saying "the server is not there" into UnavailableError, a deadlock into a conflict."""
    try:
        yield
    except (OSError, PoolTimeoutError) as error:
        raise UnavailableError(_unavailable(url, error)) from error
    except (DBAPIError, *DRIVER_ERRORS) as error:
        if lost_connection(error):
            raise UnavailableError(_unavailable(url, _driver_s(error))) from error
        if sqlstate(error) == DEADLOCK:
            raise ConflictError(
                "this transaction and another waited for each other; this one was rolled back, run it again"
            ) from error
        if sqlstate(error) == TIMED_OUT:
            raise ConflictError("another transaction held for too long what this one needs; run it again") from error
        raise


def sqlstate(error: Exception) -> str | None:
    """PostgreSQL's code for what went wrong, None where the server said nothing."""
    return getattr(_driver_s(error), "sqlstate", None)


def _driver_s(error: Exception) -> BaseException:
    return (error.orig or error) if isinstance(error, DBAPIError) else error


def lost_connection(error: Exception) -> bool:
    """Whether the statement failed because the server or the connection went away."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if (sqlstate(error) or "").startswith(_CONNECTION):
        return True  # also what a pooler says of the server behind it
    text = f"{type(_driver_s(error)).__name__} {_driver_s(error)}"
    return any(
        sign in text
        for sign in (
            "connection was closed",
            "connection is closed",
            "shutting down",
            "starting up",
            "terminating connection",
            "ConnectionDoesNotExist",
            "CannotConnectNow",
            "cannot switch to state",  # asyncpg, between the server's last message and the connection's end
        )
    )


def _unavailable(url: str, error: object) -> str:
    return f"PostgreSQL at {redact(url)} cannot be reached: {error}; check that it runs and that the address is right"


def advisory_key(name: str) -> int:
    """The key of PostgreSQL's advisory lock on a name (64 bits of its hash)."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def locking(name: str, *, shared: bool = False) -> str:
    """The statement that holds a name until the transaction ends, as text to be sent with others.

    What stands in it is a number of our own making, no input.
    """
    return f"SELECT pg_advisory_xact_lock{'_shared' if shared else ''}({advisory_key(name)})"


def holding(key: ColumnElement[int]) -> ColumnElement[Any]:
    """The same with others that share it, within a statement, by the name's `advisory_key`."""
    return func.pg_advisory_xact_lock_shared(key)


async def give_way(connection: Executor, seconds: float) -> None:
    """Lets the transaction fail (ConflictError) when it has waited so long for a lock.

    Below `deadlock_timeout` (a second unless set otherwise) it is this transaction that gives way in a deadlock.
    """
    await connection.execute(select(func.set_config("lock_timeout", f"{seconds * 1000:.0f}ms", True)))


async def plan_anew(connection: Executor) -> None:
    """Has the transaction's statements planned for what the tables hold now, not for what they held when first run."""
    await connection.execute(select(func.set_config("plan_cache_mode", "force_custom_plan", True)))


async def lock_names(connection: Executor, names: Sequence[str]) -> None:
    """Holds several names until the transaction ends, each alone, in the order given."""
    keys = bindparam("keys", [advisory_key(name) for name in names], type_=ARRAY(BigInteger))
    held = func.unnest(keys).table_valued("key", name="held").render_derived()
    await connection.execute(select(func.pg_advisory_xact_lock(held.c.key)))
