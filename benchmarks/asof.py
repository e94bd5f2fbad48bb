"""Whether the past answers as it was: `python -m benchmarks.asof FILE [--sample 1000]`.

FILE is a LoCoMo file. One database holds all its dialogues; another is given the sessions one after the other, in the
order of time, and so holds at each session's end exactly what was known then. At those moments questions are asked of
both: of the first with `as_of=` the moment, of the second today.

leaks: hits of the first that were said later (must be 0). same: the share of the second's ten first hits that are
among the first's ten. They may differ where BM25's word statistics do, which know the whole corpus: so the share is
also given by how much of the corpus the second database held. Of all pairs of a question and a moment `--sample` are
drawn.
"""

import argparse
import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import measuring
from benchmarks.results_file import save
from memground.clock import ManualClock
from memground.embedding import LocalEmbedding
from neuromem import NeuroMemory, NewMessage
from neuromem.importers import locomo
from neuromem.importers.locomo import Dialogue

TOP = 10
_PARTS = ("up to 1/4", "up to 1/2", "up to 3/4", "up to all")


class RememberingEmbedding(LocalEmbedding):
    """The local model, asked once for each text: both databases hold the same ones."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, list[float]] = {}

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(new, await super().embed_batch(new), strict=True))
        return [self._known[text] for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        if text not in self._known:
            self._known[text] = await super().embed_query(text)
        return self._known[text]


@dataclass(frozen=True)
class Talk:
    """A session of a dialogue and the moment of its last turn."""

    dialogue: Dialogue
    session: str
    messages: list[NewMessage]
    end: datetime


def in_order(dialogues: list[Dialogue]) -> list[Talk]:
    """All sessions by the time of their end."""
    talks: list[Talk] = []
    for dialogue in dialogues:
        for session, messages in dialogue.sessions:
            ends = [message.timestamp for message in messages if message.timestamp is not None]
            talks.append(Talk(dialogue, session, messages, max(ends)))
    return sorted(talks, key=lambda talk: talk.end)


async def measure(whole: NeuroMemory, earlier: NeuroMemory, clock: ManualClock, talks: list[Talk], sample: int) -> Any:
    """Fills `whole`, then `earlier` session by session; compares what both answer. `clock` is that of `earlier`."""
    for talk in talks:
        await whole.conversations.add_messages_batch(talk.dialogue.name, talk.messages, session_id=talk.session)
    await whole.wait_idle()
    pairs = [(place, question) for place, talk in enumerate(talks) for question in talk.dialogue.questions]
    asked: dict[int, list[locomo.Question]] = defaultdict(list)
    for place, question in random.Random(29).sample(pairs, min(sample, len(pairs))):
        asked[place].append(question)
    said_at = {
        (talk.dialogue.name, message.content): message.timestamp
        for talk in reversed(talks)
        for message in talk.messages
    }
    leaks, shares, taken = 0, list[float](), list[float]()
    by_part: dict[str, list[float]] = defaultdict(list)
    for place, talk in enumerate(talks):
        user = talk.dialogue.name
        clock.set(talk.end)
        await earlier.conversations.add_messages_batch(user, talk.messages, session_id=talk.session)
        await earlier.wait_idle()
        for question in asked[place]:
            begun = time.perf_counter()
            then = await whole.recall(user, question.text, limit=TOP, as_of=talk.end)
            taken.append(time.perf_counter() - begun)
            today = await earlier.recall(user, question.text, limit=TOP)
            leaks += sum(hit.known_from > talk.end or said_at[user, hit.content] > talk.end for hit in then.merged)
            wanted = [hit.content for hit in today.merged]
            shares.append(len({hit.content for hit in then.merged}.intersection(wanted)) / len(wanted))
            by_part[_PARTS[4 * place // len(talks)]].append(shares[-1])
    return {
        "asked": len(shares),
        "moments": len(talks),
        "leaks": leaks,
        "same_top_10": round(fmean(shares), 4),
        "same_by_part_held": {part: round(fmean(by_part[part]), 4) for part in _PARTS if by_part[part]},
        "all_ten_same": round(fmean(share == 1.0 for share in shares), 4),
        "milliseconds": measuring.quantiles(taken),
    }


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sample", type=int, default=1_000, help="questions asked, each at one moment")
    return parser.parse_args()


async def compare(dialogues: list[Dialogue], sample: int) -> dict[str, Any]:
    """The figures of a file, on a server of its own."""
    talks, embedding = in_order(dialogues), RememberingEmbedding()
    clock = ManualClock(talks[0].end)
    async with (
        measuring.database(None, None) as url,
        NeuroMemory(url, embedding, schema="whole") as whole,
        NeuroMemory(url, embedding, schema="earlier", clock=clock) as earlier,
    ):
        return await measure(whole, earlier, clock, talks, sample)


async def main() -> None:
    chosen = options()
    figures = await compare(locomo.read(chosen.file), chosen.sample)
    print(f"  {figures['asked']} questions at {figures['moments']} moments: {figures['leaks']} leaks")
    print(f"  {figures['same_top_10']:.4f} of the first ten are the same, all ten in {figures['all_ten_same']:.4f}")
    print(f"  by how much of the corpus was known: {figures['same_by_part_held']}")
    save("asof", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
