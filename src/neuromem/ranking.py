"""How hits are scored: the profile of weights, and the arithmetic that needs no database."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from memground.errors import InvalidInputError
from memground.fusion import rrf


@dataclass(frozen=True)
class RankingProfile:
    """Weights of recall and search.

    A memory's score is  fused · recency · importance · ended:

    - fused, `fusion="score"`: vector_weight · v / max v + keyword_weight · k / max k, where v is the cosine similarity
    and
      k the keyword score; a row the vector arm did not list has the least listed v. `fusion="rrf"`: Σ 1 / (60 + rank).
    - recency = floor + (1 − floor) · e^(−t / (decay_rate · (1 + 0.5 · arousal))), t in days since the event, arousal in
      [0, 1] from the memory's emotion (memories that moved somebody fade more slowly).
    - importance = floor + (1 − floor) · importance / 10.
    - ended = `ended` for a fact whose validity is over while no `valid_at` is asked, else 1.

    A message's score is  (fused + neighbour · n + session · s) / (1 + neighbour + session) · (1 − question · q)
    · recency · importance of 5, where s is the best fused score in its session, q the share of its sentences that ask
    (a question seldom holds the answer), and n the better fused score of the turns beside it; a turn before counts
    1 + answer · its q (what follows a question answers it).

    `candidates` is how many rows each arm contributes.
    """

    fusion: Literal["score", "rrf"] = "score"
    vector_weight: float = 0.5
    keyword_weight: float = 0.5
    recency_floor: float = 0.9
    importance_floor: float = 0.8
    decay_rate: float = 30.0
    ended: float = 0.5
    neighbour: float = 0.3
    session: float = 0.3
    question: float = 0.3
    answer: float = 0.5
    candidates: int = 200

    def __post_init__(self) -> None:
        if self.fusion not in ("score", "rrf"):
            raise InvalidInputError(f"fusion={self.fusion!r} is not accepted; pass 'score' or 'rrf'")
        for field in ("vector_weight", "keyword_weight", "neighbour", "session", "answer"):
            if not 0 <= getattr(self, field) < math.inf:
                raise InvalidInputError(f"{field}={getattr(self, field)!r} is not accepted; pass 0 or more")
        for field in ("recency_floor", "importance_floor", "ended", "question"):
            if not 0 <= getattr(self, field) <= 1:
                raise InvalidInputError(f"{field}={getattr(self, field)!r} is not accepted; pass 0 to 1")
        if not self.decay_rate > 0:
            raise InvalidInputError(f"decay_rate={self.decay_rate!r} is not accepted; pass days above 0")
        if not 1 <= self.candidates <= 10_000:
            raise InvalidInputError(f"candidates={self.candidates!r} is not accepted; pass 1 to 10,000")

    @classmethod
    def seed(cls) -> "RankingProfile":
        """The bare product RRF · recency · importance, with nothing that softens it."""
        return cls(
            fusion="rrf", recency_floor=0.0, importance_floor=0.0, ended=1.0, neighbour=0.0, session=0.0, question=0.0
        )

    def reaching(self, limit: int) -> "RankingProfile":
        """The profile with arms long enough for `limit` results."""
        return self if limit <= self.candidates else replace(self, candidates=limit)

    def in_context(self, fused: float, neighbours: float, session: float, question_share: float) -> float:
        """A message's score before age and importance."""
        total = fused + self.neighbour * neighbours + self.session * session
        return total / (1.0 + self.neighbour + self.session) * (1.0 - self.question * question_share)


def top_with_best[T, K: Hashable](ranked: Sequence[T], limit: int, key: Callable[[T], K], best: Sequence[K]) -> list[T]:
    """The first `limit` of `ranked`, but never without the best hit of an arm.

    `best` names them; where one would be cut off, it takes the place of the last entry that is no arm's best. With a
    limit below 8 the ranking alone decides.
    """
    chosen = list(ranked[:limit])
    if limit < 8:
        return chosen
    wanted = set(best)
    missing = [item for item in ranked[limit:] if key(item) in wanted]
    for item in reversed(missing):
        for place in range(len(chosen) - 1, -1, -1):
            if key(chosen[place]) not in wanted:
                del chosen[place]
                chosen.append(item)
                break
    order = {key(item): place for place, item in enumerate(ranked)}
    return sorted(chosen, key=lambda item: order[key(item)])


@dataclass(frozen=True)
class Arms[K]:
    """What the two arms say of one table: scores by row, best first."""

    vector: Mapping[K, float]
    keyword: Mapping[K, float]

    def fused(self, profile: RankingProfile, *, vector_top: float, keyword_top: float) -> dict[K, float]:
        """Fusion of the profile over the union of both arms; of scores, in [0, 1] when the weights sum to 1.

        `vector_top` and `keyword_top` are the scores that count as 1: the best over everything to be compared.
        """
        if profile.fusion == "rrf":
            return rrf([list(self.vector), list(self.keyword)])
        floor = self.vector_floor
        keys = dict.fromkeys([*self.vector, *self.keyword])
        return {
            key: profile.vector_weight * _share(self.vector.get(key, floor), vector_top)
            + profile.keyword_weight * _share(self.keyword.get(key, 0.0), keyword_top)
            for key in keys
        }

    def unlisted(self, profile: RankingProfile, *, vector_top: float) -> float:
        """What a row that neither arm listed has at most."""
        return 0.0 if profile.fusion == "rrf" else profile.vector_weight * _share(self.vector_floor, vector_top)

    @property
    def vector_floor(self) -> float:
        """What a row the vector arm did not list can have at most."""
        return min(self.vector.values(), default=0.0)


def _share(score: float, top: float) -> float:
    return max(0.0, score / top) if top > 0 else 0.0
