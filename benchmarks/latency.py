"""How long recall and search take: `python -m benchmarks.latency [--sizes 10000 100000] [--data FOLDER] [--explain]`.

A size is how many memories the database holds in all; with `--messages 1` every user has as many turns of conversation
beside them, and the result is kept under another name. Most users have 1,000 memories; from 100,000 on some have 5,000
to 200,000. Texts and vectors are synthetic (`benchmarks.synthetic`), loaded
in bulk; with `--data FOLDER` they are kept there and loaded once.

Database part: the query's vector is given. End to end: the local model embeds the query. Beside them, in the same run,
the floors: one round trip; the embedding of one query, in a row and each after a recall; the bytes of the vectors that
are compared.
"""

import argparse
import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import loading, measuring, nearest, peer
from benchmarks.loading import Shape
from benchmarks.measuring import Call
from benchmarks.questions import Query, queries
from benchmarks.results_file import save
from benchmarks.synthetic import SyntheticEmbedding
from neuromem import NeuroMemory

BIG = {100_000: (5_000, 20_000), 1_000_000: (5_000, 20_000, 50_000, 200_000)}
TURNS_A_SECOND = 20
PEER_MEMORIES = 100_000
"""Up to which the peer is measured too."""
ACQUAINTED = f", {loading.EDGES} relations and a profile"
_WARM = 10
_WRITER = "latency-writer"
_LIVE = "live"


def shape_of(size: int, messages: float = 0.0) -> Shape:
    """The database of a size: with the big users of the largest entry of BIG that fits."""
    fitting = [big for least, big in BIG.items() if size >= least]
    return Shape(size, per_user=min(1_000, size), big=fitting[-1] if fitting else (), messages=messages)


def calls(nm: NeuroMemory, asked: list[Query]) -> dict[str, Call]:
    """What is measured, by name; `n` counts the queries."""
    half = nm.as_of(nm._context.clock.now() - loading.HALF)
    return {
        "recall": lambda n: nm.recall(asked[n].user, asked[n].text, query_embedding=asked[n].vector),
        "search": lambda n: nm.search(asked[n].user, asked[n].text, query_embedding=asked[n].vector),
        "recall as of": lambda n: half.recall(asked[n].user, asked[n].text, query_embedding=asked[n].vector),
        "search, end to end": lambda n: nm.search(asked[n].user, asked[n].text),
        "recall, end to end": lambda n: nm.recall(asked[n].user, asked[n].text),
    }


@asynccontextmanager
async def writing(nm: NeuroMemory, users: list[str], rate: float = TURNS_A_SECOND) -> AsyncIterator[list[float]]:
    """Another task ingests `rate` turns a second, the background worker gives them vectors; takes all away at the end.

    Gives the seconds each write took to be acknowledged.
    """
    taken: list[float] = []
    said = nm._embedding.world.draw(  # type: ignore[attr-defined]
        np.random.default_rng(11), np.arange(200) % 40
    ).texts

    async def write() -> None:
        begun = time.perf_counter()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            start = time.perf_counter()
            content = f"{said[number % len(said)]} {number}"
            user = users[number % len(users)]
            await nm.ingest(user, "user", content, session_id=_LIVE, speaker="Ann", origin=_WRITER)
            taken.append(time.perf_counter() - start)

    task = asyncio.create_task(write())
    try:
        yield taken
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await nm.wait_idle()
        await _forget(nm)


async def _forget(nm: NeuroMemory) -> None:
    tables = nm._db.tables
    async with nm._db.engine.begin() as connection:
        for table in (tables.conversation_embeddings.table, tables.conversations.table):
            await connection.execute(table.delete().where(table.c.origin == _WRITER))
        sessions = tables.conversation_sessions
        await connection.execute(sessions.delete().where(sessions.c.session_id == _LIVE))
    await loading.settle(nm)


async def measure(nm: NeuroMemory, shape: Shape, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one database."""
    floor = {"round trip": await measuring.round_trip(nm)}
    small = [user for user in shape.users if user.startswith("u")]
    groups = {f"{shape.per_user}": small} | {str(size): [f"big-{size}"] for size in shape.big}
    if len(small) > 1:  # one of them is known well: relations of what is spoken of, and a profile
        await loading.ensure_acquainted(nm, small[0])
        groups |= {f"{shape.per_user}": small[1:], f"{shape.per_user}{ACQUAINTED}": small[:1]}
    settled: dict[str, Any] = {}
    asked: dict[str, list[Query]] = {}
    for name, users in groups.items():
        asked[name] = await queries(nm, users, options.queries)
        chosen = {call: run for call, run in calls(nm, asked[name]).items() if not options.only or call in options.only}
        settled[name] = {}
        for place, (call, run) in enumerate(chosen.items()):
            # What one call has read is in memory for the next.
            warm = options.queries if place == 0 or call == "recall as of" else _WARM
            settled[name][call] = await measuring.timed(run, options.queries, warm=warm)
        for call in ("search", "recall", "recall as of"):
            if call in chosen:
                settled[name][call] |= await measuring.statements(nm, chosen[call], min(20, options.queries))
        report(name, settled[name])
        settled[name]["scanned"] = scanned(shape, int(name.split(",")[0]), nm._db.dims)
        if not options.no_nearest:
            settled[name]["found of exact"] = await measure_nearest(nm, asked[name])
            print(f"    of the exact nearest found: {settled[name]['found of exact']}")
        if options.explain and "recall" in chosen:
            for plan in await measuring.explained(nm, chosen["recall"]):
                print(plan, "\n")
    typical = asked[str(shape.per_user)]

    async def embed(n: int) -> None:
        await nm._embedding.embed_query(typical[n].text)

    floor["embed a query"] = await measuring.timed(embed, len(typical))
    # In a row, the model's weights stay near to the processor; in use, what a search reads takes their place.
    given = calls(nm, typical)["recall"]
    floor["embed a query after a recall"] = await measuring.timed(embed, len(typical), after=given)
    report("floor", floor)
    figures: dict[str, Any] = {"floor": floor, "settled": settled}
    if not options.no_writes:
        figures["while writing"] = await measure_writing(nm, small, asked[str(shape.per_user)], options)
        report(f"while {TURNS_A_SECOND} turns a second are written", figures["while writing"])
    if peer.installed() and not options.no_peer and shape.memories <= PEER_MEMORIES:
        new = nm._embedding.world.draw(np.random.default_rng(19), np.arange(options.queries) % 400).texts  # type: ignore[attr-defined]
        figures["peer"] = {"name": peer.NAME} | await peer.measure(nm, asked, new)
        report_peer(figures["peer"])
    return figures


def scanned(shape: Shape, memories: int, dims: int) -> dict[str, float]:
    """What an exact scan of one user's vectors reads, at four bytes a number."""
    rows = memories + round(memories * shape.messages)
    return {"rows": rows, "megabytes": round(rows * dims * 4 / 1e6, 1)}


async def measure_nearest(nm: NeuroMemory, asked: list[Query]) -> dict[str, dict[str, float]]:
    """What the vector arm finds of the exact nearest: now and at two moments of the past."""
    users = list(dict.fromkeys(query.user for query in asked))[:3]
    pairs = [(query.user, query.vector) for query in asked if query.user in users][:20]
    now = nm._context.clock.now()
    past = [now - loading.HALF, now - loading.HALF * 1.7]
    return await nearest.found(nm, pairs, {"now": [None], "as of": past})


async def measure_writing(
    nm: NeuroMemory, users: list[str], asked: list[Query], options: argparse.Namespace
) -> dict[str, Any]:
    """Recall and search of the users who are being written to."""
    run = calls(nm, asked)
    async with writing(nm, users) as acknowledged:
        await asyncio.sleep(options.seconds / 5)
        figures = {
            name: await measuring.timed(run[name], len(asked), warm=0, least=options.seconds)
            for name in ("search", "recall")
        }
    return figures | {"ingest": measuring.quantiles(acknowledged)}


def report(name: str, figures: dict[str, Any]) -> None:
    print(f"  {name}")
    for call, value in figures.items():
        trips = f"  {value['round_trips']:.0f} round trips, {value['waited_ms']} ms" if "round_trips" in value else ""
        print(f"    {call:<20} p50 {value['p50']:7.2f}  p95 {value['p95']:7.2f} ms{trips}", flush=True)


def report_peer(figures: dict[str, Any]) -> None:
    print(f"  {figures['name']}, the same memories")
    for name, value in figures.items():
        if name != "name":
            found = f", {value['found of exact']:.2f} of the exact ten found" if "found of exact" in value else ""
            print(f"    {name:<22} p50 {value['p50']:7.2f}  p95 {value['p95']:7.2f} ms{found}")


def arguments() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="memories in all")
    parser.add_argument("--messages", type=float, default=0.0, help="turns of conversation for each memory")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0, help="least time of each measurement under writes")
    parser.add_argument("--only", nargs="+", help="some of the calls, by name")
    parser.add_argument("--data", type=Path, help="folder of an embedded PostgreSQL to keep the data in")
    parser.add_argument("--database-url")
    parser.add_argument("--reload", action="store_true", help="load again what the folder holds")
    parser.add_argument("--explain", action="store_true", help="print the plans of recall's statements")
    parser.add_argument("--no-nearest", action="store_true", help="do not compare the vector arm with an exact scan")
    parser.add_argument("--no-peer", action="store_true", help="do not measure LangGraph's store")
    parser.add_argument("--no-writes", action="store_true", help="settled only")
    return parser.parse_args()


async def main() -> None:
    options = arguments()
    embedding = SyntheticEmbedding()
    sizes: dict[str, Any] = {}
    async with measuring.database(options.database_url, options.data) as url:
        for size in options.sizes:
            shape = shape_of(size, options.messages)
            print(f"{size:,} memories: {shape.users and describe(shape)}")
            async with NeuroMemory(url, embedding, schema=f"bench_{size}") as nm:
                seconds = await loading.ensure(nm, shape, reload=options.reload)
                if seconds is not None:
                    print(f"  loaded in {seconds:.0f} s")
                sizes[str(size)] = {"shape": asdict(shape)} | await measure(nm, shape, options)
                if options.database_url is not None:
                    await measuring.drop(nm)
    save("latency-with-turns" if options.messages else "latency", {"milliseconds": sizes}, options)


def describe(shape: Shape) -> str:
    small = len(shape.users) - len(shape.big)
    users = [f"{small} users of {shape.per_user:,}", *(f"one of {size:,}" for size in shape.big)]
    return f"{', '.join(users)}, {shape.messages:g} messages for each"


if __name__ == "__main__":
    asyncio.run(main())
