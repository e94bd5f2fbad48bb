"""Joining ranked lists. The only place that knows the constant of reciprocal rank fusion."""

from collections.abc import Iterable, Sequence

RRF_K = 60
"""Cormack, Clarke, Büttcher: Reciprocal Rank Fusion outperforms Condorcet … (SIGIR 2009), section 3."""


def rrf[K](arms: Iterable[Sequence[K]], k: int = RRF_K) -> dict[K, float]:
    """Reciprocal rank fusion: score(d) = Σ over arms of 1 / (k + rank of d), ranks from 1.

    `arms` are lists of keys, best first; a key missing from an arm gets nothing from it.
    """
    scores: dict[K, float] = {}
    for arm in arms:
        for rank, key in enumerate(arm, start=1):
            scores[key] = scores.get(key, 0.0) + 1.0 / (k + rank)
    return scores
