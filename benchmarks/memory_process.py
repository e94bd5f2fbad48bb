"""The process that `benchmarks.memory` looks at. It imports nothing early, so that each step shows what it takes."""

import asyncio
import json
import sys
import threading
import time
from typing import Any

import psutil

_SESSION_TURNS = 200


def resident() -> float:
    """Megabytes of this process in memory."""
    return round(psutil.Process().memory_info().rss / 2**20, 1)


async def steps_of(url: str, turns: int) -> dict[str, Any]:
    """What the fresh process does; the steps import what they need when they begin."""
    steps: dict[str, Any] = {"python": resident()}
    from neuromem import NeuroMemory, NewMessage

    steps["neuromem imported"] = resident()
    async with NeuroMemory(url) as nm:
        steps["database open"] = resident()
        await nm.recall("anna", "where does she live?")
        steps["model loaded"] = resident()
        peak, stop = [0.0], threading.Event()

        def watch() -> None:
            while not stop.wait(0.02):
                peak[0] = max(peak[0], resident())

        watcher = threading.Thread(target=watch)
        watcher.start()
        begun = time.perf_counter()
        for start in range(0, turns, _SESSION_TURNS):
            said = [
                NewMessage("user", f"Turn {n} is about {_about(n)}.", speaker="Ann", external_id=str(n))
                for n in range(start, min(turns, start + _SESSION_TURNS))
            ]
            await nm.conversations.add_messages_batch("anna", said, session_id=f"s{start}")
        while (await nm.background_status()).waiting:
            await asyncio.sleep(0.2)
        seconds = time.perf_counter() - begun
        stop.set()
        watcher.join()
        steps["importing, peak"] = peak[0]
        steps["imported"] = resident()
    return {"turns": turns, "turns_per_second": round(turns / seconds, 1), "megabytes": steps}


def _about(number: int) -> str:
    # Lengths like those of chat, without what would itself take memory.
    words = ("the river", "a train to Porto", "her garden", "winter coffee", "the old market", "a letter")
    return " and ".join(words[(number * step) % len(words)] for step in range(1, 2 + number % 5))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(steps_of(sys.argv[1], int(sys.argv[2])))))
