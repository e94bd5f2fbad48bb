"""Pictures for a terminal, made of letters."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from neuromem.cli.render import grid, one_line

_EIGHTHS = " ▏▎▍▌▋▊▉█"
WIDTH = 40


def bars(rows: Sequence[tuple[str, int, str]], *, width: int = WIDTH) -> Table:
    """A line for each (label, count, remark): a bar as long as its count, to an eighth of a letter."""
    table = grid({"style": "cyan", "no_wrap": True}, {"no_wrap": True}, {"justify": "right"}, {"style": "dim"})
    most = max((count for _, count, _ in rows), default=0)
    for label, count, remark in rows:
        table.add_row(one_line(label), Text(bar(count, most, width)), f"{count:,}" if count else "", one_line(remark))
    return table


def bar(value: float, most: float, width: int = WIDTH) -> str:
    """A bar of at most `width` letters; what is not nothing is seen."""
    eighths = 0 if most <= 0 or value <= 0 else max(1, round(8 * width * value / most))
    full, rest = divmod(eighths, 8)
    return "█" * full + _EIGHTHS[rest].strip()
