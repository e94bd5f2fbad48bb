"""The third part of the demo: what it all comes to, a file, everything about one thing, and leaving nothing behind."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources

from rich.markup import escape

from memground.text import counted
from neuromem import LLMCall, NeuroMemory, ProviderError, UnavailableError
from neuromem.demo.learned import PATIENCE, USER
from neuromem.demo.printing import answer, console
from neuromem.types import MemoryType

PLAN = "plan.md"
RENT = "How much is the rent of the shop?"
MOMENTS = (datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 7, 10, tzinfo=UTC))
THING = "Pixel"
SECRET = "The code of my locker at the station is 4711."
ASKED = "What is the code of the locker?"
SHOWN = 3


class Whole:
    """Goes on with what the second part learned."""

    def __init__(self, nm: NeuroMemory, calls: Sequence[LLMCall]) -> None:
        self._nm = nm
        self._calls = calls

    async def show(self) -> None:
        """Prints all of it; a second time there is nothing new to reflect on."""
        await self._digest()
        await self._emotions()
        await self._file()
        await self._thing()
        await self._leave()

    async def _digest(self) -> None:
        before, begun = len(self._calls), time.perf_counter()
        try:
            done = await self._nm.digest(USER)
        except (ProviderError, UnavailableError) as error:
            console.print(f"[yellow]not reflected on: {escape(str(error))}[/]")
        else:
            took = f"{len(self._calls) - before} calls, {time.perf_counter() - begun:.1f} s" if done.read else "no news"
            console.print(f"[bold]Reflected[/] on {done.read} memories ({took})")
        for insight in (await self._nm.list_memories(USER, memory_types=[MemoryType.INSIGHT])).items:
            console.print(f"  [green]insight[/]   {escape(insight.content)}")
            because = [await self._nm.get_memory(USER, source.id) for source in insight.sources[:SHOWN]]
            named = "; ".join(memory.content for memory in because if memory is not None)
            more = len(insight.sources) - len(because)
            console.print(f"            [dim]because {escape(named)}{f'; and {more} more' if more > 0 else ''}[/]")

    async def _emotions(self) -> None:
        console.print("\n[bold cyan]How are they?[/] [dim]what was felt in the two weeks before a day, and over all[/]")
        for moment in MOMENTS:
            then = await self._nm.emotion_profile(USER, as_of=moment)
            console.print(f"  [bold]{f'as of {moment.date()}':<17}[/] {_mood(then.latest_state_valence)}")
        now = await self._nm.emotion_profile(USER)
        labels = ", ".join(one.label for one in now.dominant_emotions)
        console.print(f"  [bold]{'over all':<17}[/] {_mood(now.valence_avg)} [dim]{escape(labels)}[/]")
        triggers = ", ".join(f"{one.trigger} ({one.emotion})" for one in now.emotion_triggers[:SHOWN])
        if triggers:
            console.print(f"  [bold]{'stirred by':<17}[/] {escape(triggers)}")

    async def _file(self) -> None:
        data = resources.files("neuromem.demo").joinpath(PLAN).read_bytes()
        document = await self._nm.files.upload(USER, PLAN, data, tags=["bakery"])
        passages = counted(document.chunks, "passage")
        console.print(f"\n[bold cyan]{RENT}[/] [dim]in {document.filename}, read in {passages}[/]")
        await answer(self._nm, USER, RENT, None, "today")

    async def _thing(self) -> None:
        known = await self._nm.entity_profile(USER, THING)
        memories = counted(known.memory_count, "memory", "memories")
        counts = f"{memories}, {counted(known.message_count, 'turn')}, {counted(known.relation_count, 'relation')}"
        console.print(f"\n[bold cyan]Everything about {THING}[/] [dim]{counts}[/]")
        if known.first_mentioned and known.last_mentioned:
            console.print(f"  first named {known.first_mentioned.date()}, last {known.last_mentioned.date()}")
        for fact in known.relations[:SHOWN]:
            console.print(f"  [green]relation[/]  {escape(fact.content)}")

    async def _leave(self) -> None:
        nm = self._nm
        message = await nm.ingest(USER, "user", SECRET, speaker="Wei", session_id="locker")
        await nm.wait_idle(PATIENCE)
        known = datetime.now(UTC)
        console.print(f"\n[bold cyan]{ASKED}[/]")
        await answer(nm, USER, ASKED, None, "told by mistake")
        receipt = await nm.erase_message(USER, message.message_id)
        proof = "nothing left" if receipt.complete else f"left: {dict(receipt.left)}"
        console.print(f"  [bold]{'erased':<17}[/] {receipt.total} rows; counted again: {proof}")
        found = await nm.recall(USER, ASKED, as_of=known)
        there = any("4711" in hit.content for hit in found.merged)
        console.print(f"  [bold]{'as of before':<17}[/] {'still known' if there else 'not known: erased is erased'}")
        records = size = 0
        async for record in nm.export_user_data(USER):
            records, size = records + 1, size + len(json.dumps(record))
        console.print(
            f"\n[bold]Everything of this user[/] is {records} records, {size / 1e6:.1f} MB: "
            "[dim]neuromem export takes them elsewhere, history and all[/]"
        )


def _mood(valence: float | None) -> str:
    if valence is None:
        return "[dim]nothing known[/]"
    bar = "█" * round(abs(valence) * 10)
    return f"[{'green' if valence >= 0 else 'red'}]{bar:<10}[/] {valence:+.1f}"
