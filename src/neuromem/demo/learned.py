"""The second part of the demo: what extraction makes of the sample, asked along its relations."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from neuromem import GraphEdge, GraphNeighbor, LLMCall, Memory, NeuroMemory, UnavailableError
from neuromem.demo.printing import answer, console
from neuromem.demo.sample import Sample
from neuromem.types import PROFILE_NAMESPACE, MemoryType

USER = "demo-learned"
PATIENCE = 90.0
BEFORE_THE_MOVE = datetime(2025, 3, 1, 12, tzinfo=UTC)
PEOPLE = ("Wei", "Mara")
FACTS, EPISODES = 4, 2
QUESTION = "Where does Wei live?"


class Learned:
    """The sample's conversations under a user of their own, and what a language model learned from them."""

    def __init__(self, nm: NeuroMemory, history: Sample) -> None:
        self._nm = nm
        self._history = history
        self._said: dict[str, str] = {}
        self._names: dict[str, str] = {}

    async def learn(self) -> None:
        """Stores the conversations and has them extracted; a second time there is nothing left to do.

        Raises UnavailableError when the language model takes too long.
        """
        for session_id, messages in self._history.sessions():
            for message in await self._nm.conversations.add_messages_batch(USER, messages, session_id=session_id):
                self._said[message.message_id] = f"{message.speaker}: {message.content}"
            await self._nm.extract(USER, session_id=session_id)
            await self._nm.wait_idle(PATIENCE)

    async def show(self, model: str, calls: Sequence[LLMCall], note: str) -> None:
        """Learns, and prints what came of it."""
        begun = time.perf_counter()
        before = len(calls)
        try:
            await self.learn()
        except UnavailableError as error:
            console.print(f"[yellow]{escape(str(error))}[/]")
        took = time.perf_counter() - begun
        status, known = await self._nm.extraction_status(USER), await self._nm.stats(USER)
        asked = len(calls) - before
        console.print(
            f"[bold]Extracted[/] {status.extracted} of {known.messages} turns "
            + (f"in {asked} calls of {escape(model)}, {took:.1f} s" if asked else "(they were already)")
            + f": {sum(known.memories.values())} memories, {known.graph_edges} relations"
        )
        if note:
            console.print(f"[dim]{escape(note)}[/]")
        for failure in status.failures:
            console.print(f"[yellow]not extracted: {escape(failure.error)}[/]")
        self._names = {node.node_id: node.name for node in (await self._nm.graph.list_nodes(USER, limit=200)).items}
        await self._memories(MemoryType.FACT, FACTS)
        await self._memories(MemoryType.EPISODIC, EPISODES)
        await self._profile()
        for person in PEOPLE:
            await self._relations(person)
        await self._questions()
        await self._contradiction()

    async def _memories(self, memory_type: MemoryType, limit: int) -> None:
        """The most important ones, the latest first, each with the turn it came from."""
        page = await self._nm.list_memories(USER, memory_types=[memory_type], limit=200)
        best = sorted(page.items, key=lambda memory: (memory.importance, memory.event_at), reverse=True)[:limit]
        for memory in best:
            _line(memory_type.value, escape(memory.content) + _feeling(memory))
            if memory.sources and (turn := self._said.get(memory.sources[0].id)):
                _line("", f"[dim]because {escape(turn)}[/]")

    async def _profile(self) -> None:
        entries = await self._nm.kv.list(PROFILE_NAMESPACE, USER)
        values = ", ".join(f"{entry.key} = {entry.value}" for entry in entries)
        _line("profile", escape(values))

    async def _relations(self, name: str) -> None:
        found = await self._nm.graph.get_neighbors(USER, None, name)
        tree = Tree(Text(name, style="bold"), guide_style="dim")
        for neighbor in sorted(found, key=lambda neighbor: (_ended(neighbor.edge), neighbor.edge.edge_type)):
            tree.add(_relation(neighbor))
        console.print(tree)

    async def _questions(self) -> None:
        console.print(f"\n[bold cyan]{QUESTION}[/] [dim]in words, and along the relation lives_in[/]")
        then = BEFORE_THE_MOVE.date()
        await answer(self._nm, USER, QUESTION, None, "today")
        await answer(self._nm, USER, QUESTION, BEFORE_THE_MOVE, f"as of {then}")
        graph, past = self._nm.graph, self._nm.as_of(BEFORE_THE_MOVE).graph
        now = datetime.now(UTC)
        asked = {
            "today": await graph.get_neighbors(USER, None, "Wei", edge_types=["lives_in"], valid_at=now),
            f"as of {then}": await past.get_neighbors(USER, None, "Wei", edge_types=["lives_in"]),
            f"valid {then}": await graph.get_neighbors(
                USER, None, "Wei", edge_types=["lives_in"], valid_at=BEFORE_THE_MOVE
            ),
        }
        for label, found in asked.items():
            homes = ", ".join(f"{home.name}{_period(home.edge)}" for home in found) or "nothing known"
            console.print(f"  [bold]{label:<17}[/] → {escape(homes)}")
        path = await graph.find_path(USER, None, "Ivo", None, "Wei")
        if path:
            console.print("\n[bold cyan]What has Ivo to do with Wei?[/]")
            console.print(f"  {escape(', '.join(map(self._sentence, path.edges)))}")

    async def _contradiction(self) -> None:
        """How a relation of which one holds at a time ended when another became known."""
        homes = await self._nm.graph.get_neighbors(USER, None, "Wei", edge_types=["lives_in"])
        ended = next((home.edge for home in homes if home.edge.valid_to is not None), None)
        if ended is None:
            return
        console.print("\n[bold cyan]One lives in one place at a time: the new relation ended the old one[/]")
        for version in reversed(await self._nm.graph.edge_history(USER, ended.edge_id)):
            said = escape(self._sentence(version) + _period(version))
            console.print(f"  [bold]{'known':<6}{version.known_from.date()}[/]   {said}")

    def _sentence(self, edge: GraphEdge) -> str:
        source, target = (self._names.get(key, key) for key in (edge.source_id, edge.target_id))
        return f"{source} {edge.edge_type.replace('_', ' ')} {target}"


def _line(kind: str, words: str) -> None:
    console.print(f"  [green]{kind:<9}[/] {words}", no_wrap=True, overflow="ellipsis")


def _relation(neighbor: GraphNeighbor) -> Text:
    edge = neighbor.edge
    words = edge.edge_type.replace("_", " ")
    said = f"{words} {neighbor.name}" if neighbor.direction == "out" else f"← {neighbor.name} {words}"
    return Text(said + _period(edge), style="dim strike" if _ended(edge) else "")


def _period(edge: GraphEdge) -> str:
    since = f"since {edge.valid_from.date()}" if edge.valid_from else ""
    until = f"until {edge.valid_to.date()}" if edge.valid_to else ""
    return f" ({', '.join(filter(None, (since, until)))})" if since or until else ""


def _ended(edge: GraphEdge) -> bool:
    return edge.valid_to is not None and edge.valid_to <= datetime.now(UTC)


def _feeling(memory: Memory) -> str:
    label = memory.metadata.get("emotion", {}).get("label")
    return f" [dim]({escape(str(label))})[/]" if label else ""
