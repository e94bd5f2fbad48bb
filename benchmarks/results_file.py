"""Where results go: one dated JSON file per run."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def save(name: str, figures: dict[str, Any]) -> Path:
    """Writes `benchmarks/results/<date>-<name>.json` and returns its path."""
    FOLDER.mkdir(exist_ok=True)
    today = datetime.now(UTC).date().isoformat()
    path = FOLDER / f"{today}-{name}.json"
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    path.write_text(json.dumps({"date": today, "benchmark": name, "machine": machine, **figures}, indent=2) + "\n")
    return path
