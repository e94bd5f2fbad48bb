"""What a turn's score is made of, checked on a few turns by hand."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memground.words import asked, keys, words
from neuromem.ranking import RankingProfile, TurnWeights
from neuromem.ranking.times import time_ranges
from neuromem.ranking.turns import WORDS_READ, Asked, Floats, Turns, held, score_turns

NOW = datetime(2024, 1, 10, 9, tzinfo=UTC)
PROFILE = RankingProfile()
PLAIN = replace(
    PROFILE,
    turns=TurnWeights(
        beside=0, further=0, session=0, answer=0, question=0, short=0, other_speaker=0, other_time=0, length=0
    ),
)


def turns(*texts: str, **given: Any) -> Turns:
    n = len(texts)
    rows = [keys("anna", words(text))[:WORDS_READ] for text in texts]
    values: dict[str, Any] = {
        "similarity": np.full(n, 0.5),
        "keyword": np.full(n, np.nan),
        "words": np.array([word for row in rows for word in row], dtype=np.int64),
        "lengths": np.array([len(row) for row in rows], dtype=np.int64),
        "before": np.full(n, -1),
        "session": np.zeros(n, dtype=np.intp),
        "question_share": np.zeros(n),
        "speaker": [None] * n,
        "said": np.full(n, datetime(2023, 5, 8, 12, tzinfo=UTC).timestamp()),
    }
    return Turns(**values | given)


def score(
    query: str, rows: Turns, profile: RankingProfile = PROFILE, *, top: float | None = None, share: float = 1.0
) -> tuple[Floats, dict[str, Floats]]:
    terms = asked(query)
    nearest = max((value for value in rows.similarity if not math.isnan(value)), default=0.0)
    return score_turns(
        Asked(query, dict(zip(terms, keys("anna", terms), strict=True)), time_ranges(query, NOW)),
        rows,
        profile,
        vector_top=nearest if top is None else top,
        keyword_share=share,
    )


def test_own_score_is_meaning_and_words_by_weight() -> None:
    rows = turns("red bicycle", "red car", similarity=np.array([0.4, 0.8]))
    scores, parts = score("bicycle", rows, PLAIN)
    assert parts["meaning"] == pytest.approx([0.5, 1.0])
    assert parts["words"] == pytest.approx([1.0, 0.0])
    assert scores == pytest.approx([0.55 * 0.5 + 0.45, 0.55])


def test_rare_words_weigh_more_and_repeating_saturates() -> None:
    rows = turns("red bicycle", "red car", "red red red red house", "green bicycle with red lights")
    words = score("red bicycle", rows, PLAIN)[1]["words"]
    assert words[0] == words[3] == 1.0
    assert words[1] < words[2] < 0.5


def test_what_no_arm_measured_has_the_least_measured() -> None:
    rows = turns("a", "b", "c", similarity=np.array([0.9, 0.3, np.nan]))
    assert score("z", rows, PLAIN)[1]["meaning"] == pytest.approx([1, 1 / 3, 1 / 3])
    nowhere = turns("bicycle", "car", similarity=np.full(2, np.nan))
    assert score("bicycle", nowhere, PLAIN)[0] == pytest.approx([0.45, 0])


def test_other_tops_scale_the_arms() -> None:
    _, parts = score("bicycle", turns("bicycle", "car"), PLAIN, top=1.0, share=0.25)
    assert parts["meaning"] == pytest.approx([0.5, 0.5])
    assert parts["words"] == pytest.approx([0.25, 0])


def test_the_words_of_a_cut_text_are_those_the_arm_found() -> None:
    rows = turns("filler " * WORDS_READ + "needle", "car", keyword=np.array([7.0, 0.0]))
    assert score("needle", rows, PLAIN)[1]["words"] == pytest.approx([1, 0])


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("What does Mara paint?", True),
        ("what does mara paint?", True),
        ("What do Mara and Bob paint?", False),
        ("What is marathon?", False),
        ("What did Marathon Inc. paint?", False),
    ],
)
def test_who_is_named_is_preferred(query: str, named: bool) -> None:
    rows = turns("I paint", "I paint", "I paint", speaker=["Mara Lee", "Bob", None])
    _, parts = score(query, rows)
    assert parts["speaker"] == pytest.approx([1, 0.85 if named else 1, 1])


def test_a_name_is_no_word_to_look_for() -> None:
    rows = turns("Mara, look at that", "I paint", speaker=["Bob", "Mara"])
    assert score("What does Mara paint?", rows)[1]["words"] == pytest.approx([0, 1])
    assert score("Mara?", rows)[1]["words"] == pytest.approx([1, 0])


def test_a_turn_holds_the_words_to_look_for_by_share() -> None:
    query, rows = (
        "Where does Wei live?",
        turns("I live in Porto", "Wei said so", "live and let live", speaker=["Wei"] * 3),
    )
    terms = asked(query)
    words_held, shares = held(Asked(query, dict(zip(terms, keys("anna", terms), strict=True))), rows)
    assert words_held == ["live"]  # whose turn it is says that it is about Wei
    assert list(shares) == [1.0, 0.0, 1.0]


def test_a_small_word_is_no_name_in_a_question_with_capitals() -> None:
    rows = turns("x", "x", speaker=["Will", "Ann"])
    assert score("What will he do?", rows)[1]["speaker"] == pytest.approx([1, 1])
    assert score("What does Will do?", rows)[1]["speaker"] == pytest.approx([1, 0.85])
    chinese = turns("x", "x", speaker=["小明", "小红"])
    assert score("小明喜欢什么？", chinese)[1]["speaker"] == pytest.approx([1, 0.85])


def test_turns_near_a_named_time_are_preferred() -> None:
    said = np.array(
        [datetime(2023, month, day, tzinfo=UTC).timestamp() for month, day in ((5, 8), (5, 19), (7, 1), (6, 1))]
    )
    rows = turns("x", "x", "x", "x", said=said)
    time = score("What was on 8 May?", rows)[1]["time"]
    assert time[:2] == pytest.approx([1, 1 - 0.4 * (1 - math.exp(-1))])
    assert time[2] < time[3] < time[1]
    assert score("What was in May 2023?", rows)[1]["time"][:2] == pytest.approx([1, 1])
    assert score("What was last May?", rows)[1]["time"][:2] == pytest.approx([1, 1])
    assert score("What was in May 1023?", rows)[1]["time"] == pytest.approx(np.full(4, 0.6))
    assert score("What was before June 2023?", rows)[1]["time"][[0, 1]] == pytest.approx([1, 1])


def test_surroundings() -> None:
    rows = turns(
        "bicycle", "car", "house", "tree",
        before=np.array([-1, 0, 1, -1]), session=np.array([0, 0, 0, 1]), question_share=np.array([1.0, 0, 0, 0]),
    )  # fmt: skip
    _, parts = score("bicycle", rows)
    best, other = 1.0, 0.55
    assert parts["beside"] == pytest.approx([other, 2 * best, other, 0])
    assert parts["further"] == pytest.approx([other, 0, best, 0])
    assert parts["session"] == pytest.approx([best, best, best, other])


def test_questions_and_short_turns_have_less() -> None:
    long = " ".join(f"word{i}" for i in range(60))
    rows = turns(long, long, "Wow!", question_share=np.array([0, 1.0, 0]))
    _, parts = score("zebra", rows)
    assert parts["telling"] == pytest.approx([1, 0.8, 1])
    assert parts["substance"] == pytest.approx([1, 1, 1 - 0.3 * math.exp(-0.2)], abs=1e-4)


def test_reciprocal_ranks_know_no_surroundings() -> None:
    rows = turns("a", "b", "c", similarity=np.array([0.9, np.nan, 0.3]), keyword=np.array([np.nan, 2.0, 1.0]))
    scores, parts = score("z", rows, RankingProfile.seed())
    assert scores == pytest.approx([1 / 61, 1 / 61, 1 / 62 + 1 / 62])
    assert list(parts) == ["fused"]


def test_nothing_to_score() -> None:
    scores, parts = score("anything in 2022", turns())
    assert scores.size == 0
    assert all(part.size == 0 for part in parts.values())


@given(st.text(max_size=60), st.lists(st.text(max_size=40), min_size=1, max_size=8), st.randoms())
def test_any_text_gives_finite_scores_whatever_the_order(query: str, texts: list[str], random: Any) -> None:
    n = len(texts)
    similarity = np.array([random.choice([random.uniform(-1, 1), math.nan]) for _ in texts])
    before = np.array([-1, *range(n - 1)])
    speaker = [random.choice([None, text]) for text in texts]
    given_ = {"similarity": similarity, "before": before, "speaker": speaker}
    scores, _ = score(query, turns(*texts, **given_))
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    order = random.sample(range(n), n)
    place = {old: new for new, old in enumerate(order)}
    moved = turns(
        *(texts[old] for old in order),
        similarity=similarity[order],
        before=np.array([place.get(int(before[old]), -1) for old in order]),
        speaker=[speaker[old] for old in order],
    )
    assert score(query, moved)[0] == pytest.approx(scores[order])
