"""What every benchmark needs: times and their quantiles, statements counted, a server of its own, processes of it."""

import argparse
import asyncio
import math
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import MetaData, event, literal, select, text

from benchmarks.results_file import FOLDER
from neuromem import NeuroMemory

type Call = Callable[[int], Awaitable[object]]
type Quantiles = dict[str, float]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def quantiles(seconds: Sequence[float]) -> Quantiles:
    """p50 and p95 in milliseconds."""
    return {"p50": round(quantile(seconds, 0.5) * 1000, 2), "p95": round(quantile(seconds, 0.95) * 1000, 2)}


async def times(
    call: Call, count: int, *, warm: int | None = None, least: float = 0.0, after: Call | None = None
) -> list[float]:
    """Seconds of `count` calls, after `warm` others (default: as many, so that all they read is in memory).

    Goes round again until `least` seconds are over. `after`: what is done before each, and not measured.
    """
    for number in range(count if warm is None else min(warm, count)):
        await call(number)
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < count or time.perf_counter() - begun < least:
        if after is not None:
            await after(len(taken) % count)
        start = time.perf_counter()
        await call(len(taken) % count)
        taken.append(time.perf_counter() - start)
    return taken


async def timed(
    call: Call, count: int, *, warm: int | None = None, least: float = 0.0, after: Call | None = None
) -> Quantiles:
    """p50 and p95 of `times`."""
    return quantiles(await times(call, count, warm=warm, least=least, after=after))


async def round_trip(nm: NeuroMemory, count: int = 200) -> Quantiles:
    """The floor of everything that asks the database: one statement on an open connection of the mind's pool."""
    async with nm._db.engine.connect() as connection:
        return await timed(lambda _: connection.execute(select(literal(1))), count)


async def settle(url: str, tables: MetaData, tend: Callable[[], Awaitable[object]]) -> None:
    """The state a database reaches when nobody writes: statistics fresh, visibility known, `tend` has made what large
    owners need."""
    connection = await asyncpg.connect(url)
    try:
        for table in tables.sorted_tables:
            await connection.execute(f"vacuum (analyze) {table.fullname}")
        await tend()
        await connection.execute("checkpoint")
    finally:
        await connection.close()


@dataclass
class Statements:
    """What went over the connections of a mind: statements with their parameters, and seconds waited for them."""

    sent: list[tuple[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, statement: str, parameters: Any, seconds: float) -> None:
        self.sent.append((statement, parameters))
        self.seconds.append(seconds)

    def clear(self) -> None:
        self.sent.clear()
        self.seconds.clear()


async def settled(nm: NeuroMemory) -> None:
    """Waits until the transactions that were left are ended, and the driver has told of all it sent."""
    await nm._db._spent.wait()
    await asyncio.sleep(0)


@asynccontextmanager
async def counted(nm: NeuroMemory) -> AsyncIterator[Statements]:
    """Counts while the block runs: what SQLAlchemy executes, and what goes to the driver past it (begin, commit)."""
    await settled(nm)  # a connection that is taken over would not be seen
    engine, found, listening = nm._db.engine.sync_engine, Statements(), []
    begun: dict[int, float] = {}

    def before(_c: Any, cursor: Any, *_: Any) -> None:
        begun[id(cursor)] = time.perf_counter()

    def after(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.add(statement, parameters, time.perf_counter() - begun.pop(id(cursor)))

    def log(query: Any) -> None:
        found.add(query.query, query.args, query.elapsed)

    def checkout(adapted: Any, *_: Any) -> None:
        connection = adapted.driver_connection
        if connection not in listening:
            listening.append(connection)
            connection.add_query_logger(log)

    listeners = [("before_cursor_execute", before), ("after_cursor_execute", after), ("checkout", checkout)]
    for name, listener in listeners:
        event.listen(engine, name, listener)
    try:
        yield found
        await settled(nm)
    finally:
        for name, listener in listeners:
            event.remove(engine, name, listener)
        for connection in listening:
            if not connection.is_closed():
                connection.remove_query_logger(log)


async def statements(nm: NeuroMemory, call: Call, count: int = 20) -> dict[str, float]:
    """Round trips of one call, and the milliseconds it waits for them: server, driver and way; medians."""
    rounds: list[float] = []
    waited: list[float] = []
    async with counted(nm) as found:
        for number in range(count):
            found.clear()
            await call(number)
            await settled(nm)
            rounds.append(len(found.sent))
            waited.append(sum(found.seconds))
    return {"round_trips": quantile(rounds, 0.5), "waited_ms": round(quantile(waited, 0.5) * 1000, 2)}


async def explained(nm: NeuroMemory, call: Call, number: int = 0) -> list[str]:
    """The plans of a call's statements with their times and buffers, run again in one transaction."""
    async with counted(nm) as found:
        await call(number)
    plans: list[str] = []
    async with nm._db.engine.connect() as connection:
        for statement, parameters in found.sent:
            if not statement.lstrip().lower().startswith(("select", "with")):
                continue
            result = await connection.exec_driver_sql(f"explain (analyze, buffers) {statement}", parameters)
            plans.append(f"{statement}\n\n" + "\n".join(f"    {row[0]}" for row in result))
        await connection.rollback()
    return plans


def server_seconds(data: Path) -> float:
    """Processor seconds that the embedded server of a data folder has used, all its processes together."""
    import psutil  # only for development

    pid = int((data / "pgdata" / "postmaster.pid").read_text().splitlines()[0])
    master = psutil.Process(pid)
    ended = master.cpu_times()  # it also knows what its ended children used
    total = ended.user + ended.system + ended.children_user + ended.children_system
    for process in master.children():
        with suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system
    return total


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder for the dated result")
    parser.add_argument("--no-save", action="store_true", help="print only")
    return parser


@asynccontextmanager
async def database(url: str | None, data: Path | None) -> AsyncIterator[str]:
    """The address to measure on: the one given, a kept data folder, or a server that goes when the block ends."""
    if url is not None:
        yield url
        return
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        yield f"embedded://{data.resolve()}"
        return
    folder = Path(tempfile.mkdtemp(prefix="nmb-", dir="/tmp")).resolve()  # a short path: it holds a socket
    folder.chmod(0o711)  # root's server runs as another account
    try:
        yield f"embedded://{folder / 'pg'}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def drop(nm: NeuroMemory) -> None:
    """Removes a benchmark's own schema."""
    # A benchmark cleans up after itself; users have no need of this, so there is no call for it.
    if nm._worker is not None:
        await nm._worker.stop()
    async with nm._db.engine.begin() as connection:
        await connection.execute(text(f"drop schema {nm._db.schema} cascade"))
