"""Where results go: one dated JSON file per run."""

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def save(name: str, figures: dict[str, Any], options: argparse.Namespace) -> None:
    """Writes `<date>-<name>.json` into the folder of `--results`, unless `--no-save`."""
    if options.no_save:
        return
    options.results.mkdir(parents=True, exist_ok=True)
    today = datetime.now(UTC).date().isoformat()
    path = options.results / f"{today}-{name}.json"
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    path.write_text(json.dumps({"date": today, "benchmark": name, "machine": machine, **figures}, indent=2) + "\n")
    print("saved:", path.name)


def newest(name: str, folder: Path = FOLDER) -> dict[str, Any] | None:
    """The newest result of a benchmark, None where there is none; names begin with the date."""
    files = sorted(folder.glob(f"????-??-??-{name}.json"))
    return json.loads(files[-1].read_text()) if files else None
