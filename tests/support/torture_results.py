"""Where long rounds leave what they found."""

from argparse import Namespace
from typing import Any


def save(name: str, figures: dict[str, Any]) -> None:
    """Writes `benchmarks/results/<date>-<name>.json`."""
    from benchmarks import results_file  # only on the path when started from the repository

    results_file.save(name, figures, Namespace(no_save=False, results=results_file.FOLDER))
