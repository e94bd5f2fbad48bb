"""How fast turns are stored and made findable: `python -m benchmarks.ingest [--turns 2000]`.

acknowledged: `ingest` of one turn until it is committed, ten a second while nothing else happens, and again while the
background work embeds so many turns that the model keeps all cores busy. Its floor is one round trip.

background: how many turns a second get their vectors, beside the model's own rate on the same texts in batches of the
same size; and what neuromem itself costs a text: processor time of this process and of the server, less the model's.
"""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measuring
from benchmarks.results_file import save
from benchmarks.synthetic import World
from memground.embedding import LocalEmbedding
from memground.postgres.queue import JobPolicy
from neuromem import NeuroMemory, NewMessage
from neuromem.queries.messages import to_embed
from neuromem.services.background import BackgroundWorker

_SESSION_TURNS = 200


async def acknowledged(nm: NeuroMemory, texts: list[str], *, pause: float) -> list[float]:
    """Seconds of one `ingest` after the other, with a pause between."""
    taken: list[float] = []
    for text in texts:
        begun = time.perf_counter()
        await nm.ingest("writer", "user", text, speaker="Ann")
        taken.append(time.perf_counter() - begun)
        await asyncio.sleep(pause)
    return taken


async def store(nm: NeuroMemory, user: str, texts: list[str]) -> None:
    """Sessions of turns, in batches as an import writes them."""
    for start in range(0, len(texts), _SESSION_TURNS):
        turns = [NewMessage("user", text, speaker="Ann") for text in texts[start : start + _SESSION_TURNS]]
        await nm.conversations.add_messages_batch(user, turns, session_id=f"s{start}")


async def embedded_texts(nm: NeuroMemory, user: str, count: int) -> list[str]:
    """What the model is given for a user's turns: each with the turns before it."""
    ids = [
        message.message_id
        for start in range(0, count, _SESSION_TURNS)
        for message in await nm.conversations.get_session_messages(user, f"s{start}")
    ]
    async with nm._db.read() as session:
        rows = await session.execute(to_embed(session.tables, ids))
        return ["\n".join([row.said, *(row.context or ())]) for row in rows]


async def model_alone(embedding: LocalEmbedding, texts: list[str]) -> tuple[float, float]:
    """Texts a second and processor seconds a text, in batches as large as the background work's."""
    batch = JobPolicy().batch
    begun, used = time.perf_counter(), time.process_time()
    for start in range(0, len(texts), batch):
        await embedding.embed_batch(texts[start : start + batch])
    return len(texts) / (time.perf_counter() - begun), (time.process_time() - used) / len(texts)


async def background(url: str, data: Path | None, embedding: LocalEmbedding, texts: list[str]) -> dict[str, Any]:
    """Rate and cost of the background work, between two measurements of the model alone."""
    async with NeuroMemory(url, embedding, background=False) as nm:
        begun = time.perf_counter()
        await store(nm, "many", texts)
        stored = len(texts) / (time.perf_counter() - begun)
        given = await embedded_texts(nm, "many", len(texts))
        before = await model_alone(embedding, given)
        server = 0.0 if data is None else measuring.server_seconds(data)
        worker = BackgroundWorker(nm._db, embedding)
        begun, used = time.perf_counter(), time.process_time()
        worker.start()
        while (await nm.background_status("many")).waiting:
            await asyncio.sleep(0.2)
        rate = len(texts) / (time.perf_counter() - begun)
        here = time.process_time() - used
        there = None if data is None else measuring.server_seconds(data) - server
        await worker.stop()
        after = await model_alone(embedding, given)
    alone, model_cost = ((one + other) / 2 for one, other in zip(before, after, strict=True))
    cost = None if there is None else (here + there) / len(texts) - model_cost
    return {
        "texts": len(texts),
        "stored_per_second": round(stored),
        "embedded_per_second": round(rate, 1),
        "model_alone_per_second": round(alone, 1),
        "share_of_model": round(rate / alone, 3),
        "own_core_ms_per_text": None if cost is None else round(cost * 1000, 2),
        "server_core_ms_per_text": None if there is None else round(there / len(texts) * 1000, 2),
    }


async def busy(nm: NeuroMemory, texts: list[str], new: list[str]) -> dict[str, Any]:
    """`ingest` while the model works off many turns."""
    await store(nm, "crowd", texts)
    taken: list[float] = []
    while (await nm.background_status("crowd")).waiting:
        taken += await acknowledged(nm, new[len(taken) % len(new) :][:10], pause=0.05)
    begun = time.perf_counter()
    await nm.wait_idle()
    return measuring.quantiles(taken) | {"count": len(taken), "settled_seconds": round(time.perf_counter() - begun, 2)}


async def findable(nm: NeuroMemory, texts: list[str]) -> dict[str, float]:
    """From `ingest` of a single turn until its vector is there."""
    taken: list[float] = []
    for text in texts:
        begun = time.perf_counter()
        await nm.ingest("writer", "user", text, speaker="Ann")
        while (await nm.background_status()).waiting:
            await asyncio.sleep(0.001)
        taken.append(time.perf_counter() - begun)
    return measuring.quantiles(taken)


async def measure(url: str, data: Path | None, turns: int, singles: int) -> dict[str, Any]:
    """All figures, on an empty database."""
    embedding, random = LocalEmbedding(), np.random.default_rng(23)
    texts = World(embedding.dims).draw(random, np.arange(turns + singles) % 400).texts
    many, few = texts[:turns], texts[turns:]
    await embedding.embed_batch(few[:8])  # loads the model
    async with NeuroMemory(url, embedding) as nm:
        figures: dict[str, Any] = {
            "floor": {"round trip": await measuring.round_trip(nm)},
            "acknowledged": {
                "idle": measuring.quantiles((await acknowledged(nm, few, pause=0.1))[5:]),
                "busy": await busy(nm, many, few),
            },
            "findable": await findable(nm, few[:20]),
        }
    figures["background"] = await background(url, data, embedding, many)
    await embedding.close()
    return figures


def report(figures: dict[str, Any]) -> None:
    for name, value in {**figures["floor"], **figures["acknowledged"], "findable": figures["findable"]}.items():
        print(f"  {name:<12} p50 {value['p50']:7.2f}  p95 {value['p95']:7.2f} ms")
    for name, value in figures["background"].items():
        print(f"  {name.replace('_', ' '):<26} {value}")


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=2_000, help="turns the background work is given, twice")
    parser.add_argument("--singles", type=int, default=100, help="turns ingested one by one")
    parser.add_argument("--database-url", help="an empty database; the embedded server's processor time is left out")
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    async with measuring.database(chosen.database_url, None) as url:
        data = None if chosen.database_url else Path(url.removeprefix("embedded://"))
        figures = await measure(url, data, chosen.turns, chosen.singles)
    report(figures)
    save("ingest", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
