"""How much memory the Python process takes: `python -m benchmarks.memory [--turns 50000]`.

A fresh process imports neuromem, loads the local model, opens an empty database and imports turns in sessions of 200,
while its background work embeds them with the real model; then it waits until all is done. Resident megabytes of the
process (without the server's) after each step, and the peak of the import, sampled every 20 ms. The floor is Python
alone.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from typing import Any

from benchmarks import measuring
from benchmarks.results_file import save


async def measure(turns: int) -> dict[str, Any]:
    async with measuring.database(None, None) as url:
        command = [sys.executable, "-m", "benchmarks.memory_process", url, str(turns)]
        done = await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(figures: dict[str, Any]) -> None:
    for name, value in figures["megabytes"].items():
        print(f"  {name:<18} {value:7.1f} MB")
    print(f"  {figures['turns']:,} turns, {figures['turns_per_second']} a second")


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=50_000)
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    figures = await measure(chosen.turns)
    report(figures)
    save("memory", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
