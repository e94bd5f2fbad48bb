"""What extracting 30 turns costs besides the models: `python -m benchmarks.extraction [--known 5000] [--rounds 40]`.

A user who has long been known says 30 turns; a model that answers at once finds 20 facts (five told before), 10 events,
12 relations and 5 values of the profile in them. Timed from the claim of the job to its end, without the time spent in
the language model and the embedding model. Milliseconds, p50 and p95; the floor is a round trip.
"""

import argparse
import asyncio
import json
import random
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks import measuring
from benchmarks.results_file import save
from benchmarks.synthetic import SyntheticEmbedding
from memground.postgres.queue import JobPolicy
from neuromem import ExtractionPolicy, Fact, HygieneRules, NeuroMemory, NewMessage
from neuromem.providers.embedding import EmbeddingProvider
from neuromem.providers.llm import CallbackLLM
from neuromem.queries.extraction import EXTRACT
from neuromem.services.extracting import MessageExtractor
from neuromem.services.job_loop import JobLoop

TURNS = 30
USER = "busy"
_WORDS = ("river", "mountain", "bread", "coffee", "piano", "garden", "winter", "letter", "harbour", "market", "window")


def sentence(rng: random.Random, number: int) -> str:
    """A text nobody else has."""
    return f"{' '.join(rng.sample(_WORDS, 4))} {number}"


def found(number: int) -> dict[str, Any]:
    """What the model finds in the turns of a round."""
    rng, base = random.Random(number), number * 100

    def item(text: str, place: int) -> dict[str, Any]:
        return {"content": text, "confidence": 0.9, "importance": 5, "sources": [1 + place % TURNS]}

    told = [sentence(random.Random(n), n) for n in rng.sample(range(1_000), 5)]
    triples = [("user", "likes", f"thing {base + n}") for n in range(8)]
    triples += [("user", "lives in", f"town {number}"), *((f"person {n}", "knows", "user") for n in range(3))]
    return {
        "facts": [item(text, n) for n, text in enumerate([*told, *(sentence(rng, base + n) for n in range(15))])],
        "episodes": [item(f"saw {sentence(rng, base + n)}", 20 + n) for n in range(10)],
        "triples": [
            {"subject": s, "relation": r, "object": o, "sources": [1 + place % TURNS]}
            for place, (s, r, o) in enumerate(triples)
        ],
        "profile_updates": [{"key": f"key{n}", "value": f"{number}", "sources": [n + 1]} for n in range(5)],
    }


class Models:
    """A language model that has its answers ready, an embedding model, and the seconds spent in both."""

    def __init__(self, embedding: EmbeddingProvider) -> None:
        self.spent = 0.0
        self.number = 0
        self._embed = embedding.embed_batch
        embedding.embed_batch = self.embed_batch  # type: ignore[method-assign]

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        start = time.perf_counter()
        try:
            return await self._embed(texts)
        finally:
            self.spent += time.perf_counter() - start

    async def chat(self, messages: list[dict[str, Any]]) -> str:
        start = time.perf_counter()
        try:
            return json.dumps(found(self.number))
        finally:
            self.spent += time.perf_counter() - start


async def measure(known: int, rounds: int) -> dict[str, Any]:
    embedding = SyntheticEmbedding()
    models = Models(embedding)
    policy = ExtractionPolicy(messages=TURNS)
    async with measuring.database(None, None) as url, NeuroMemory(url, embedding, background=False) as nm:
        for start in range(0, known, 1_000):
            facts = [Fact(sentence(random.Random(n), n)) for n in range(start, min(start + 1_000, known))]
            await nm.apply_extraction(USER, facts=facts)
        extractor = MessageExtractor(
            nm._db, embedding, CallbackLLM(models.chat), jobs=JobPolicy(), policy=policy, rules=HygieneRules()
        )
        loop = JobLoop(nm._db, JobPolicy(), EXTRACT, extractor.work)
        taken: list[float] = []
        sent: list[int] = []
        for number in range(rounds + 3):
            models.number = number
            said = [NewMessage("user", f"turn {number} {n}", datetime.now(UTC)) for n in range(TURNS)]
            await nm.conversations.add_messages_batch(USER, said, session_id=f"s{number}")
            await nm.extract(USER, session_id=f"s{number}")
            models.spent, start = 0.0, time.perf_counter()
            async with measuring.counted(nm) as statements:
                assert await loop.work_once() == 1
                seconds = time.perf_counter() - start - models.spent
            if number >= 3:  # the first ones plan their statements
                taken.append(seconds)
                sent.append(len(statements.sent))
        status = await nm.extraction_status(USER)
        assert (status.extracted, status.pending, status.failed) == ((rounds + 3) * TURNS, 0, 0)
        return {
            "turns": TURNS,
            "known": known,
            "rounds": rounds,
            "milliseconds": {"round trip": await measuring.round_trip(nm), "extraction": measuring.quantiles(taken)},
            "round_trips": measuring.quantile(sent, 0.5),
        }


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--known", type=int, default=5_000, help="memories of the user before")
    parser.add_argument("--rounds", type=int, default=40)
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    figures = await measure(chosen.known, chosen.rounds)
    for what, times in figures["milliseconds"].items():
        print(f"  {what:<12} p50 {times['p50']:8.2f} ms   p95 {times['p95']:8.2f} ms")
    print(f"  {figures['round_trips']:.0f} round trips")
    save("extraction", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
