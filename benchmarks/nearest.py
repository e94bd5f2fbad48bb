"""How much of the exact nearest rows the vector arm finds, compared with every vector of the user multiplied here."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Table

from benchmarks import loading
from benchmarks.synthetic import Floats
from neuromem import NeuroMemory
from neuromem.ranking import TurnWeights
from neuromem.types import Explanation

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
    vectors = np.array([row[3].to_numpy() for row in rows], dtype=np.float32).reshape(len(rows), nm._db.dims)
    return Vectors(
        np.array([str(row[0]) for row in rows], dtype=object),
        np.array([_microseconds(row[1]) for row in rows]),
        np.array(ends),
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


async def found(
    nm: NeuroMemory, asked: Sequence[tuple[str, list[float]]], views: Mapping[str, Sequence[datetime | None]]
) -> dict[str, dict[str, float]]:
    """Shares of the exact top found, over (user, query vector) pairs at the moments of each view: of the top 10
    memories and messages, and of as many memories as the arm lists."""
    tables, listed = nm._db.tables, nm._context.ranking.candidates
    # Ranked by the vector alone, so that what the arm lists is what comes back.
    alone = TurnWeights(
        beside=0.0, further=0.0, session=0.0, question=0.0, short=0.0, other_speaker=0.0, other_time=0.0
    )
    plain = replace(nm._context.ranking, turns=alone, keyword_weight=0.0, recency_floor=1.0, importance_floor=1.0)
    shares: dict[str, dict[str, list[float]]] = {view: defaultdict(list) for view in views}
    moments = [(view, moment) for view, group in views.items() for moment in group]
    async with NeuroMemory(
        nm._db._url_in_use, nm._embedding, schema=nm._db.schema, ranking=plain, background=False
    ) as mind:
        for user in dict.fromkeys(user for user, _ in asked):
            memories = await read(nm, tables.embeddings.table, "memory_id", user)
            messages = await read(nm, tables.conversation_embeddings.table, "message_id", user)
            queries = [vector for owner, vector in asked if owner == user]
            for query, (view, moment) in product(queries, moments):
                remembered, said = await _ranks(mind, user, query, moment, listed)
                for name, ranks, exact, count in (
                    (f"memories@{TOP}", remembered, memories, TOP),
                    (f"memories@{listed}", remembered, memories, listed),
                    (f"messages@{TOP}", said, messages, TOP),
                ):
                    if wanted := exact.nearest(query, moment, count):
                        top = {key for key, rank in ranks.items() if rank <= count}
                        shares[view][name].append(len(top.intersection(wanted)) / len(wanted))
    return {view: {name: round(fmean(all_), 4) for name, all_ in found.items()} for view, found in shares.items()}


async def _ranks(
    mind: NeuroMemory, user: str, query: Sequence[float], moment: datetime | None, limit: int
) -> tuple[dict[str, int], dict[str, int]]:
    """Places in the vector arm by logical id, of memories and of messages."""
    asking = {"limit": limit, "query_embedding": query, "as_of": moment, "explain": True}
    hits = await mind.search(user, _NO_WORD, **asking)  # type: ignore[arg-type]
    result = await mind.recall(user, _NO_WORD, **asking)  # type: ignore[arg-type]
    remembered = {hit.memory.memory_id: hit.explanation for hit in hits}
    said = {hit.message.message_id: hit.explanation for hit in result.conversation_results}
    return _listed(remembered), _listed(said)


def _listed(explanations: Mapping[str, Explanation | None]) -> dict[str, int]:
    return {key: why.vector_rank for key, why in explanations.items() if why and why.vector_rank is not None}


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
