"""How long it takes to begin: `python -m benchmarks.startup`.

Each figure is the median over fresh processes: `import neuromem`; opening a database that exists, whose embedded server
does not run yet, and the first recall, which loads the model; the same with nothing there yet (initdb, schema). The
floor is the interpreter's own start; the slowest imports are named.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from statistics import median
from typing import Any

from benchmarks import measuring
from benchmarks.results_file import save

_IMPORT = "import time; begun = time.perf_counter(); import neuromem; print(time.perf_counter() - begun)"
_OPEN = """
import asyncio, json, sys, time
from neuromem import NeuroMemory

async def main():
    begun = time.perf_counter()
    async with NeuroMemory(sys.argv[1]) as nm:
        opened = time.perf_counter() - begun
        await nm.recall("anna", "where does she live?")
        print(json.dumps({"opened": opened, "first recall": time.perf_counter() - begun}))

asyncio.run(main())
"""
_FILL = """
import asyncio, sys
from neuromem import NeuroMemory

async def main():
    async with NeuroMemory(sys.argv[1]) as nm:
        for number in range(50):
            await nm.ingest("anna", "user", f"I moved to Porto {number} weeks ago.")
        await nm.wait_idle()

asyncio.run(main())
"""


def run(script: str, *arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter on a script."""
    command = [sys.executable, *flags, "-c", script, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def imports(rounds: int) -> dict[str, Any]:
    """Milliseconds of `import neuromem`, of starting Python alone, and the modules that take most themselves."""
    run(_IMPORT)  # writes the byte code
    taken = [float(run(_IMPORT).stdout) for _ in range(rounds)]
    bare: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter()
        run("pass")
        bare.append(time.perf_counter() - begun)
    lines = re.findall(
        r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", run("import neuromem", flags=("-X", "importtime")).stderr
    )
    slowest = sorted(((int(own), name) for own, name in lines), reverse=True)[:8]
    return {
        "milliseconds": round(median(taken) * 1000, 1),
        "python_alone_milliseconds": round(median(bare) * 1000, 1),
        "slowest": {name: round(own / 1000, 2) for own, name in slowest},
    }


def opening(urls: list[str]) -> dict[str, float]:
    """Median seconds over one fresh process for each address."""
    found = [json.loads(run(_OPEN, url).stdout) for url in urls]
    return {name: round(median(one[name] for one in found), 3) for name in found[0]}


async def measure(rounds: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"rounds": rounds, "import": imports(rounds)}
    few = max(1, rounds // 3)
    async with measuring.database(None, None) as url:
        run(_FILL, url)
        figures["existing database"] = opening([url] * rounds)
        figures["nothing there"] = opening([f"{url}-{number}" for number in range(few)])
    return figures


def report(figures: dict[str, Any]) -> None:
    found = figures["import"]
    slowest = ", ".join(f"{name} {ms}" for name, ms in found["slowest"].items())
    print(f"  import neuromem    {found['milliseconds']} ms (Python alone {found['python_alone_milliseconds']} ms)")
    print(f"    slowest: {slowest}")
    for name in ("existing database", "nothing there"):
        print(f"  {name:<18} {figures[name]['opened']} s open, {figures[name]['first recall']} s first recall answered")


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="fresh processes for each figure")
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    figures = await measure(chosen.rounds)
    report(figures)
    save("startup", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
