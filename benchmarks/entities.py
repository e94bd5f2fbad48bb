"""How long `entity_profile` takes: `python -m benchmarks.entities [--memories 100000] [--data FOLDER] [--explain]`.

One user with so many memories and as many turns, 10,000 relations and a profile, beside others with a tenth as much
together. Asked for: words that stand in about as many of the user's memories as each line says; a thing that as many
relations end at as there were; a thing of as many names as texts are searched for; what nobody named. Now, and as of
half a year ago, when half was known. Milliseconds, p50 and p95; the floor is a round trip.
"""

import argparse
import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import loading, measuring
from benchmarks.loading import RELATIONS, THING, Shape
from benchmarks.results_file import save
from benchmarks.synthetic import SyntheticEmbedding
from memground.clock import Stamp
from memground.words import keys, words
from neuromem import NeuroMemory
from neuromem.services.entities import MOST_NAMES
from neuromem.types import DEFAULT_ORIGIN

MENTIONS = (3, 100, 1_000, 10_000)
HUB, KNOWN_BY_MANY, UNNAMED = "the hub", "known by many names", "zzyzx"


async def by_mentions(nm: NeuroMemory, user: str, wanted: int, count: int) -> list[str]:
    """So many words that stand in about the `wanted` number of the user's memories, the nearest first."""
    stems = {word.lower(): found[0] for word in nm._embedding.world.words if (found := words(word))}  # type: ignore[attr-defined]
    numbers = dict(zip(keys(user, stems.values()), stems, strict=True))
    async with loading.connect(nm) as connection:
        rows = await connection.fetch(
            f"select word, count(*) from {nm._db.schema}.embeddings e, unnest(e.words) word "
            "where e.user_id = $1 and e.known_to is null group by word order by abs(count(*) - $2), word limit $3",
            user,
            wanted,
            4 * count,
        )
    return [numbers[row["word"]] for row in rows if row["word"] in numbers][:count]


async def acquaint(nm: NeuroMemory, user: str, edges: int, aliases: list[str]) -> None:
    """Relations, a hub of as many, and a thing with many names; unless they are there."""
    if await nm.graph.get_node(user, THING, HUB) is not None:
        return
    await loading.ensure_acquainted(nm, user, edges)
    now, tables = datetime.now(UTC), nm._db.tables
    triples = [(f"thing {place}", RELATIONS[place % len(RELATIONS)], HUB) for place in range(edges)]
    known = [now - timedelta(days=365) * (1 - place / edges) for place in range(edges)]
    async with loading.connect(nm) as connection:
        for name, rows in loading.graph_rows(tables, user, triples, known, Stamp(now, DEFAULT_ORIGIN)).items():
            await loading.copy(connection, tables.metadata.tables[f"{tables.schema}.{name}"], rows)
    await nm.graph.create_node(user, THING, KNOWN_BY_MANY, {"aliases": aliases})
    await loading.settle(nm)


async def measure(memories: int, calls: int, data: Path | None, explain: bool) -> dict[str, Any]:
    async with (
        measuring.database(None, data) as url,
        NeuroMemory(url, SyntheticEmbedding(), background=False) as nm,
    ):
        shape = Shape(memories + memories // 10, per_user=max(1, memories // 100), big=(memories,))
        user = f"big-{memories}"
        await loading.ensure(nm, shape, reload=False)
        rare = await by_mentions(nm, user, MENTIONS[0], MOST_NAMES - 1)
        await acquaint(nm, user, memories // 10, rare)
        asked = {
            f"a word in {wanted:,} memories": await by_mentions(nm, user, wanted, calls)
            for wanted in MENTIONS
            if wanted <= memories // 10
        }
        asked |= {f"a hub of {memories // 10:,} relations": [HUB], f"a thing of {MOST_NAMES} names": [KNOWN_BY_MANY]}
        asked |= {"what nobody named": [UNNAMED]}
        found: dict[str, Any] = {"round trip": await measuring.round_trip(nm)}
        for when, view in {"now": nm, "as of": nm.as_of(datetime.now(UTC) - loading.HALF)}.items():
            for what, names in asked.items():

                def call(n: int, names: list[str] = names, view: Any = view) -> Any:
                    return view.entity_profile(user, names[n % len(names)])

                found[f"{what}, {when}"] = await measuring.timed(call, calls, warm=min(calls, 5))
                if explain and when == "now":
                    print(f"\n== {what}: {names[0]}\n", *(await measuring.explained(nm, call)), sep="\n")
        profile = await nm.entity_profile(user, HUB)
    return {"memories": memories, "relations_of_hub": profile.relation_count, "milliseconds": found}


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=30, help="questions of each kind")
    parser.add_argument("--data", type=Path, help="folder that keeps the data for the next time")
    parser.add_argument("--explain", action="store_true", help="print the plans")
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    figures = await measure(chosen.memories, chosen.calls, chosen.data, chosen.explain)
    for what, found in figures["milliseconds"].items():
        print(f"  {what:<44} p50 {found['p50']:8.2f} ms   p95 {found['p95']:8.2f} ms")
    save("entities", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
