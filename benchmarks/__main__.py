"""Runs all benchmarks, one after the other, and shows their figures beside targets, floors and the peer:
`python -m benchmarks [--full] [--locomo FILE] [--only latency ingest]`.

Quick by default (10,000 and 100,000 memories); `--full` adds 1,000,000, which takes half an hour and 15 GB.
`--show` measures nothing and shows the newest results.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks import measuring, targets

_WIDTH = 10


def commands(chosen: argparse.Namespace) -> dict[str, list[str]]:
    """Arguments by benchmark, in the order they run."""
    full: bool = chosen.full
    sizes = chosen.sizes or [10_000, 100_000, *([1_000_000] if full else [])]
    found = {
        "startup": [],
        "memory": ["--turns", "50000" if full else "5000"],
        "ingest": [],
        "graph": [],
        "extraction": [],
        "erase": [],
        "entities": [],
        "omnimem_speed": ["--sizes", *map(str, (size for size in sizes if size >= 100_000 or chosen.sizes))],
        "latency": ["--sizes", *map(str, sizes), *(["--data", str(chosen.data)] if chosen.data else [])],
    }
    if chosen.locomo is not None:
        found |= {"quality": [str(chosen.locomo)], "asof": [str(chosen.locomo)]}
    return {name: arguments for name, arguments in found.items() if not chosen.only or name in chosen.only}


def run(chosen: argparse.Namespace, console: Console) -> list[str]:
    """Runs them; returns the names of those that failed."""
    failed: list[str] = []
    planned = commands(chosen)
    common = ["--results", str(chosen.results), *(["--no-save"] if chosen.no_save else [])]
    for number, (name, arguments) in enumerate(planned.items(), start=1):
        console.rule(f"{number}/{len(planned)} {name}")
        begun = time.perf_counter()
        # A process each: none is measured with what another left in memory.
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments, *common], check=False)
        console.print(f"  took {time.perf_counter() - begun:.0f} s", style="dim")
        if done.returncode:
            failed.append(name)
    return failed


def lines(folder: Path) -> Iterator[tuple[str, str]]:
    """(text, style) of all figures: a full bar is the bound; what goes beyond it misses."""
    for name, found in targets.figures(folder).items():
        yield f"\n{name:<46}{'measured':>11}{'target':>12}", "bold"
        for figure in found:
            bar = "█" * min(_WIDTH, round(figure.used * _WIDTH)) if figure.used < float("inf") else "█" * _WIDTH
            verdict = "met" if figure.met else f"missed ({figure.used:.1f}×)"
            text = f"  {figure.name:<44}{figure.measured:>11}{figure.bound:>12}  {bar:░<{_WIDTH}} {verdict}"
            yield text, "green" if figure.met else "red"
            beside = {"floor": figure.floor, "LangGraph's store": figure.peer}
            if words := "; ".join(f"{what}: {value}" for what, value in beside.items() if value):
                yield f"    {words}", "dim"


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--full", action="store_true", help="up to 1,000,000 memories and 50,000 imported turns")
    parser.add_argument("--sizes", type=int, nargs="+", help="memories in all, for latency")
    parser.add_argument("--data", type=Path, help="folder that keeps latency's data for the next time")
    parser.add_argument("--locomo", type=Path, help="LoCoMo file, for quality and asof")
    parser.add_argument("--only", nargs="+", help="some benchmarks, by name")
    parser.add_argument("--show", action="store_true", help="show the newest results")
    return parser.parse_args()


def main() -> None:
    chosen, console = options(), Console()
    failed = [] if chosen.show else run(chosen, console)
    for line, style in lines(chosen.results):
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
