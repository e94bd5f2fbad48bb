"""`neuromem timeline`, `diff`, `rollback` and `undo`: what is of when, what changed, and taking it back."""

import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from memground.errors import InvalidInputError
from neuromem.cli.shared import TIME, Asked, AsOf, Limit, Timezone, Types, Yes, command, view_of
from neuromem.cli.times import local, moment, optional_moment, zone

if TYPE_CHECKING:
    from neuromem import NeuroMemory, Reversal
    from neuromem.facades import Writer
    from neuromem.types import Period

type Act = Callable[["Writer"], Awaitable["Reversal"]]


class By(StrEnum):
    """What a line of a timeline stands for."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]


def register(app: typer.Typer) -> None:
    for function in (timeline, diff, rollback, undo):
        command(app, panel=TIME)(function)


async def timeline(
    asked: Asked,
    *,
    by: Annotated[By, typer.Option("--by", help="How long one line of it is.")] = By.MONTH,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="The first moment to count.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="The moment to stop before.")] = None,
    types: Types = None,
    as_of: AsOf = None,
    timezone: Timezone = None,
) -> None:
    """Show how many memories are of each day, week, month or year."""
    known = optional_moment(as_of, "--as-of")
    start, end, name = optional_moment(since, "--from"), optional_moment(until, "--to"), zone(timezone)
    async with asked.open() as nm:
        found = await view_of(nm, known).memory_timeline(
            asked.user, granularity=by.value, start=start, end=end, memory_types=types, timezone=name
        )
    if asked.as_json:
        return asked.print_json({"as_of": known, "timezone": name, "periods": [period.to_dict() for period in found]})
    from neuromem.cli.drawing import bars

    asked.as_of_line(known)
    if not found:
        return asked.say(f"no memory is of that time{asked.whose}")
    asked.draw(bars(list(_lines(found, by, name))))


def _lines(found: "Sequence[Period]", by: By, timezone: str) -> "Iterator[tuple[str, int, str]]":
    """When each period begins, how much is of it, and of what types; a gap is a line of its own."""
    from memground.text import counted
    from neuromem.checks import timezone as zone_of

    length, end = {By.YEAR: 4, By.MONTH: 7}.get(by, 10), None
    for period in found:
        if end is not None and period.start > end:
            empty = max(1, round((period.start - end) / (period.end - period.start)))
            yield "…", 0, counted(empty, f"empty {by.value}")
        end = period.end
        begun = period.start.astimezone(zone_of(timezone)).date().isoformat()[:length]
        yield begun, period.count, ", ".join(f"{count:,} {name}" for name, count in period.by_type.items())


async def diff(
    asked: Asked,
    *,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="The earlier moment.")],
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="The later moment.")] = "now",
    limit: Limit = 100,
    as_of: AsOf = None,
) -> None:
    """Show what was learned (+), changed (~) and forgotten (-) between two moments."""
    known = optional_moment(as_of, "--as-of")
    earlier, later = moment(since, "--from"), moment(until, "--to")
    if limit < 1:
        raise InvalidInputError(f"--limit {limit} is not accepted; pass a number from 1 on")
    async with asked.open() as nm:
        found = await view_of(nm, known).diff(asked.user, earlier, later)
    if asked.as_json:
        return asked.print_json({"as_of": known, "from": earlier, "to": later, **found.to_dict()})
    from neuromem.cli import render

    groups = {"+": found.learned, "~": found.changed, "-": found.forgotten}
    words = dict(zip(groups, ("learned", "changed", "forgotten"), strict=True))
    summary = ", ".join(f"{len(group):,} {words[sign]}" for sign, group in groups.items())
    asked.as_of_line(known)
    asked.say(f"{local(earlier)} ({render.ago(earlier)}) to {local(later)} ({render.ago(later)}): {summary}")
    rows = [(sign, change) for sign, group in groups.items() for change in group]
    asked.draw(render.changes(rows[:limit]))
    if len(rows) > limit:
        asked.say(f"… and {len(rows) - limit:,} more; --limit {len(rows)} shows them")


async def rollback(
    asked: Asked,
    *,
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="The moment to go back to.")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Make everything known what it was at a moment. Nothing is lost: undo takes it back."""
    target = moment(to, "--to")
    if target > datetime.now(UTC):
        raise InvalidInputError(
            f"--to {to!r} is {local(target)}, which lies in the future; pass a moment that has been"
        )
    from neuromem.cli.render import ago

    title = f"rollback to {local(target)} ({ago(target)})"
    async with asked.open(background=False) as nm:
        return await _take_back(asked, nm, title, lambda on: on.rollback(asked.user, target), dry_run=dry_run, yes=yes)


async def undo(
    asked: Asked,
    *,
    origin: Annotated[str | None, typer.Option(help="Take back what this writer wrote.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Take back what was written since then.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Take back what one writer wrote, what was written since a moment, or both together. Undo can be undone, too."""
    recorded_since = optional_moment(since, "--since")
    if not origin and recorded_since is None:
        raise InvalidInputError("undo needs --origin, --since or both; to go back in time use: neuromem rollback --to")
    from neuromem.cli.render import ago

    parts = [f"what {origin} wrote"] if origin else ["what was written"]
    parts += [f"since {local(recorded_since)} ({ago(recorded_since)})"] if recorded_since else []
    async with asked.open() as nm:
        return await _take_back(
            asked,
            nm,
            f"undo {' '.join(parts)}",
            lambda on: on.undo(asked.user, origin=origin, recorded_since=recorded_since),
            dry_run=dry_run,
            yes=yes,
        )


class _OnlyTrying(Exception):
    """Ends a transaction that was to show what it would do."""


async def _take_back(asked: Asked, nm: "NeuroMemory", title: str, act: Act, *, dry_run: bool, yes: bool) -> int:
    """Shows what would be taken back, asks, does it and says how to take that back."""
    if dry_run or not yes:
        if not dry_run and not sys.stdin.isatty():
            raise InvalidInputError("this asks before it acts, and there is no terminal to ask on; pass --yes")
        expected = await _tried(nm, act)
        if dry_run:
            asked.show({"done": False, **_facts(expected)}, f"{title}: {_words(expected)}")
            return 0
        asked.say(f"{title}: {_words(expected)}")
        if not typer.confirm("go ahead?", err=True):
            asked.say("nothing was changed")
            return 1
    done = await act(nm)
    again = f"neuromem undo --origin {done.origin}{asked.options()}"
    asked.show(
        {"done": True, "origin": done.origin, "at": done.at, **_facts(done), "undo": again},
        f"{title}: {_words(done)}\ntake it back: {again}",
    )
    return 0


async def _tried(nm: "NeuroMemory", act: Act) -> "Reversal":
    """What it would do: done in a transaction that is not committed."""
    found: list[Reversal] = []
    try:
        async with nm.transaction() as tx:
            found.append(await act(tx))
            raise _OnlyTrying
    except _OnlyTrying:
        return found[0]


def _facts(reversal: "Reversal") -> dict[str, dict[str, int]]:
    return {"restored": dict(reversal.restored), "ended": dict(reversal.ended)}


def _words(reversal: "Reversal") -> str:
    from memground.text import counted

    def listed(counts: "dict[str, int]") -> str:
        return ", ".join(counted(count, _KINDS.get(kind, kind), _MANY.get(kind)) for kind, count in counts.items())

    restored, ended = listed(dict(reversal.restored)), listed(dict(reversal.ended))
    parts = [f"{restored} as before" if restored else "", f"{ended} no longer known" if ended else ""]
    return "; ".join(filter(None, parts)) or "nothing to take back"


_KINDS = {
    "kv": "key-value",
    "graph_node": "graph node",
    "graph_edge": "graph edge",
    "emotion_profile": "emotion profile",
}
_MANY = {"memory": "memories"}
