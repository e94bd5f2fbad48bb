"""How long erasing takes: `python -m benchmarks.erase [--memories 100000]`.

One user with so many memories and as many turns, 10,000 relations and a profile, among others with a tenth as much
together. Erased: a message and a memory of the user, the user's history before half a year ago, and then the user.
Seconds of the whole call, receipt and count included.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from benchmarks import loading, measuring
from benchmarks.loading import Shape
from benchmarks.results_file import save
from benchmarks.synthetic import SyntheticEmbedding
from neuromem import ErasureReceipt, NeuroMemory


async def others(nm: NeuroMemory, user: str) -> list[Any]:
    """What the tables hold of everybody else: rows, and a sum over what is in them."""
    found: list[Any] = []
    async with loading.connect(nm) as connection:
        for table, owner in (
            ("embeddings", "user_id"),
            ("conversations", "user_id"),
            ("conversation_embeddings", "user_id"),
        ):
            name = f"{nm._db.schema}.{table}"
            state = "sum(hashtext(t.id::text)::bigint + xmin::text::bigint)"
            asked = f"select count(*), {state} from {name} t where {owner} <> $1"
            found.append(tuple(await connection.fetchrow(asked, user)))
    return found


async def measure(memories: int) -> dict[str, Any]:
    async with (
        measuring.database(None, None) as url,
        NeuroMemory(url, SyntheticEmbedding(), background=False) as nm,
    ):
        shape = Shape(memories + memories // 10, per_user=max(1, memories // 100), big=(memories,))
        user = f"big-{memories}"
        loaded = await loading.ensure(nm, shape, reload=True)
        await loading.ensure_acquainted(nm, user, edges=memories // 10)
        message = (
            await nm.conversations.get_session_messages(
                user, (await nm.conversations.list_sessions(user))[0].session_id
            )
        )[0]
        memory = (await nm.list_memories(user, limit=1)).items[0]
        half = datetime.now(UTC) - loading.HALF
        before = await others(nm, user)
        calls: dict[str, Callable[[], Awaitable[ErasureReceipt]]] = {
            "a message": lambda: nm.erase_message(user, message.message_id),
            "a memory": lambda: nm.erase_memory(user, memory.memory_id),
            "history before half a year ago": lambda: nm.purge_history(user, half),
            "the user": lambda: nm.delete_user_data(user),
        }
        found: dict[str, Any] = {}
        for what, call in calls.items():
            begun = time.perf_counter()
            receipt = await call()
            took = round(time.perf_counter() - begun, 3)
            committed = (receipt.checked_at - receipt.erased_at).total_seconds()
            found[what] = {"seconds": took, "after_commit": round(committed, 3), "rows": dict(receipt.rows)}
            assert receipt.complete, receipt
        same = await others(nm, user) == before
    return {"memories": memories, "loaded_seconds": loaded, "others_untouched": same, "erased": found}


def options() -> argparse.Namespace:
    parser = measuring.arguments(__doc__)
    parser.add_argument("--memories", type=int, default=100_000)
    return parser.parse_args()


async def main() -> None:
    chosen = options()
    figures = await measure(chosen.memories)
    for what, found in figures["erased"].items():
        print(f"  {what:<32} {found['seconds']:8.2f} s   {sum(found['rows'].values()):,} rows")
    print(f"  others are {'untouched' if figures['others_untouched'] else 'CHANGED'}")
    save("erase", figures, chosen)


if __name__ == "__main__":
    asyncio.run(main())
