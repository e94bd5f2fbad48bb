"""Questions about what a loaded database holds."""

from dataclasses import dataclass

import numpy as np

from benchmarks import loading
from benchmarks.synthetic import near, question
from neuromem import NeuroMemory
from neuromem.models import Tables


@dataclass(frozen=True)
class Query:
    """A question of a user beside something stored, with its vector."""

    user: str
    text: str
    vector: list[float]


async def queries(nm: NeuroMemory, users: list[str], count: int) -> list[Query]:
    """Questions beside memories and messages in turn, of the users in turn; the same for the same database."""
    random = np.random.default_rng(3)
    tables = nm._db.tables
    asked: list[Query] = []
    async with loading.connect(nm) as connection:
        turns = await connection.fetchval(f"select exists (select from {tables.conversations.table.fullname})")
        for number in range(count):
            user = users[number % len(users)]
            memory = number % 2 == 0 or not turns
            content, vector = await connection.fetchrow(_stored(tables, memory=memory), user, number)
            point = near(random, vector.to_numpy())
            asked.append(Query(user, question(random, content), point.tolist()))
    return asked


def _stored(tables: Tables, *, memory: bool) -> str:
    if memory:
        source, vectors = tables.embeddings.table.fullname, "s.embedding"
        joined = ""
    else:
        source, vectors = tables.conversations.table.fullname, "v.embedding"
        joined = f"join {tables.conversation_embeddings.table.fullname} v using (message_id)"
    return (
        f"select s.content, {vectors}::vector from {source} s {joined} where s.user_id = $1 and s.known_to is null "
        "order by s.known_from, s.id offset ($2::int * 7919) % (select count(*) from "
        f"{source} where user_id = $1 and known_to is null) limit 1"
    )
