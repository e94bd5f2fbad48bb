"""How much of the exact nearest rows the vector arm finds, compared with every vector of the user multiplied here."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Table

from benchmarks import loading
from benchmarks.synthetic import Floats
from neuromem import NeuroMemory

TOP = 10
_NO_WORD = "qzxjvkwqzx"  # found by no keyword arm: what comes back is what the vector arm listed


@dataclass(frozen=True)
class Vectors:
    """All versions of one user's rows in one table: `vectors` is (rows, dims), times in microseconds since 1970."""

    ids: NDArray[np.object_]
    known_from: NDArray[np.int64]
    known_to: NDArray[np.int64]
    vectors: Floats

    def nearest(self, query: Sequence[float], moment: datetime | None, count: int) -> list[str]:
        """Logical ids of the `count` nearest rows known at the moment (None: now), the nearest first."""
        if moment is None:
            known = self.known_to == _OPEN
        else:
            at = _microseconds(moment)
            known = (self.known_from <= at) & (self.known_to > at)
        similar = self.vectors[known] @ np.array(query, dtype=np.float32)
        return self.ids[known][np.argsort(-similar, kind="stable")[:count]].tolist()


_OPEN = np.iinfo(np.int64).max


async def read(nm: NeuroMemory, table: Table, key: str, user: str) -> Vectors:
    """The user's vectors in a table whose logical id is `key`."""
    async with loading.connect(nm) as connection:
        rows = await connection.fetch(
            f"select {key}, known_from, known_to, embedding::vector from {table.fullname} "
            "where user_id = $1 and embedding is not null",
            user,
        )
    ends = [_OPEN if row[2] is None else _microseconds(row[2]) for row in rows]
    vectors = np.stack([row[3].to_numpy() for row in rows]).astype(np.float32)
    return Vectors(
        np.array([str(row[0]) for row in rows], dtype=object),
        np.array([_microseconds(row[1]) for row in rows]),
        np.array(ends),
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


async def found(
    nm: NeuroMemory, asked: Sequence[tuple[str, list[float]]], moments: Sequence[datetime | None]
) -> dict[str, float]:
    """Shares of the exact top found, over (user, query vector) pairs at each moment: of the top 10 memories and
    messages, and of as many memories as the arm lists."""
    tables, listed = nm._db.tables, nm._context.ranking.candidates
    shares: dict[str, list[float]] = defaultdict(list)
    for user in dict.fromkeys(user for user, _ in asked):
        memories = await read(nm, tables.embeddings.table, "memory_id", user)
        messages = await read(nm, tables.conversation_embeddings.table, "message_id", user)
        for query in (vector for owner, vector in asked if owner == user):
            for moment in moments:
                hits = await nm.search(user, _NO_WORD, limit=listed, query_embedding=query, as_of=moment, explain=True)
                arm = {hit.memory.memory_id: hit.explanation.vector_rank for hit in hits if hit.explanation}
                said = await nm.recall(user, _NO_WORD, limit=listed, query_embedding=query, as_of=moment, explain=True)
                spoken = {
                    hit.message.message_id: hit.explanation.vector_rank
                    for hit in said.conversation_results
                    if hit.explanation
                }
                for name, ranks, exact, count in (
                    (f"memories@{TOP}", arm, memories, TOP),
                    (f"memories@{listed}", arm, memories, listed),
                    (f"messages@{TOP}", spoken, messages, TOP),
                ):
                    if wanted := exact.nearest(query, moment, count):
                        top = {key for key, rank in ranks.items() if rank is not None and rank <= count}
                        shares[name].append(len(top.intersection(wanted)) / len(wanted))
    return {name: round(fmean(values), 4) for name, values in shares.items()}


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
