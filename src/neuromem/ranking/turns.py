"""How well each turn of a conversation answers a question, told from the candidates alone.

Pure: arrays in, arrays out. The rows are what the two arms listed and the turns around the best of them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memground.fusion import RRF_K
from memground.text import fold
from memground.words import words
from neuromem.ranking.profile import RankingProfile, TurnWeights
from neuromem.ranking.times import Floats, TimeRange, seconds_off

type Whole = NDArray[np.int64]
type Places = NDArray[np.intp]

WORDS_READ = 512
"""Words of a turn that its score looks at: of a pasted file, the beginning."""

_WORD = re.compile(r"[^\W_]+")
_SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Rows to be scored, n of them, in any order, each once.

    `similarity` and `keyword`: (n,) what the arms say, NaN for a row an arm did not list. `words`: the numbers of all
    their words, row after row, `lengths`: (n,) how many each has. `before`: (n,) place of the turn just before it in
    its session, −1 where there is none or it was not read. `session`: (n,) small whole numbers. `question_share`: (n,).
    `speaker`: n names. `said`: (n,) when, in seconds since 1970.
    """

    similarity: Floats
    keyword: Floats
    words: Whole
    lengths: Whole
    before: Places
    session: Places
    question_share: Floats
    speaker: Sequence[str | None]
    said: Floats


@dataclass(frozen=True)
class Asked:
    """What a question asks for: its words by number, the names it may hold, and the times it names."""

    query: str
    words: Mapping[str, int]
    times: Sequence[TimeRange] = ()


def score_turns(
    asked: Asked, turns: Turns, profile: RankingProfile, *, vector_top: float, keyword_share: float
) -> tuple[Floats, dict[str, Floats]]:
    """(n,) scores in [0, 1] where the profile's weights sum to 1, and the parts they are made of, each (n,).

    `vector_top`: the similarity that counts as 1, `keyword_share`: what the best keyword score counts, when other
    things than turns are compared with them. See `TurnWeights` for the formula.
    """
    if profile.fusion == "rrf":
        fused = _reciprocal(turns.similarity) + _reciprocal(turns.keyword)
        return fused, {"fused": fused}
    weights = profile.turns
    similarity = _share(turns.similarity, vector_top)
    names, others = _speakers(asked.query, turns.speaker)
    matches = keyword_share * _matches(_without(names, asked.words).values(), turns, weights)
    speaker = 1.0 - weights.other_speaker * others
    time = _nearness(asked.times, turns.said, weights)
    own = (profile.vector_weight * similarity + profile.keyword_weight * matches) * speaker * time
    beside, further = _surroundings(own, turns, weights)
    best = np.zeros(int(turns.session.max(initial=0)) + 1)
    np.maximum.at(best, turns.session, own)
    session = best[turns.session]
    telling = 1.0 - weights.question * turns.question_share
    substance = 1.0 - weights.short * np.exp(-turns.lengths / weights.short_words)
    total = own + weights.beside * beside + weights.further * further + weights.session * session
    total /= 1.0 + weights.beside + weights.further + weights.session
    parts = {
        "fused": own,
        "meaning": similarity,
        "words": matches,
        "speaker": speaker,
        "time": time,
        "beside": beside,
        "further": further,
        "session": session,
        "telling": telling,
        "substance": substance,
    }
    return total * telling * substance, parts


def held(asked: Asked, turns: Turns) -> tuple[list[str], Floats]:
    """The words to look for, and (n,) the share of them that each turn holds."""
    names, _ = _speakers(asked.query, turns.speaker)
    terms = _without(names, asked.words)
    owner = np.repeat(np.arange(len(turns.lengths)), turns.lengths)
    count = np.zeros(len(turns.lengths))
    for number in terms.values():
        count[owner[turns.words == number]] += 1.0
    return list(terms), count / max(1, len(terms))


def _without(names: frozenset[str], words: Mapping[str, int]) -> Mapping[str, int]:
    """A name that speakers bear says who, not what: it is no word to look for, unless it is all there is."""
    return {word: number for word, number in words.items() if word not in names} or words


def _reciprocal(scores: Floats) -> Floats:
    """1 / (60 + rank) of the rows listed, 0 of the others; of equal scores the first listed ranks first."""
    listed = np.flatnonzero(~np.isnan(scores))
    ranks = np.zeros_like(scores)
    ranks[listed[np.argsort(-scores[listed], kind="stable")]] = 1.0 / (RRF_K + 1.0 + np.arange(len(listed)))
    return ranks


def _share(similarity: Floats, top: float) -> Floats:
    """(n,) similarity by the best; a row the arm did not list is at most as near as the last one listed."""
    listed = similarity[~np.isnan(similarity)]
    if not listed.size or top <= 0:
        return np.zeros_like(similarity)
    return np.maximum(np.where(np.isnan(similarity), listed.min(), similarity), 0.0) / top


def _matches(terms: Iterable[int], turns: Turns, weights: TurnWeights) -> Floats:
    """(n,) BM25 over the rows, with their own statistics, the best 1 (Robertson and Zaragoza 2009).

    Of a turn with more than WORDS_READ words the keyword arm has seen the rest: what it says counts, if that is more.
    """
    n = len(turns.lengths)
    owner = np.repeat(np.arange(n), turns.lengths)
    mean = max(1.0, float(turns.lengths.mean())) if n else 1.0
    damping = weights.saturation * (1.0 - weights.length + weights.length * turns.lengths / mean)
    total = np.zeros(n)
    for term in terms:
        count = np.bincount(owner[turns.words == term], minlength=n)
        frequency = int(np.count_nonzero(count))
        if frequency:
            rarity = np.log(1.0 + (n - frequency + 0.5) / (frequency + 0.5))
            total += rarity * count / np.maximum(count + damping, 1e-9)
    matches = _of_best(total)
    cut = turns.lengths >= WORDS_READ
    return np.where(cut, np.maximum(matches, _of_best(np.nan_to_num(turns.keyword))), matches) if cut.any() else matches


def _of_best(scores: Floats) -> Floats:
    best = float(scores.max(initial=0.0))
    return scores / best if best > 0 else np.zeros_like(scores)


def _nearness(times: Sequence[TimeRange], said: Floats, weights: TurnWeights) -> Floats:
    """(n,) 1 where the turn is of a time the question names, less the farther it is from every one of them."""
    if not times:
        return np.ones_like(said)
    days_off = seconds_off(times, said) / _SECONDS_A_DAY
    return 1.0 - weights.other_time * (1.0 - np.exp(-days_off / weights.days))


def _speakers(query: str, speakers: Sequence[str | None]) -> tuple[frozenset[str], Floats]:
    """The words of the speakers' names in the query, and 1 for rows of another speaker than the only one it names.

    A question that has capitals writes names with one: "will" is not Will.
    """
    whole = fold(query)
    cased = query != query.lower()
    parts = {fold(word) for word in _WORD.findall(query) if not cased or not word.islower()}
    named = {name for name in set(speakers) if name and _names(name, whole, parts)}
    others = np.zeros(len(speakers))
    if len(named) == 1:
        others[:] = [speaker is not None and speaker not in named for speaker in speakers]
    return frozenset(word for name in named for word in words(name)), others


def _names(name: str, query: str, parts: set[str]) -> bool:
    folded = fold(name)
    if not folded.isascii() and folded in query:  # names in scripts that write no spaces
        return True
    return any(len(part) > 1 and part in parts for part in _WORD.findall(folded))


def _surroundings(own: Floats, turns: Turns, weights: TurnWeights) -> tuple[Floats, Floats]:
    """(n,) and (n,): the better of the turns one away, and of those two away."""
    beside, further = np.zeros_like(own), np.zeros_like(own)
    later = np.flatnonzero(turns.before >= 0)
    earlier = turns.before[later]
    beside[later] = own[earlier] * (1.0 + weights.answer * turns.question_share[earlier])
    np.maximum.at(beside, earlier, own[later])
    second = turns.before[earlier]
    later, second = later[second >= 0], second[second >= 0]
    further[later] = own[second]
    np.maximum.at(further, second, own[later])
    return beside, further
