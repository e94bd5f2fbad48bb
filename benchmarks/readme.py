"""Writes the README's table of quality from the newest committed result: `python -m benchmarks.readme`."""

import json
from pathlib import Path
from typing import Any

from benchmarks.results_file import FOLDER

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- quality:begin -->\n", "<!-- quality:end -->"


def newest(name: str) -> dict[str, Any]:
    """The newest result of a benchmark; names begin with the date."""
    return json.loads(max(FOLDER.glob(f"*-{name}.json")).read_text())


def table(figures: dict[str, Any]) -> str:
    """Recall by category, as Markdown."""
    columns = ("recall@5", "recall@10", "recall@20", "mrr")
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, scores in {"all questions": figures["overall"], **figures["by_category"]}.items():
        lines.append(f"| {name} | " + " | ".join(f"{scores[column]:.2f}" for column in columns) + " |")
    return "\n".join(lines) + f"\n\nMeasured on {figures['date']}, default settings.\n"


def filled(text: str, figures: dict[str, Any]) -> str:
    """The README with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + table(figures) + END + after


if __name__ == "__main__":
    README.write_text(filled(README.read_text(), newest("quality")))
