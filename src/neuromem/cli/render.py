"""How results look to a person: calm, aligned, plain where the output is no terminal."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from memground.text import counted
from neuromem.cli.times import local
from neuromem.types import Change, Document, Explanation, GraphEdge, GraphNode, Memory, MergedHit, Message

_UNITS = (
    ("year", 31_557_600.0), ("month", 2_629_800.0), ("week", 604_800.0), ("day", 86_400.0), ("hour", 3_600.0),
    ("minute", 60.0), ("second", 1.0),
)  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BAR = 10
_PIPE_WIDTH = 10_000


def console(*, stderr: bool = False) -> Console:
    """A console that colours only what is said to be coloured. Into a pipe or a file nothing is cut or wrapped."""
    made = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def clean(text: str) -> str:
    """A text a terminal only shows: what would move its cursor or change its colours becomes a mark."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    return clean(" ".join(text.split()))


def short(identifier: str) -> str:
    """As much of an id as a person needs to name it again."""
    return identifier[:8]


def ago(moment: datetime, now: datetime | None = None) -> str:
    """'3 days ago', 'just now', 'in 2 weeks'."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if abs(seconds) < 10:
        return "just now"
    unit, size = next((unit, size) for unit, size in _UNITS if abs(seconds) >= size)
    words = counted(int(abs(seconds) / size), unit)
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def grid(*columns: Mapping[str, Any]) -> Table:
    """Aligned columns without lines around them."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(**column)
    return table


def draw(console: Console, what: RenderableType) -> None:
    """Prints it; where the output is no terminal, without the blanks that fill its columns."""
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as drawn:
        console.print(what)
    for line in drawn.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def as_of(moment: datetime) -> Text:
    """How a moment was understood."""
    return Text(f"as of {local(moment)} ({ago(moment)})", style="dim")


class Entry:
    """A numbered result: its text, and a dim line about it."""

    def __init__(self, number: int, text: str, about: Iterable[str], *, ended: bool = False) -> None:
        self._number, self._text, self._ended = number, clean(text.strip()), ended
        self._about = " · ".join(clean(part) for part in about if part)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = grid({"justify": "right", "style": "cyan", "no_wrap": True}, {"overflow": "fold"})
        table.add_row(str(self._number), Text(self._text, style="strike dim" if self._ended else ""))
        table.add_row("", Text(self._about, style="dim"))
        yield table


def merged_entry(number: int, hit: MergedHit, now: datetime) -> Entry:
    kind = "turn" if hit.source == "conversation" else "memory"
    who = f"{hit.speaker}: " if hit.speaker else ""
    ended = hit.valid_to is not None and hit.valid_to <= now
    about = (kind, ago(hit.at), f"until {hit.valid_to.date()}" if hit.valid_to else "", short(hit.id))
    return Entry(number, who + hit.content, (*about, f"score {hit.score:.2f}"), ended=ended)


def memory_entry(number: int, memory: Memory, now: datetime, score: float | None = None) -> Entry:
    ended = memory.valid_to is not None and memory.valid_to <= now
    about = (
        memory.memory_type,
        ago(memory.event_at),
        f"until {memory.valid_to.date()}" if memory.valid_to else "",
        short(memory.memory_id),
        "" if score is None else f"score {score:.2f}",
    )
    return Entry(number, memory.content, about, ended=ended)


def explained(rows: Sequence[tuple[str, float, Explanation | None]]) -> Table:
    """Why each hit stands where it stands: how near by meaning, how well its words fit, and the factors."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", style="cyan", no_wrap=True)
    table.add_column("what", overflow="fold")
    for name in ("score", "meaning", "words"):
        table.add_column(name, no_wrap=True)
    best = max((score for _, score, _ in rows), default=0.0)
    for number, (text, score, found) in enumerate(rows, start=1):
        why = found or Explanation()
        table.add_row(
            str(number),
            clean(text.strip()),
            Text.assemble((bar(score, best), "cyan"), f" {score:.2f}"),
            _arm(why.vector_rank, why.vector_score),
            _arm(why.keyword_rank, why.keyword_score),
        )
        reasons = [*(f"{name} {value:.2f}" for name, value in why.parts.items()), *why.notes]
        table.add_row("", Text(one_line(" · ".join(reasons)), style="dim"))
    return table


def bar(value: float, best: float) -> str:
    filled = round(_BAR * max(0.0, value) / best) if best > 0 else 0
    return "━" * filled + "╌" * (_BAR - filled)


def _arm(rank: int | None, score: float | None) -> Text:
    return Text("–", style="dim") if rank is None else Text(f"#{rank} {score or 0.0:.2f}")


def details(pairs: Iterable[tuple[str, str]]) -> Table:
    """Names and values below each other; empty values are left out."""
    table = grid({"style": "dim", "no_wrap": True}, {"overflow": "fold"})
    for name, value in pairs:
        if value:
            table.add_row(name, Text(clean(value)))
    return table


def changes(found: Sequence[tuple[str, Change]]) -> Table:
    """What differs between two moments: sign, kind, before and after."""
    table = grid({"no_wrap": True}, {"style": "dim", "no_wrap": True}, {"overflow": "fold"})
    styles = {"+": "green", "~": "yellow", "-": "red"}
    for sign, change in found:
        before, after = state(change.before), state(change.after)
        text = Text(after or before)
        if change.before is not None and change.after is not None:
            text = Text.assemble((before, "dim"), " → ", after)
        table.add_row(Text(sign, style=styles[sign]), change.kind, text)
    return table


def state(value: Any) -> str:
    """A memory, a message, a file, a node, an edge or a key-value in one line."""
    match value:
        case None:
            return ""
        case Memory():
            until = f" (until {value.valid_to.date()})" if value.valid_to else ""
            return one_line(value.content) + until
        case Message():
            return one_line(f"{value.speaker or value.role}: {value.content}")
        case Document():
            labels = "".join(f" #{tag}" for tag in value.tags)
            return one_line(f"{value.filename} ({value.category}){labels}")
        case GraphNode():
            more = {key: item for key, item in value.properties.items() if key != "name"}
            return one_line(f"{value.name} ({value.node_type}) {json.dumps(more, ensure_ascii=False) if more else ''}")
        case GraphEdge():
            until = f" (until {value.valid_to.date()})" if value.valid_to else ""
            return one_line(f"{value.source_id} {value.edge_type.replace('_', ' ')} {value.target_id}") + until
        case _:
            return one_line(f"{value.namespace}/{value.key} = {value.value!r}")


def thing(name: str, kind: str) -> Text:
    """A node of the graph."""
    return Text.assemble((one_line(name), "bold"), (f" ({kind})", "dim"))


def relation(edge: GraphEdge, name: str, kind: str, out: bool, now: datetime | None) -> Text:
    """An edge from where one stands, and what it leads to; struck through when it has ended."""
    ended = edge.valid_to is not None and edge.valid_to <= (now or datetime.now(UTC))
    until = f" until {edge.valid_to.date()}" if edge.valid_to else ""
    arrow = "→" if out else "←"
    said = Text.assemble((f"{edge.edge_type.replace('_', ' ')} {arrow} ", "cyan"), thing(name, kind), (until, "dim"))
    said.stylize("strike dim" if ended else "")
    return said


def memory_table(memories: Iterable[Memory], now: datetime) -> Table:
    table = grid(
        {"style": "cyan", "no_wrap": True},
        {"style": "dim", "no_wrap": True},
        {"overflow": "fold"},
        {"style": "dim", "no_wrap": True},
    )
    for memory in memories:
        ended = memory.valid_to is not None and memory.valid_to <= now
        until = f" (until {memory.valid_to.date()})" if memory.valid_to else ""
        text = Text(one_line(memory.content) + until, style="dim" if ended else "")
        table.add_row(short(memory.memory_id), memory.memory_type, text, ago(memory.event_at))
    return table


def memory_details(memory: Memory) -> Table:
    def when(moment: datetime | None) -> str:
        return "" if moment is None else f"{local(moment)} ({ago(moment)})"

    return details(
        [
            ("content", memory.content),
            ("id", memory.memory_id),
            ("type", memory.memory_type),
            ("importance", str(memory.importance)),
            ("metadata", json.dumps(memory.metadata, ensure_ascii=False) if memory.metadata else ""),
            ("valid from", when(memory.valid_from)),
            ("valid to", when(memory.valid_to)),
            ("known from", when(memory.known_from)),
            ("first written", when(memory.created_at)),
            ("last written", when(memory.updated_at)),
            ("by", memory.origin),
            ("sources", ", ".join(f"{source.kind} {source.id}" for source in memory.sources)),
        ]
    )


def version_table(versions: Sequence[Memory]) -> Table:
    """Versions, the newest first, with their place in the history."""
    table = grid(
        {"style": "cyan", "justify": "right"},
        {"style": "dim", "no_wrap": True},
        {"overflow": "fold"},
        {"style": "dim", "no_wrap": True},
    )
    for place, version in zip(range(len(versions), 0, -1), versions, strict=True):
        until = "current" if version.known_to is None else f"until {local(version.known_to, precise=True)}"
        table.add_row(
            f"{place}",
            local(version.known_from, precise=True),
            state(version),
            f"{until}, by {one_line(version.origin)}",
        )
    return table
