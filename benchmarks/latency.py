"""How long recall and search take: `python -m benchmarks.latency [--users 10] [--memories 1000] [--no-save]`.

Every user holds `memories` memories and as many messages, with texts of ordinary words and clustered synthetic vectors,
so that loading does not measure the model. Database part: the query's vector is given. End to end: the local model
embeds the query. Beside them, in the same run, the physical floor: one round trip, and the embedding of one query.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles

import numpy as np
from sqlalchemy import literal, select

from benchmarks.quality import drop
from memground.embedding import LocalEmbedding
from neuromem import NeuroMemory, NewMemory, NewMessage

QUERIES = 200
_WORDS = (  # noqa: SIM905 - reads better than thirty quoted words
    "river garden train ticket doctor winter coffee music brother window market letter summer holiday kitchen meeting "
    "project museum bicycle mountain island teacher weather birthday camera painting language dinner hospital library"
).split()


class ClusteredEmbedding(LocalEmbedding):
    """The local model for queries; for stored texts a random point near one of 50 centres, by the text's hash."""

    def __init__(self) -> None:
        super().__init__()
        self._centres = np.random.default_rng(1).normal(size=(50, self.dims))

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        return [self._point(text) for text in texts]

    def _point(self, text: str) -> list[float]:
        noise = np.random.default_rng(abs(hash(text)) % 2**32)
        vector = self._centres[noise.integers(50)] + 0.7 * noise.normal(size=self.dims)
        return (vector / np.linalg.norm(vector)).tolist()


async def load(nm: NeuroMemory, users: int, memories: int) -> float:
    """Fills the database; returns rows per second."""
    begun, words = time.perf_counter(), random.Random(7)

    def text() -> str:
        return " ".join(words.choices(_WORDS, k=14)) + f" {words.randrange(10_000)}"

    for user in range(users):
        for start in range(0, memories, 500):
            size = min(500, memories - start)
            await nm.add_memories(f"u{user}", [NewMemory(text()) for _ in range(size)])
            turns = [NewMessage("user", text(), speaker="Ann") for _ in range(size)]
            await nm.conversations.add_messages_batch(f"u{user}", turns, session_id=f"s{start // 500}")
    await nm.wait_idle()
    return 2 * users * memories / (time.perf_counter() - begun)


async def timed(call: Callable[[int], Awaitable[object]], count: int = QUERIES) -> dict[str, float]:
    """p50 and p95 in milliseconds over `count` calls after ten that warm up."""
    for number in range(10):
        await call(number)
    taken: list[float] = []
    for number in range(count):
        begun = time.perf_counter()
        await call(number)
        taken.append((time.perf_counter() - begun) * 1000)
    cut = quantiles(taken, n=20)
    return {"p50": round(cut[9], 2), "p95": round(cut[18], 2)}


async def measure(nm: NeuroMemory, embedding: LocalEmbedding, users: int) -> dict[str, dict[str, float]]:
    words = random.Random(9)
    queries = [" ".join(words.choices(_WORDS, k=4)) for _ in range(QUERIES)]
    vectors = [await embedding.embed_query(query) for query in queries]
    half = nm.as_of((await nm.list_memories("u0", limit=1)).items[0].known_from)

    async def round_trip(_: int) -> None:
        async with nm._db.read() as session:  # one statement on the mind's own connection
            await session.execute(select(literal(1)))

    def user(number: int) -> str:
        return f"u{number % users}"

    calls: dict[str, Callable[[int], Awaitable[object]]] = {
        "round trip": round_trip,
        "embed a query": lambda n: embedding.embed_query(queries[n]),
        "search": lambda n: nm.search(user(n), queries[n], query_embedding=vectors[n]),
        "recall": lambda n: nm.recall(user(n), queries[n], query_embedding=vectors[n]),
        "recall as of": lambda n: half.recall(user(n), queries[n], query_embedding=vectors[n]),
        "recall, end to end": lambda n: nm.recall(user(n), queries[n]),
        "ingest": lambda n: nm.ingest("writer", "user", queries[n]),
    }
    return {name: await timed(call) for name, call in calls.items()}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--memories", type=int, default=1_000, help="per user, and as many messages")
    parser.add_argument("--database-url", default=None)
    parser.add_argument("--no-save", action="store_true", help="print only")
    arguments = parser.parse_args()
    from benchmarks.results_file import save

    embedding = ClusteredEmbedding()
    schema = f"latency_{time.time_ns()}"
    async with NeuroMemory(arguments.database_url, embedding, schema=schema) as nm:
        rate = await load(nm, arguments.users, arguments.memories)
        figures = await measure(nm, embedding, arguments.users)
        await drop(nm, schema)
    floor = figures["round trip"]["p50"]
    print(f"{arguments.users} users × {arguments.memories} memories and messages, loaded at {rate:.0f} rows/s; ms:")
    for name, value in figures.items():
        print(f"  {name:<20} p50 {value['p50']:7.2f}  p95 {value['p95']:7.2f}  {value['p50'] / floor:6.1f} round trips")
    if not arguments.no_save:
        shape = {"users": arguments.users, "memories_per_user": arguments.memories, "rows_per_second": round(rate)}
        print("saved:", save("latency", shape | {"milliseconds": figures}).name)


if __name__ == "__main__":
    asyncio.run(main())
