"""Pictures for a terminal, made of letters."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from neuromem.cli.render import grid, one_line

_EIGHTHS = " ▏▎▍▌▋▊▉█"
WIDTH = 40
_TICKS = 6
_MARKERS = ("braille", "•", "×")


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


def lines(
    times: Sequence[datetime],
    curves: Sequence[tuple[str, Sequence[float]]],
    *,
    bounds: tuple[float, float],
    size: tuple[int, int] = (76, 14),
) -> Text:
    """Curves over time, each a name and a value for each of the `times`, drawn between `bounds` in `size` letters.

    Days are shown as the times' own zone has them. Two times are the least.
    """
    import plotext  # pyright: ignore[reportMissingTypeStubs]  # it takes as long as all the rest

    figure: Any = plotext.figure
    figure.clear()
    figure.plot_size(*size)
    places = [moment.timestamp() for moment in times]
    for (name, values), marker in zip(curves, _MARKERS, strict=False):
        curve = figure.signal(places, list(values), marker=marker)
        curve.lines()
        curve.label(name)
        figure.draw(curve)
    figure.ruler("y").lim(*bounds)
    figure.ruler("y").ticks([bounds[0], sum(bounds) / 2, bounds[1]])
    shown = sorted({round(step * (len(times) - 1) / (_TICKS - 1)) for step in range(_TICKS)})
    figure.ruler("x").ticks([places[place] for place in shown], [f"{times[place]:%Y-%m-%d}" for place in shown])
    drawn = Text.from_ansi(str(figure.build())).plain  # its colours are made for a white page
    return Text("\n".join(line.rstrip() for line in drawn.splitlines()))
