"""What the graph and the profile say to a question: how much it counts, and what it adds to memories."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from memground.names import names_in
from memground.view import View
from memground.words import words
from neuromem.ranking.profile import GraphWeights, RankingProfile
from neuromem.types import DEFAULT_IMPORTANCE, Explanation, GraphFact, Hit, Memory, Source

_SECONDS_A_DAY = 86_400.0
_NEARLY, _COMPLETE = 0.9, 8
"""A memory that holds nearly all words to look for is ranked by itself; with fewer, quickly less so."""
_READ = 1_000
"""Characters of an entry of the profile that are compared with a question."""


def share_of(asked: Collection[str], held: Iterable[str]) -> float:
    """The share of a question's words that are among the words of a text."""
    return len(frozenset(held).intersection(asked)) / len(asked) if asked else 0.0


@lru_cache(maxsize=8_192)
def _words_of(text: str) -> frozenset[str]:
    """The words of a short text that many questions are compared with."""
    return frozenset(words(text))


def fact_score(
    fact: GraphFact, asked: Collection[str], view: View, profile: RankingProfile
) -> tuple[float, Explanation]:
    """How well a relation answers, and why; see `GraphWeights`."""
    words_held = share_of(asked, _words_of(fact.content))
    age = (view.now - (fact.valid_from or fact.known_from)).total_seconds() / _SECONDS_A_DAY
    parts = {
        "words": words_held,
        "named": fact.named / 2,
        "confidence": fact.confidence,
        "recency": profile.recency_after(age),
        "importance": profile.weight_of(DEFAULT_IMPORTANCE),
        "ended": profile.ended if fact.ended and view.valid_at is None else 1.0,
    }
    score = profile.graph.fact * (parts["words"] + parts["named"]) / 2
    for factor in ("confidence", "recency", "importance", "ended"):
        score *= parts[factor]
    notes = () if not fact.ended else (f"no longer true since {fact.valid_to:%Y-%m-%d}" if fact.valid_to else "ended",)
    return score, Explanation(parts=parts, notes=notes)


def profile_score(text: str, asked: Collection[str], profile: RankingProfile) -> tuple[float, Explanation]:
    """How well an entry of the profile answers, and why; see `GraphWeights`."""
    parts = {"words": share_of(asked, _words_of(text)), "importance": profile.weight_of(DEFAULT_IMPORTANCE)}
    return profile.graph.profile * parts["words"] * parts["importance"], Explanation(parts=parts)


def profile_text(key: str, value: Any) -> str:
    """An entry of the profile in words."""
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{key.replace('_', ' ')}: {said[:_READ]}"


def boosted(hits: Sequence[Hit], facts: Sequence[GraphFact], weights: GraphWeights) -> list[Hit]:
    """The hits with what the relations add to each, best first; see `GraphWeights`."""
    if not facts:
        return list(hits)
    # A triple that held before and holds again is one.
    triples = dict.fromkeys((fact.subject_id, fact.relation, fact.object_id) for fact in facts)
    ends = [(subject_id, object_id) for subject_id, _, object_id in triples]
    names = {name for pair in ends for name in pair}
    held = [names_in(hit.memory.content, names) for hit in hits]
    worth = dict.fromkeys(names, 1.0)
    if weights.relative:
        worth = {name: 1.0 - sum(name in there for there in held) / len(held) for name in names} if held else {}
    factors = [min(weights.most, 1.0 + sum(_gain(pair, there, worth, weights) for pair in ends)) for there in held]
    largest = max(factors, default=1.0) if weights.relative else 1.0
    return _resorted(
        _scored_anew(hit, hit.score * factor / largest, "graph", factor / largest)
        for hit, factor in zip(hits, factors, strict=True)
    )


@dataclass(frozen=True)
class Told:
    """What the turns that come into question say: by message id each one's score, and the share of `words` it holds.

    `words` are those to look for: the question's, without the names that speakers bear.
    """

    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    held: Mapping[str, float] = field(default_factory=dict[str, float])
    words: Collection[str] = ()

    def place(self, sources: Iterable[Source]) -> str | None:
        """The best turn among what something was learned from; None where none of them comes into question."""
        turns = [source.id for source in sources if source.kind == "message" and source.id in self.scores]
        return max(turns, key=lambda turn: (self.scores[turn], turn), default=None)

    def says_as_much(self, content: str, turn: str) -> bool:
        """Whether a text holds as many of the words to look for as a turn."""
        return share_of(self.words, words(content)) >= self.held.get(turn, 0.0)

    def adds(self, content: str, sources: Iterable[Source]) -> bool:
        """Whether a text holds more of the words to look for than any message it was learned from; true without one."""
        said = [self.held.get(source.id, 0.0) for source in sources if source.kind == "message"]
        return not said or share_of(self.words, words(content)) > max(said)


def with_turns(hits: Sequence[Hit], told: Told, learned: float) -> list[Hit]:
    """The hits, each with the score of the best turn it was learned from, best first; see `RankingProfile`."""
    least = min(told.scores.values(), default=0.0)  # of turns that no arm found
    scored: list[Hit] = []
    for hit in hits:
        if (own := own_share(hit.memory, told, learned)) == 1.0:
            scored.append(hit)
            continue
        place = told.place(hit.memory.sources)
        said = least if place is None else told.scores[place]
        if hit.explanation is not None:
            said *= hit.explanation.parts.get("ended", 1.0)  # the turn told what is no longer true
        scored.append(_scored_anew(hit, own * hit.score + (1.0 - own) * said, "turns", said))
    return _resorted(scored)


def own_share(memory: Memory, told: Told, learned: float) -> float:
    """How much of a memory's score is its own: all, unless a turn it was learned from says as much."""
    if not told.held or all(source.kind != "message" for source in memory.sources):
        return 1.0
    if not told.adds(memory.content, memory.sources):
        return learned
    return max(learned, min(1.0, share_of(told.words, words(memory.content)) / _NEARLY) ** _COMPLETE)


def _scored_anew(hit: Hit, score: float, part: str, value: float) -> Hit:
    """The hit with another score, and the part of it that is the reason."""
    why = hit.explanation
    return Hit(hit.memory, score, None if why is None else replace(why, parts={**why.parts, part: value}))


def _resorted(hits: Iterable[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: -hit.score)


def _gain(ends: tuple[str, str], held: Collection[str], worth: Mapping[str, float], weights: GraphWeights) -> float:
    """What a relation adds to a memory that holds some names; `worth`: how much each of them says."""
    found = [worth[name] for name in set(ends) if name in held]
    if not found:
        return 0.0
    return (weights.both if len(found) == len(set(ends)) else weights.one) * sum(found) / len(found)


def graph_context(facts: Sequence[GraphFact]) -> str:
    """The relations as lines of text, for a prompt."""
    return "\n".join(fact.content + _during(fact) for fact in facts)


def _during(fact: GraphFact) -> str:
    said = [f"since {fact.valid_from:%Y-%m-%d}"] if fact.valid_from else []
    said += [f"until {fact.valid_to:%Y-%m-%d}"] if fact.valid_to else []
    return f" ({', '.join(said)})" if said else ""
