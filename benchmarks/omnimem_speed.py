"""How long calls of omnimem take, with the vectors given (no model works).

    python -m benchmarks.omnimem_speed --memories 100000 --tenants 100

Every tenant has its share of the memories; searches, reads and writes are those of random tenants.
"""

import argparse
import asyncio
import hashlib
import os
import random
import time
from typing import Any

import numpy as np

from benchmarks import measuring
from benchmarks.results_file import save
from memground.embedding import EmbeddingProvider
from memground.postgres.statistics import freshen
from omnimem import F, NewMemory, OmniMemClient, Scope, Settings

DIMS = 384
PART = 500


class GivenVectors(EmbeddingProvider):
    """Vectors at no cost: a topic's direction and something of the text's own."""

    def __init__(self) -> None:
        self._topics = np.random.default_rng(1).normal(size=(200, DIMS))

    @property
    def dims(self) -> int:
        return DIMS

    async def embed(self, text: str) -> list[float]:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        own = np.random.default_rng(seed).normal(size=DIMS)
        vector = self._topics[int(text.split(maxsplit=1)[0][5:]) % 200] + 0.7 * own
        return (vector / np.linalg.norm(vector)).tolist()


def text(chance: random.Random) -> str:
    words = " ".join(word(min(150 + int(100 * chance.paretovariate(0.6)), 50_000)) for _ in range(20))
    return f"topic{chance.randrange(200)} {words}"


def word(rank: int) -> str:
    """A made-up word for a rank of frequency; letters only, as a number would be words of its own."""
    letters = ""
    while rank:
        rank, place = divmod(rank, 26)
        letters += "abcdefghijklmnopqrstuvwxyz"[place]
    return f"q{letters}x"


def scope(number: int) -> Scope:
    return Scope(tenant_id=f"t{number}")


async def load(client: OmniMemClient, count: int, tenants: int, chance: random.Random) -> float:
    """Memories a second, created in parts."""
    begun = time.perf_counter()
    for start in range(0, count, PART):
        part = [
            NewMemory(text(chance), scope=scope((start + n) % tenants), metadata={"n": n})
            for n in range(min(PART, count - start))
        ]
        await client.create_many(part)
    return count / (time.perf_counter() - begun)


async def measure(url: str, memories: int, tenants: int, calls: int) -> dict[str, Any]:
    chance = random.Random(3)
    figures: dict[str, Any] = {"memories": memories, "tenants": tenants, "calls": calls}
    async with OmniMemClient.connect(Settings(url, schema="bench"), embedding=GivenVectors()) as client:
        rate = await load(client, memories, tenants, chance)
        figures["create_many inline"] = {"per second": round(rate)}
        storage = client._connection.rooms.storage
        await freshen(storage.records._database.engine, "bench")  # type: ignore[attr-defined]
        bound = [client.within(scope(n)) for n in range(tenants)]
        known = [m.memory_id for n in range(min(tenants, 20)) for m in await bound[n].list(limit=20)]
        long = await client.create(text(chance), scope=scope(0))
        for _ in range(1_000):
            await client.update(long.memory_id, metadata={"n": 1})
        middle = (await client.history(long.memory_id, limit=1_000))[500].created_time
        asked = [text(chance) for _ in range(calls)]
        shorter = [" ".join(question.split()[:5]) for question in asked]
        vectors = [await GivenVectors().embed(question) for question in asked]

        def tenant(n: int) -> OmniMemClient:
            return bound[n * 7 % tenants]

        figures["milliseconds"] = {
            "get": await measuring.timed(lambda n: client.get(known[n % len(known)]), calls),
            "search hybrid": await measuring.timed(
                lambda n: tenant(n).search(shorter[n], query_embedding=vectors[n]), calls
            ),
            "search semantic": await measuring.timed(
                lambda n: tenant(n).search(shorter[n], mode="semantic", query_embedding=vectors[n]), calls
            ),
            "search keyword": await measuring.timed(lambda n: tenant(n).search(shorter[n], mode="keyword"), calls),
            "search hybrid, filtered": await measuring.timed(
                lambda n: tenant(n).search(shorter[n], query_embedding=vectors[n], filters=F("metadata.n") >= 250),
                calls,
            ),
            "search hybrid as_of": await measuring.timed(
                lambda n: tenant(n).search(shorter[n], query_embedding=vectors[n], as_of=middle), calls
            ),
            "history of 1,000 (limit 20)": await measuring.timed(lambda _: client.history(long.memory_id), calls),
            "create inline": await measuring.timed(lambda n: tenant(n).create(asked[n]), calls),
            "update inline": await measuring.timed(
                lambda n: client.update(known[n % len(known)], content=asked[n]), calls
            ),
        }
    settings = Settings(url, schema="bench", sync="async")
    async with OmniMemClient.connect(settings, embedding=GivenVectors(), background=False) as client:
        figures["create_many async"] = {"per second": round(await load(client, 5_000, tenants, chance))}
    return figures


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--calls", type=int, default=100, help="calls of each kind")
    parser.add_argument("--url", help="a server to measure on instead of one of its own")
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    busy = os.getloadavg()[0]
    async with measuring.database(chosen.url, None) as url:
        figures = await measure(url, chosen.memories, chosen.tenants, chosen.calls)
    # Of a minute before and of the last one: what others did on this machine is in the figures.
    figures["load average"] = [round(busy, 1), round(os.getloadavg()[0], 1)]
    for name in ("create_many inline", "create_many async"):
        print(f"  {name:<32} {figures[name]['per second']:8,} memories a second")
    for name, found in figures["milliseconds"].items():
        print(f"  {name:<32} p50 {found['p50']:8.2f} ms   p95 {found['p95']:8.2f} ms")
    save("omnimem-speed", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
