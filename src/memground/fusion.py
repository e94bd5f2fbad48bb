"""Joining ranked lists. The only place that knows the constant of reciprocal rank fusion."""

from collections.abc import Iterable, Sequence
from itertools import repeat

RRF_K = 60
"""Cormack, Clarke, Büttcher: Reciprocal Rank Fusion outperforms Condorcet … (SIGIR 2009), section 3."""


def rrf[K](arms: Iterable[Sequence[K]], k: int = RRF_K, weights: Iterable[float] | None = None) -> dict[K, float]:
    """Reciprocal rank fusion: score(d) = Σ over arms of weight / (k + rank of d), ranks from 1.

    `arms` are lists of keys, best first; a key missing from an arm gets nothing from it. `weights`: one for each arm,
    1 without.
    """
    scores: dict[K, float] = {}
    for arm, weight in zip(arms, repeat(1.0) if weights is None else weights, strict=False):
        for rank, key in enumerate(arm, start=1):
            scores[key] = scores.get(key, 0.0) + rrf_share(rank, weight, k)
    return scores


def rrf_share(rank: int, weight: float = 1.0, k: int = RRF_K) -> float:
    """What one arm adds to the score of the key it has at a rank."""
    return weight / (k + rank)
