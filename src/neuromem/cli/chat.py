"""`neuromem chat`: a conversation with a language model that remembers."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memground.errors import MemoryStoreError, UnavailableError
from neuromem.cli.models import DEFAULT_LLM, open_llm
from neuromem.cli.shared import MEMORY, Asked, BaseUrl, Model, Timezone, command
from neuromem.cli.times import zone

if TYPE_CHECKING:
    from neuromem import MergedHit, NeuroMemory
    from neuromem.providers.llm import LLMProvider

ORIGIN = "chat"
_HISTORY = 20
_PATIENCE = 60.0
_QUERY = 10_000
_NO_NEWS = ("message", "graph_node")  # what was said, and what relations name anyway


def register(app: typer.Typer) -> None:
    command(app, panel=MEMORY)(chat)


async def chat(
    asked: Asked,
    *,
    model: Model = DEFAULT_LLM,
    base_url: BaseUrl = None,
    session: Annotated[
        str, typer.Option("--session", "-s", metavar="SESSION", help="The conversation's name.")
    ] = "chat",
    limit: Annotated[int, typer.Option("--limit", "-n", help="Recall at most so many things for each answer.")] = 8,
    timezone: Timezone = None,
) -> int:
    """Talk to a language model that remembers you; each line of stdin is a message, the end of it (Ctrl-D) the end.

    The key comes from OPENAI_API_KEY. Shown dim: what was recalled for an answer, and what was learned since.
    """
    llm = open_llm(model, base_url)
    async with asked.open(background=True, llm=llm, timezone=zone(timezone)) as nm:
        talk = _Talk(asked, nm, llm, session, limit)
        async for line in _lines(prompt="you> " if sys.stdin.isatty() and not asked.as_json else ""):
            if line.strip():
                await talk.answer(line)
        await talk.end()
    return 1 if talk.failed else 0


@dataclass
class _Talk:
    asked: Asked
    nm: "NeuroMemory"
    llm: "LLMProvider"
    session: str
    limit: int
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    failed: bool = False
    _history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _own: set[str] = field(default_factory=set[str])
    _told: set[str] = field(default_factory=set[str])

    async def answer(self, line: str) -> None:
        """One turn: recall, ask, store both, and show what came of it. An error is shown, and the talk goes on."""
        try:
            found = await self.nm.recall(self.asked.user, line[:_QUERY], limit=self.limit)
            recalled = [hit for hit in found.merged if hit.id not in self._own]
            self._show_recalled(recalled)
            await self._store("user", line)
            messages = [
                {"role": "system", "content": _instructions(line, recalled, found.user_profile)},
                *self._history[-_HISTORY:],
            ]
            said = await self.llm.chat(messages)
            await self._store("assistant", said)
        except MemoryStoreError as error:
            self.failed = True
            typer.echo(f"neuromem: {' '.join(str(error).split())}", err=True)
            return
        learned = await self._learned()
        if self.asked.as_json:
            self.asked.print_json(
                {"said": line, "recalled": [hit.to_dict() for hit in recalled], "answer": said, "learned": learned}
            )
        else:
            from neuromem.cli import render

            self.asked.say(render.clean(said))
            self._show_learned(learned)

    async def end(self) -> None:
        """Lets what was said be learned, and shows it."""
        if self._own:
            await self.nm.conversations.close_session(self.asked.user, self.session)
        try:
            # A model that failed to answer would fail to extract, too.
            await self.nm.wait_idle(0 if self.failed else _PATIENCE)
        except UnavailableError:
            typer.echo("neuromem: what was said is stored; what can be learned from it follows later", err=True)
        learned = await self._learned()
        if not self.asked.as_json:
            self._show_learned(learned)
        elif learned:
            self.asked.print_json({"learned": learned})

    async def _store(self, role: str, content: str) -> None:
        message = await self.nm.ingest(self.asked.user, role, content, session_id=self.session, origin=ORIGIN)
        self._own.add(message.message_id)
        self._history.append({"role": role, "content": content})

    async def _learned(self) -> list[str]:
        """What became known since the talk began and was not told yet, in words."""
        from neuromem.cli import render

        found = await self.nm.diff(self.asked.user, self.begun, datetime.now(UTC))
        news = {
            f"{change.kind} {change.id} {words}": words
            for change in (*found.learned, *found.changed)
            if change.kind not in _NO_NEWS and (words := render.state(change.after))
        }
        fresh = [words for key, words in news.items() if key not in self._told]
        self._told |= news.keys()
        return fresh

    def _show_recalled(self, hits: "list[MergedHit]") -> None:
        if self.asked.as_json:
            return
        from rich.text import Text

        from neuromem.cli import render

        for hit in hits:
            who = f"{hit.speaker}: " if hit.speaker else ""
            line = render.one_line(who + hit.content)
            shown = line if len(line) <= 100 else line[:99] + "…"
            self.asked.draw(Text(f"recalled  {shown} ({render.ago(hit.at)})", style="dim"))

    def _show_learned(self, learned: list[str]) -> None:
        from rich.text import Text

        for words in learned:
            self.asked.draw(Text(f"learned   {words}", style="dim green"))


def _instructions(line: str, recalled: "list[MergedHit]", profile: Any) -> str:
    from neuromem.extraction.asking import block, instructions, json_line, language_of

    memories = (
        json_line(
            {
                "time": f"{hit.at:%Y-%m-%d %H:%M}",
                **({"speaker": hit.speaker} if hit.speaker else {}),
                "text": hit.content[:2_000],
            }
        )
        for hit in recalled
    )
    known = (json_line({key: value}) for key, value in profile.items())
    parts = (instructions("chat", language_of([line])), block("memory", memories), block("profile", known))
    return "\n\n".join(part for part in parts if part)


async def _lines(prompt: str) -> AsyncIterator[str]:
    """The lines of stdin, read in a thread: background work goes on while a person thinks."""
    try:
        descriptor = sys.stdin.fileno()
    except OSError:  # no file behind it
        for line in sys.stdin:
            yield line.rstrip("\n")
        return
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        # Not sys.stdin: a thread that waits inside its buffer would hold its lock when the program ends.
        with suppress(RuntimeError, OSError):  # the loop is closed, or stdin is
            while chunk := os.read(descriptor, 65_536):
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(chunks.put_nowait, b"")

    threading.Thread(target=read, name="stdin", daemon=True).start()
    rest = b""
    while True:
        while b"\n" not in rest:
            if prompt:
                sys.stdout.write(prompt)
                sys.stdout.flush()
            chunk = await chunks.get()
            if not chunk:
                if rest:
                    yield rest.decode("utf-8", errors="replace")
                return
            rest += chunk
        line, _, rest = rest.partition(b"\n")
        yield line.decode("utf-8", errors="replace").rstrip("\r")
