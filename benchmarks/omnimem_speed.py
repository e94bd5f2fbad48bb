"""How long calls of omnimem take, with the vectors given (no model works).

    python -m benchmarks.omnimem_speed --sizes 100000 1000000

Each size is loaded in bulk into a database of its own. A hundred tenants share it (`--tenants`: another number), so
that they grow with it. Searches, reads and writes are those of random tenants. Beside them, in the same run: one round
trip, and LangGraph's store with the same memories.
"""

import argparse
import asyncio
import hashlib
import os
import random
import time
from collections.abc import Iterable
from itertools import batched
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import literal, select

from benchmarks import measuring, peer
from benchmarks.results_file import save
from memground.embedding import EmbeddingProvider
from omnimem import F, NewMemory, OmniMemClient, Scope, Settings
from omnimem.storage.postgres.database import Database

DIMS = 384
PART = 500
_MORE = 5_000
"""Memories that are created beside those loaded, at most."""
_SCHEMA = "bench"


class GivenVectors(EmbeddingProvider):
    """A topic's direction and something of the text's own; at little cost for texts it was `given` before."""

    def __init__(self) -> None:
        self._topics = np.random.default_rng(1).normal(size=(200, DIMS))
        self._given: dict[str, NDArray[np.float32]] = {}

    def given(self, memories: Iterable[NewMemory]) -> None:
        """Makes the vectors of these, in place of those made before."""
        texts = [memory.content if isinstance(memory.content, str) else memory.content.text for memory in memories]
        self._given = {text: self._made(text) for text in texts if text is not None}

    @property
    def dims(self) -> int:
        return DIMS

    async def embed(self, text: str) -> list[float]:
        return (self._given[text] if text in self._given else self._made(text)).tolist()

    def _made(self, text: str) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        own = np.random.default_rng(seed).normal(size=DIMS)
        vector = self._topics[int(text.split(maxsplit=1)[0][5:]) % 200] + 0.7 * own
        return (vector / np.linalg.norm(vector)).astype(np.float32)


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


def memories_of(count: int, tenants: int, chance: random.Random) -> list[NewMemory]:
    """Random memories, one tenant's after the other's."""
    return [NewMemory(text(chance), scope=scope(n % tenants), metadata={"n": n % PART}) for n in range(count)]


async def load(client: OmniMemClient, vectors: GivenVectors, count: int, tenants: int, chance: random.Random) -> float:
    """Memories a second, created in parts; their vectors are made before."""
    memories = memories_of(count, tenants, chance)
    vectors.given(memories)
    begun = time.perf_counter()
    for part in batched(memories, PART):
        await client.create_many(part)
    return count / (time.perf_counter() - begun)


def database(client: OmniMemClient) -> Database:
    return client._connection.rooms.storage.records._database  # type: ignore[attr-defined]


async def measure(url: str, memories: int, tenants: int, calls: int, versions: int) -> dict[str, Any]:
    chance = random.Random(3)
    more = min(_MORE, memories)
    vectors = GivenVectors()
    figures: dict[str, Any] = {"tenants": tenants}
    async with OmniMemClient.connect(Settings(url, schema=_SCHEMA), embedding=vectors) as client:
        made = memories_of(memories, tenants, chance)
        vectors.given(made)
        begun = time.perf_counter()
        await client.load(made)
        figures["load"] = {"per second": round(memories / (time.perf_counter() - begun))}
        figures["create_many inline"] = {"per second": round(await load(client, vectors, more, tenants, chance))}
        opened = database(client)
        await measuring.settle(opened._url_in_use, opened.tables.metadata, client._rooms.storage.tend)
        figures["milliseconds"] = await measure_calls(client, tenants, calls, versions, chance)
        if peer.installed():
            figures["peer"] = {"name": peer.NAME} | await measure_peer(client, tenants, calls, chance)
    settings = Settings(url, schema=_SCHEMA, sync="async")
    async with OmniMemClient.connect(settings, embedding=vectors, background=False) as client:
        figures["create_many async"] = {"per second": round(await load(client, vectors, more, tenants, chance))}
    return figures


async def measure_calls(
    client: OmniMemClient, tenants: int, calls: int, versions: int, chance: random.Random
) -> dict[str, Any]:
    bound = [client.within(scope(n)) for n in range(tenants)]
    known = [m.memory_id for n in range(min(tenants, 20)) for m in await bound[n].list(limit=20)]
    long = await client.create(text(chance), scope=scope(0))
    for _ in range(versions):
        await client.update(long.memory_id, metadata={"n": 1})
    middle = (await client.history(long.memory_id, limit=versions))[versions // 2].created_time
    asked = [text(chance) for _ in range(calls)]
    shorter = [" ".join(question.split()[:5]) for question in asked]
    vectors = [await GivenVectors().embed(question) for question in asked]

    def tenant(n: int) -> OmniMemClient:
        return bound[n * 7 % tenants]

    def search(n: int, who: OmniMemClient, **more: Any) -> Any:
        return who.search(shorter[n], query_embedding=vectors[n], **more)

    async with database(client).engine.connect() as connection:
        trip = await measuring.timed(lambda _: connection.execute(select(literal(1))), calls)
    kinds: dict[str, measuring.Call] = {
        "get": lambda n: client.get(known[n % len(known)]),
        "search hybrid": lambda n: search(n, tenant(n)),
        "search semantic": lambda n: search(n, tenant(n), mode="semantic"),
        "search keyword": lambda n: tenant(n).search(shorter[n], mode="keyword"),
        "search hybrid, filtered": lambda n: search(n, tenant(n), filters=F("metadata.n") >= 250),
        "search hybrid as_of": lambda n: search(n, tenant(n), as_of=middle),
        "search hybrid, all tenants": lambda n: search(n, client),
        f"history of {versions:,} (limit 20)": lambda _: client.history(long.memory_id),
        "create inline": lambda n: tenant(n).create(asked[n]),
        "update inline": lambda n: client.update(known[n % len(known)], content=asked[n]),
    }
    return {"round trip": trip} | {name: await measuring.timed(call, calls) for name, call in kinds.items()}


async def measure_peer(client: OmniMemClient, tenants: int, calls: int, chance: random.Random) -> dict[str, Any]:
    asked = [text(chance) for _ in range(calls)]
    vectors = {question: await GivenVectors().embed(question) for question in asked}
    rows = (
        "select 'tenants.' || v.scope_tenant_id as prefix, v.memory_id as key, m.text, v.embedding "
        f"from {_SCHEMA}.memory_vector_index v join {_SCHEMA}.memories m using (record_id)"
    )
    async with peer.filled(database(client)._url_in_use, f"{_SCHEMA}_peer", DIMS, rows, vectors) as store:
        return {
            "search": await measuring.timed(
                lambda n: store.asearch(("tenants", f"t{n * 7 % tenants}"), query=asked[n], limit=10), calls
            ),
            "put": await measuring.timed(
                lambda n: store.aput(("tenants", f"t{n * 7 % tenants}"), f"new-{n}", {peer.FIELD: asked[n]}), calls
            ),
        }


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000], help="memories in all")
    parser.add_argument("--tenants", type=int, default=100, help="how many share them")
    parser.add_argument("--calls", type=int, default=100, help="calls of each kind")
    parser.add_argument("--versions", type=int, default=1_000, help="of the memory whose history is read")
    parser.add_argument("--url", help="a server to measure on instead of one of its own")
    return parser.parse_args()


def report(figures: dict[str, Any]) -> None:
    for name in ("load", "create_many inline", "create_many async"):
        print(f"  {name:<32} {figures[name]['per second']:8,} memories a second")
    beside = {f"{figures['peer']['name']}: {k}": v for k, v in figures.get("peer", {}).items() if k != "name"}
    for name, found in (figures["milliseconds"] | beside).items():
        print(f"  {name:<38} p50 {found['p50']:8.2f} ms   p95 {found['p95']:8.2f} ms")


async def main() -> None:
    chosen = options()
    busy = os.getloadavg()[0]
    sizes: dict[str, Any] = {}
    for memories in chosen.sizes:
        async with measuring.database(chosen.url, None) as url:
            sizes[str(memories)] = await measure(url, memories, chosen.tenants, chosen.calls, chosen.versions)
        print(f"{memories:,} memories")
        report(sizes[str(memories)])
    # Of a minute before and of the last one: what others did on this machine is in the figures.
    load_average = [round(busy, 1), round(os.getloadavg()[0], 1)]
    save("omnimem-speed", {"calls": chosen.calls, "sizes": sizes, "load average": load_average}, chosen)


if __name__ == "__main__":
    asyncio.run(main())
