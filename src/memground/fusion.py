"""Joining ranked lists. The only place that knows the constant of reciprocal rank fusion."""

from collections.abc import Iterable, Mapping, Sequence

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


def weighted[K](arms: Iterable[tuple[float, Mapping[K, float]]]) -> dict[K, float]:
    """Convex fusion of scores already brought to [0, 1]: score(d) = Σ weight · score of d in the arm."""
    scores: dict[K, float] = {}
    for weight, arm in arms:
        for key, score in arm.items():
            scores[key] = scores.get(key, 0.0) + weight * score
    return scores


def to_unit[K](scores: Mapping[K, float]) -> dict[K, float]:
    """Scores divided by their maximum, so that the best is 1; what is not positive becomes 0."""
    top = max(scores.values(), default=0.0)
    if top <= 0:
        return dict.fromkeys(scores, 0.0)
    return {key: max(0.0, score / top) for key, score in scores.items()}
