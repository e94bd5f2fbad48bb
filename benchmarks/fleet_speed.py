"""How long calls of omnimem take on a fleet, with the vectors given (no model works).

    python -m benchmarks.fleet_speed --memories 100000 --tenants 100

Against MongoDB, PostgreSQL, Elasticsearch and Kafka of its own, all on this machine.
"""

import argparse
import asyncio
import os
import random
import time
from dataclasses import replace
from typing import Any

import psutil
from dev.servers.fleet import Fleet

from benchmarks import measuring
from benchmarks.omnimem_speed import GivenVectors, load, scope, text
from benchmarks.results_file import save
from omnimem import F, JobPolicy, NewMemory, OmniMemClient, Settings

LAG_RATE, LAG_SECONDS = 100, 20
BACKLOG_PART = 500


async def lag(settings: Settings, chance: random.Random) -> dict[str, Any]:
    """Milliseconds from a write to the search that finds it, at 100 changes a second, a worker in another client."""
    lags: list[float] = []
    async with (
        OmniMemClient.connect(settings, embedding=GivenVectors()) as worker,
        OmniMemClient.connect(settings, embedding=GivenVectors(), background=False) as client,
    ):
        await worker.wait_idle(60)

        async def write(number: int) -> None:
            memory = await client.create(f"topic{number % 200} {text(chance)}", scope=scope(number % 100))
            if number % 20:
                return
            begun = time.perf_counter()
            key = F("memory_id") == memory.memory_id
            while not await client.within(memory.scope).search(str(memory.text)[:60], mode="keyword", filters=key):
                await asyncio.sleep(0.02)
            lags.append(time.perf_counter() - begun)

        tasks: list[asyncio.Task[None]] = []
        begun = time.perf_counter()
        for number in range(LAG_RATE * LAG_SECONDS):
            tasks.append(asyncio.create_task(write(number)))
            await asyncio.sleep(max(0.0, begun + number / LAG_RATE - time.perf_counter()))
        rate = len(tasks) / (time.perf_counter() - begun)
        await asyncio.gather(*tasks)
    return {"changes a second": round(rate), **measuring.quantiles(lags)}


async def catching_up(settings: Settings, count: int, chance: random.Random) -> dict[str, Any]:
    """Changes a second that one worker applies to both indexes, and how much its memory grows meanwhile."""
    vectors = GivenVectors()
    async with OmniMemClient.connect(settings, embedding=vectors, background=False) as client:
        stored = round(await load(client, vectors, count, 100, chance))
    async with OmniMemClient.connect(settings, embedding=GivenVectors(), background=False) as client:
        before, most, begun = psutil.Process().memory_info().rss, 0, time.perf_counter()
        worker = asyncio.create_task(client.work_forever())
        while (status := await client.status()).waiting:
            most = max(most, psutil.Process().memory_info().rss)
            print(f"\r  {status.waiting:,} wait   ", end="", flush=True)
            await asyncio.sleep(1)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        taken = time.perf_counter() - begun
    return {"acknowledged": stored, "applied": round(count / taken), "grew MB": round((most - before) / 1e6)}


async def measure(settings: Settings, memories: int, tenants: int, calls: int) -> dict[str, Any]:
    chance = random.Random(3)
    figures: dict[str, Any] = {"memories": memories, "tenants": tenants, "calls": calls}
    later = replace(settings, sync="async", jobs=JobPolicy(batch=BACKLOG_PART))
    figures["a second"] = await catching_up(later, memories, chance)
    async with OmniMemClient.connect(settings, embedding=GivenVectors(), background=False) as client:
        bound = [client.within(scope(n)) for n in range(tenants)]
        known = [m.memory_id for n in range(min(tenants, 20)) for m in await bound[n].list(limit=20)]
        asked = [text(chance) for _ in range(calls)]
        shorter = [" ".join(question.split()[:5]) for question in asked]
        vectors = [await GivenVectors().embed(question) for question in asked]

        def tenant(n: int) -> OmniMemClient:
            return bound[n * 7 % tenants]

        async def readable(n: int) -> None:
            """The truth alone: what a client that reads by id waits for."""
            manager = stored._connection.rooms.manager
            await manager.create([NewMemory(asked[n], scope=scope(n % tenants))])

        figures["milliseconds"] = {
            "get": await measuring.timed(lambda n: client.get(known[n % len(known)]), calls),
            "search hybrid": await measuring.timed(
                lambda n: tenant(n).search(shorter[n], query_embedding=vectors[n]), calls
            ),
            "search hybrid, filtered": await measuring.timed(
                lambda n: tenant(n).search(shorter[n], query_embedding=vectors[n], filters=F("metadata.n") >= 250),
                calls,
            ),
            "create inline, searchable": await measuring.timed(lambda n: tenant(n).create(asked[n]), calls),
            "update inline, searchable": await measuring.timed(
                lambda n: client.update(known[n % len(known)], content=asked[n]), calls
            ),
        }
        async with OmniMemClient.connect(later, embedding=GivenVectors(), background=False) as stored:
            figures["milliseconds"]["create, readable by id"] = await measuring.timed(readable, calls)
    figures["lag at 100 changes/s"] = await lag(later, chance)
    return figures


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--calls", type=int, default=100, help="calls of each kind")
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    busy = os.getloadavg()[0]
    with Fleet() as fleet:
        settings = Settings.fleet(
            fleet.postgres.url,
            mongodb=fleet.mongodb.url,
            elasticsearch=fleet.elasticsearch.url,
            kafka=fleet.kafka.bootstrap,
        )
        figures = await measure(settings, chosen.memories, chosen.tenants, chosen.calls)
    figures["load average"] = [round(busy, 1), round(os.getloadavg()[0], 1)]
    for name, found in figures["milliseconds"].items():
        print(f"  {name:<28} p50 {found['p50']:8.2f} ms   p95 {found['p95']:8.2f} ms")
    print("  ", figures["a second"], figures["lag at 100 changes/s"])
    save("fleet-speed", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
