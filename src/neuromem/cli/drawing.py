"""Drawings in the terminal."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

_TICKS = 6
_MARKERS = ("braille", "•", "×")


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
