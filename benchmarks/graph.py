"""How long questions to the graph take: `python -m benchmarks.graph [--edges 100000] [--hub 10000]`.

Three users: one whose edges join things at random, one in whose graph half of the edges' things also hang on a hub, one
with the edges of a busy person (a tenth). Asked: paths of at most 4 edges between things drawn at random, neighbours,
the facts about what a question names; now, and as of half a year ago, when half was known. Written: 30 triples, as an
extraction would. Milliseconds, p50 and p95; the floor is a round trip.
"""

import argparse
import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import loading, measuring
from benchmarks.loading import RELATIONS, THING
from benchmarks.results_file import save
from memground.clock import Stamp
from neuromem import NeuroMemory, Triple
from neuromem.facades import GraphReader
from neuromem.providers.embedding import EmbeddingProvider
from neuromem.services.graph_memory import GraphMemoryService
from neuromem.types import DEFAULT_ORIGIN

DEPTH = 4
HUB = "the hub"


class NoEmbedding(EmbeddingProvider):
    """The graph needs no vectors."""

    @property
    def dims(self) -> int:
        return 8

    async def embed(self, text: str) -> list[float]:
        return [1.0] * 8


def name(number: int) -> str:
    return f"thing {number}"


def ends(edges: int, hub: int, rng: random.Random) -> list[tuple[str, str]]:
    """Pairs of names: ten edges a thing on average, both ends counted, and `hub` edges to the hub."""
    things = max(2, edges // 5)
    drawn = [tuple(map(name, rng.sample(range(things), 2))) for _ in range(edges - hub)]
    return [*drawn, *((name(number), HUB) for number in rng.sample(range(things), min(hub, things)))]  # type: ignore[misc]


async def load(nm: NeuroMemory, user: str, pairs: list[tuple[str, str]], rng: random.Random) -> None:
    """The rows that `create_edge` would have written over a year, by COPY."""
    now = datetime.now(UTC)
    known = [now - timedelta(days=365 * rng.random()) for _ in pairs]
    triples = [(source, RELATIONS[place % 4], target) for place, (source, target) in enumerate(pairs)]
    rows = loading.graph_rows(nm._db.tables, user, triples, known, Stamp(now, DEFAULT_ORIGIN))
    async with loading.connect(nm) as connection:
        for table in (nm._db.tables.graph_nodes.table, nm._db.tables.graph_edges.table):
            await loading.copy(connection, table, rows[table.name])


async def store(nm: NeuroMemory, user: str, number: int) -> None:
    """30 triples: restated, new, and some of one value at a time that change."""
    said = [Triple(name(3 * number + n), RELATIONS[n % 4], name(n), THING, THING) for n in range(24)]
    said += [Triple(name(n), "lives_in", f"town {number}", THING, "place") for n in range(6)]
    async with nm._db.session() as session:
        await GraphMemoryService(session).store_triples(user, said, stamp=session.stamp("bench"))


async def reads(graph: GraphReader, asked: dict[str, list[list[str]]]) -> dict[str, measuring.Quantiles]:
    """What each kind of question takes, by its name."""

    def path(user: str) -> measuring.Call:
        return lambda n: graph.find_path(user, THING, asked[user][n][0], THING, asked[user][n][1], DEPTH)

    def facts(text: str) -> measuring.Call:
        return lambda n: graph.find_entity_facts("busy", text.format(*asked["busy"][n]))

    calls: dict[str, measuring.Call] = {
        "path": path("random"),
        "path through a hub": path("hub"),
        "path to a hub": lambda n: graph.find_path("hub", THING, asked["hub"][n][0], THING, HUB, DEPTH),
        "neighbours": lambda n: graph.get_neighbors("random", THING, asked["random"][n][0]),
        "neighbours of a hub": lambda _: graph.get_neighbors("hub", THING, HUB),
        "facts": facts("Does {} know {}, and since when?"),
        "facts about a hub": facts("What do you know about the hub and {}?"),
    }
    return {what: await measuring.timed(call, len(asked["random"])) for what, call in calls.items()}


async def measure(edges: int, hub: int, calls: int) -> dict[str, Any]:
    rng = random.Random(1)
    async with (
        measuring.database(None, None) as url,
        NeuroMemory(url, NoEmbedding(), background=False) as nm,
    ):
        users = {
            "random": ends(edges, 0, rng),
            "hub": ends(edges, hub, rng),
            "busy": ends(edges // 10, hub // 10, rng),
        }
        for user, pairs in users.items():
            await load(nm, user, pairs, rng)
        async with loading.connect(nm) as connection:
            await connection.execute(f"vacuum analyze {nm._db.schema}.graph_edges, {nm._db.schema}.graph_nodes")
        things = {user: sorted({item for pair in pairs for item in pair}) for user, pairs in users.items()}
        asked = {user: [rng.sample(names, 2) for _ in range(calls)] for user, names in things.items()}
        views = {"now": nm.graph, "as of": nm.as_of(datetime.now(UTC) - loading.HALF).graph}
        found: dict[str, Any] = {"round trip": await measuring.round_trip(nm)}

        for when, view in views.items():
            found |= {f"{what}, {when}": value for what, value in (await reads(view, asked)).items()}
        joined = [await nm.graph.find_path("random", THING, a, THING, b, DEPTH) for a, b in asked["random"]]
        found["store 30 triples"] = await measuring.timed(lambda n: store(nm, "busy", n), min(calls, 20), warm=2)
    return {"edges": edges, "hub": hub, "joined": sum(map(bool, joined)) / calls, "milliseconds": found}


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--edges", type=int, default=100_000)
    parser.add_argument("--hub", type=int, default=10_000, help="edges of the hub")
    parser.add_argument("--calls", type=int, default=100, help="questions of each kind")
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    figures = await measure(chosen.edges, chosen.hub, chosen.calls)
    for what, found in figures["milliseconds"].items():
        print(f"  {what:<32} p50 {found['p50']:8.2f} ms   p95 {found['p95']:8.2f} ms")
    print(f"  {figures['joined']:.0%} of the random pairs are joined by at most {DEPTH} edges")
    save("graph", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
