"""`python -m neuromem.demo [FILE]`: without FILE the sample history, else a LoCoMo file."""

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.rule import Rule
from rich.table import Table

from neuromem import LLMCall, LocalStorage, MemoryStoreError, NeuroMemory
from neuromem.demo.learned import Learned
from neuromem.demo.learning import language_model
from neuromem.demo.printing import answer, console, line
from neuromem.demo.sample import Sample
from neuromem.demo.whole import Whole
from neuromem.importers import locomo

QUESTIONS_PER_DIALOGUE = 6
WHAT_CHANGED_SINCE = datetime(2025, 3, 1, tzinfo=UTC)


async def sample(nm: NeuroMemory, history: Sample) -> None:
    """Imports the sample and asks each question today and as of a moment when the answer was another."""
    begun = time.perf_counter()
    added = await history.load(nm)
    console.print(
        f"[bold]Imported[/] half a year of two friends' chat: {added.messages} new messages, "
        f"{added.memories} new facts in {time.perf_counter() - begun:.1f} s"
        + ("" if added.messages else " (they were there already)")
    )
    await nm.recall(history.user, "warm up")
    for question in history.questions:
        console.print(Rule(style="dim"))
        console.print(f"[bold cyan]{escape(question.ask)}[/]")
        await answer(nm, history.user, question.ask, None, "today")
        if question.earlier is not None:
            await answer(nm, history.user, question.ask, question.earlier, f"as of {question.earlier.date()}")
    console.print(Rule(style="dim"))
    await _what_changed(nm, history.user, WHAT_CHANGED_SINCE)


async def dialogues(nm: NeuroMemory, found: list[locomo.Dialogue]) -> None:
    """Imports LoCoMo dialogues and asks some questions of each; ● marks turns the file names as evidence."""
    with _progress() as bars:
        bar = bars.add_task("importing", total=sum(map(len, found)))
        for dialogue in found:
            for session_id, messages in dialogue.sessions:
                await nm.conversations.add_messages_batch(dialogue.name, messages, session_id=session_id)
            done = bars.tasks[0].completed
            while waiting := (await nm.background_status(dialogue.name)).waiting:
                bars.update(bar, completed=done + len(dialogue) - waiting)
                await asyncio.sleep(0.1)
            bars.update(bar, completed=done + len(dialogue))
    for dialogue in found:
        console.print(Rule(f"{dialogue.name}: {' and '.join(dialogue.speakers)}, {len(dialogue)} turns", style="dim"))
        step = max(1, len(dialogue.questions) // QUESTIONS_PER_DIALOGUE)
        for question in dialogue.questions[::step][:QUESTIONS_PER_DIALOGUE]:
            await _ask_dialogue(nm, dialogue, question)


async def _ask_dialogue(nm: NeuroMemory, dialogue: locomo.Dialogue, question: locomo.Question) -> None:
    begun = time.perf_counter()
    result = await nm.recall(dialogue.name, question.text, limit=10)
    took = (time.perf_counter() - begun) * 1000
    said = {message.external_id: message.content for _, messages in dialogue.sessions for message in messages}
    evidence = {said[name] for name in question.evidence}
    hits = sum(1 for hit in result.merged if hit.content in evidence)
    console.print(
        f"\n[bold cyan]{escape(question.text)}[/] [dim]{question.category}, expected: {escape(question.answer)}; "
        f"{hits} of {len(evidence)} evidence turns in the first 10, {took:.0f} ms[/]"
    )
    for hit in result.merged[:3]:
        mark = "[green]●[/]" if hit.content in evidence else "[dim]○[/]"
        console.print(f"  {mark} {line(hit)}")


async def _what_changed(nm: NeuroMemory, user: str, since: datetime) -> None:
    """The facts that changed since a moment, as a table."""
    diff = await nm.diff(user, since, datetime.now(UTC))
    table = Table(title=f"What changed since {since.date()}", title_style="bold", header_style="dim", box=None)
    for column in ("", "then", "now"):
        table.add_column(column)
    for change in diff.changed:
        if change.kind == "memory":
            table.add_row("changed", _state(change.before), _state(change.after))
    for change in diff.learned:
        if change.kind == "memory":
            table.add_row("learned", "", _state(change.after))
    console.print(table)


def _state(memory: object) -> str:
    content, ended = getattr(memory, "content", ""), getattr(memory, "valid_to", None)
    return escape(content) + (f" [dim](until {ended.date()})[/]" if ended else "")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


async def run(arguments: argparse.Namespace) -> None:
    found = None if arguments.file is None else locomo.read(arguments.file)
    history, calls = Sample(), list[LLMCall]()
    begun = time.perf_counter()
    async with (
        language_model(history) as (llm, note),
        # The first part shows what needs no language model; the second says what is to be extracted.
        NeuroMemory(
            arguments.database_url,
            llm=llm,
            storage=None if arguments.database_url is None else LocalStorage(),
            schema="neuromem_demo",
            auto_extract=False,
            on_llm_call=calls.append,
        ) as nm,
    ):
        console.print(f"[dim]PostgreSQL and the local model are ready in {time.perf_counter() - begun:.1f} s[/]")
        if found is not None:
            await dialogues(nm, found)
            return
        await sample(nm, history)
        console.print(Rule("The same chat, read by a language model", style="dim"))
        await Learned(nm, history).show(llm.model_id, calls, note)
        console.print(Rule("What it comes to", style="dim"))
        await Whole(nm, calls).show()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m neuromem.demo", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="a LoCoMo file; without it the sample history")
    parser.add_argument("--database-url", default=None, help="PostgreSQL URL; default: the embedded server")
    try:
        asyncio.run(run(parser.parse_args()))
    except MemoryStoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
