"""How results look to a person: calm, aligned, plain where the output is no terminal."""

from datetime import UTC, datetime

from rich.console import Console

_STEPS = ((60, "second"), (60, "minute"), (24, "hour"), (7, "day"), (4.35, "week"), (12, "month"))


def console(*, stderr: bool = False) -> Console:
    """A console that colours only what is said to be coloured."""
    return Console(stderr=stderr, highlight=False, emoji=False)


def ago(moment: datetime, now: datetime | None = None) -> str:
    """'3 days ago', 'just now', 'in 2 weeks'."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    value, unit = abs(seconds), "second"
    if value < 10:
        return "just now"
    for size, name in _STEPS:
        unit = name
        if value < size:
            break
        value /= size
    else:
        unit = "year"
    count = int(value)
    words = f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{words} ago" if seconds >= 0 else f"in {words}"
