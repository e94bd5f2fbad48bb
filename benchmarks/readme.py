"""Writes the READMEs' tables from the newest committed results: `python -m benchmarks.readme`."""

from collections.abc import Callable
from pathlib import Path

from benchmarks import targets
from benchmarks.results_file import newest

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")


def quality() -> str:
    """Recall by category."""
    figures = newest("quality")
    if figures is None:
        return ""
    columns = ("recall@5", "recall@10", "recall@20", "mrr")
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, scores in {"all questions": figures["overall"], **figures["by_category"]}.items():
        lines.append(f"| {name} | " + " | ".join(f"{scores[column]:.2f}" for column in columns) + " |")
    return "\n".join(lines) + f"\n\nMeasured on {figures['date']}, default settings.\n"


def speed() -> str:
    """Every other figure that has been measured, beside its bound, its floor and the peer."""
    found = {name: rows for name, rows in targets.figures().items() if name != "quality"}
    if not found:
        return ""
    lines = ["| | measured | target | floor | LangGraph's store |", "|---|---|---|---|---|"]
    for rows in found.values():
        lines += [
            f"| {row.name} | {row.measured}{'' if row.met else ' (missed)'} | {row.bound} | {row.floor} | {row.peer} |"
            for row in rows
        ]
    dates = sorted({str((newest(name) or {})["date"]) for name in found})
    return "\n".join(lines) + f"\n\nMeasured on {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, 2 cores.\n"


TABLES: dict[str, Callable[[], str]] = {"quality": quality, "speed": speed}


def filled(text: str) -> str:
    """A README with the tables it has marks for between them."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        before, mark, rest = text.partition(begin)
        if mark:
            text = before + begin + table() + end + rest.partition(end)[2]
    return text


if __name__ == "__main__":
    for readme in READMES:
        readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
