"""How hits are scored: the profile of weights, and the arithmetic that needs no database."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from memground.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class TurnWeights:
    """Weights of what stands around a turn of a conversation, beside 1 for the turn itself.

    A turn's score is  (own + beside · n₁ + further · n₂ + session · s) / (1 + beside + further + session)
    · (1 − question · q) · (1 − short · e^(−words / short_words)), where

    - own = the profile's fusion of the turn, times 1 − other_speaker where the question names one speaker and another
      one speaks, times 1 − other_time · (1 − e^(−days off / days)) where it names a time. Its keyword score is BM25
      over the turns that come into question, with `saturation` and `length` as k₁ and b.
    - n₁ and n₂ are the better `own` of the turns one and two away; a turn before counts 1 + answer · its q, because
      what follows a question answers it. s is the best `own` in its session.
    - q is the share of its sentences that ask (a question seldom holds the answer), `words` how many it has ("Wow!"
      says little).
    """

    beside: float = 0.4
    further: float = 0.2
    session: float = 0.4
    answer: float = 1.0
    question: float = 0.2
    short: float = 0.3
    short_words: float = 5.0
    other_speaker: float = 0.15
    other_time: float = 0.4
    days: float = 10.0
    saturation: float = 0.6
    length: float = 0.3

    def __post_init__(self) -> None:
        _check(self, ("beside", "further", "session", "answer", "saturation"), at_most=math.inf)
        _check(self, ("question", "short", "other_speaker", "other_time", "length"), at_most=1)
        for name in ("short_words", "days"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is not accepted; pass a number above 0")


@dataclass(frozen=True, kw_only=True)
class GraphWeights:
    """What relations between what a question names do to the ranking.

    A memory's score is multiplied by min(most, 1 + Σ over the triples): `both` where its text holds both ends, `one`
    where it holds one. With `relative` an end counts by the share of the memories found that do not hold it, since what
    most of them name tells them not apart; and the factors are divided by the largest of them, so that relations order
    memories and do not lift all of them above what was said. A relation's own score is `fact` · (half the share of the
    question's words it holds, half the share of its ends the question names) · confidence · recency · importance of 5 ·
    ended; that of an entry of the profile `profile` · the share of the question's words it holds · importance of 5.
    """

    both: float = 0.5
    one: float = 0.2
    most: float = 2.0
    relative: bool = True
    fact: float = 0.3
    profile: float = 0.3

    def __post_init__(self) -> None:
        _check(self, ("both", "one", "fact", "profile"), at_most=math.inf)
        if not 1 <= self.most < math.inf:
            raise InvalidInputError(f"most={self.most!r} is not accepted; pass 1 or more")


@dataclass(frozen=True)
class RankingProfile:
    """Weights of recall and search.

    A memory's score is  fused · recency · importance · ended · time:

    - fused, `fusion="score"`: vector_weight · v / max v + keyword_weight · k / max k, where v is the cosine similarity
      and k the keyword score; a row the vector arm did not list has the least listed v. `fusion="rrf"`:
      Σ 1 / (60 + rank).
    - recency = floor + (1 − floor) · e^(−t / (decay_rate · (1 + 0.5 · arousal))), t in days since the event, arousal in
      [0, 1] from the memory's emotion (memories that moved somebody fade more slowly).
    - importance = floor + (1 − floor) · importance / 10.
    - ended = `ended` for a fact whose validity is over while no `valid_at` is asked, nor about a time at which it was
      true; else 1.
    - time = 1 − other_time · (1 − e^(−days off / time_days)) where the query names a time ("last May", "in 2019",
      三年前; of several the nearest counts), else 1. A memory's time goes from its `event_at` to the end of its
      validity; one that began and has no end goes on, but an episode is over when it has happened.

    A memory that was learned from messages is ranked with them: it keeps `learned` of its own score, and the rest is
    the best score of these messages, which are ranked by all that stands around them, times `ended`. One that holds
    more of the words to look for (the question's, without names of speakers) than any of these messages keeps
    max(learned, s⁸), where s is the share of them it holds, 1 from nine tenths on. Messages that no arm found have
    the least score of those found. In `merged` a memory shares the place of the best of its messages: one stands there,
    the memory before the message unless that is the best of an arm and says more or is nearer by meaning; the others
    keep `repeated` of their score.

    A message's score is that of `turns` (see `TurnWeights`) · recency · importance of 5; with `fusion="rrf"`, fused ·
    recency · importance of 5.

    `candidates` is how many rows each arm contributes.
    """

    fusion: Literal["score", "rrf"] = "score"
    vector_weight: float = 0.55
    keyword_weight: float = 0.45
    recency_floor: float = 0.9
    importance_floor: float = 0.8
    decay_rate: float = 30.0
    ended: float = 0.5
    other_time: float = 0.4
    time_days: float = 10.0
    learned: float = 0.0
    repeated: float = 0.2
    turns: TurnWeights = field(default_factory=TurnWeights)
    graph: GraphWeights = field(default_factory=GraphWeights)
    candidates: int = 100

    def __post_init__(self) -> None:
        if self.fusion not in ("score", "rrf"):
            raise InvalidInputError(f"fusion={self.fusion!r} is not accepted; pass 'score' or 'rrf'")
        _check(self, ("vector_weight", "keyword_weight"), at_most=math.inf)
        _check(self, ("recency_floor", "importance_floor", "ended", "other_time", "learned", "repeated"), at_most=1)
        if not isinstance(self.turns, TurnWeights):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"turns={self.turns!r} is not accepted; pass TurnWeights(…)")
        if not isinstance(self.graph, GraphWeights):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"graph={self.graph!r} is not accepted; pass GraphWeights(…)")
        for name in ("decay_rate", "time_days"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"{name}={getattr(self, name)!r} is not accepted; pass days above 0")
        if not 1 <= self.candidates <= 10_000:
            raise InvalidInputError(f"candidates={self.candidates!r} is not accepted; pass 1 to 10,000")

    @classmethod
    def seed(cls) -> "RankingProfile":
        """The bare product RRF · recency · importance, with nothing that softens it."""
        return cls(
            fusion="rrf",
            recency_floor=0.0,
            importance_floor=0.0,
            ended=1.0,
            other_time=0.0,
            learned=1.0,
            repeated=1.0,
            graph=GraphWeights(relative=False),
        )

    def recency_after(self, days: float) -> float:
        """What an age leaves of a score."""
        return self.recency_floor + (1.0 - self.recency_floor) * math.exp(-max(days, 0.0) / self.decay_rate)

    def weight_of(self, importance: int) -> float:
        """What an importance leaves of a score."""
        return self.importance_floor + (1.0 - self.importance_floor) * importance / 10

    def reaching(self, limit: int) -> "RankingProfile":
        """The profile with arms long enough for `limit` results."""
        return self if limit <= self.candidates else replace(self, candidates=limit)


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


def _check(weights: object, fields: Sequence[str], *, at_most: float) -> None:
    for name in fields:
        value = getattr(weights, name)
        if not 0 <= value <= at_most or value == math.inf:
            accepted = "0 to 1" if at_most == 1 else "0 or more"
            raise InvalidInputError(f"{name}={value!r} is not accepted; pass {accepted}")
