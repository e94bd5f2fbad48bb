"""How the demo prints answers."""

import time
from datetime import datetime

from rich.console import Console
from rich.markup import escape

from neuromem import Explanation, MergedHit, NeuroMemory

LINE = 110
_KINDS = {"conversation": "turn", "graph": "relation"}

console = Console(highlight=False)


async def answer(nm: NeuroMemory, user: str, ask: str, as_of: datetime | None, label: str) -> None:
    """The best thing recalled, why it is, and how long that took."""
    begun = time.perf_counter()
    result = await nm.recall(user, ask, limit=8, as_of=as_of, explain=True)
    took = (time.perf_counter() - begun) * 1000
    if not result.merged:
        console.print(f"  [bold]{label:<17}[/] nothing known yet [dim]({took:.0f} ms)[/]")
        return
    best = result.merged[0]
    console.print(f"  [bold]{label:<17}[/] {line(best)}")
    console.print(f"  {'':<17} [dim]why: {_why(best)} ({took:.0f} ms)[/]")


def line(hit: MergedHit) -> str:
    """A hit in one line, with its kind and day."""
    who = f"{hit.speaker}: " if hit.speaker else ""
    text = " ".join((who + hit.content).split())
    shown = text if len(text) <= LINE else text[: LINE - 1] + "…"
    of_file = any(source.kind == "document" for source in hit.came_from)
    kind = "file" if of_file else _KINDS.get(hit.source, "fact")
    return f"{escape(shown)} [dim]({kind}, {hit.at.date()})[/]"


def _why(hit: MergedHit) -> str:
    explanation = hit.explanation or Explanation()
    reasons = [
        f"by meaning #{explanation.vector_rank}" if explanation.vector_rank else "",
        f"by words #{explanation.keyword_rank}" if explanation.keyword_rank else "",
        *explanation.notes,
        f"score {hit.score:.2f}",
    ]
    return escape(", ".join(reason for reason in reasons if reason))
