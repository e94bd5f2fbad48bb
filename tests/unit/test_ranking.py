"""The arithmetic of ranking that needs no database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memground.errors import InvalidInputError
from neuromem.ranking import RankingProfile, TurnWeights, top_with_best


@given(st.integers(0, 40), st.integers(8, 50), st.sets(st.integers(0, 45), max_size=8))
def test_no_arms_best_is_cut_off(count: int, limit: int, best: set[int]) -> None:
    ranked = list(range(count))
    chosen = top_with_best(ranked, limit, lambda item: item, sorted(best))
    assert len(chosen) == min(limit, count)
    assert chosen == sorted(set(chosen))
    assert set(chosen) >= best & set(ranked)
    # Nothing else moves: what is neither best nor displaced is the head of the ranking.
    others = [item for item in chosen if item not in best]
    assert others == [item for item in ranked if item not in best][: len(others)]


@given(st.integers(0, 20), st.integers(1, 7), st.sets(st.integers(0, 20), max_size=4))
def test_a_short_answer_is_the_head_of_the_ranking(count: int, limit: int, best: set[int]) -> None:
    ranked = list(range(count))
    assert top_with_best(ranked, limit, lambda item: item, sorted(best)) == ranked[:limit]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"vector_weight": -0.1}, "vector_weight=-0.1 is not accepted; pass 0 or more"),
        ({"turns": None}, "turns=None is not accepted"),
        ({"keyword_weight": float("inf")}, "keyword_weight=inf"),
        ({"recency_floor": 1.1}, r"recency_floor=1\.1 is not accepted; pass 0 to 1"),
        ({"ended": -1}, "ended=-1"),
        ({"decay_rate": 0}, "decay_rate=0 is not accepted; pass days above 0"),
        ({"candidates": 0}, "candidates=0 is not accepted; pass 1 to 10,000"),
        ({"fusion": "sum"}, "fusion='sum'"),
    ],
)
def test_a_profile_checks_its_values(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        RankingProfile(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"session": float("nan")}, "session=nan is not accepted; pass 0 or more"),
        ({"beside": -1}, "beside=-1"),
        ({"short": 1.5}, r"short=1\.5 is not accepted; pass 0 to 1"),
        ({"days": 0}, "days=0 is not accepted; pass a number above 0"),
    ],
)
def test_weights_of_turns_are_checked(values: dict[str, float], complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        TurnWeights(**values)


def test_the_seeds_profile_is_the_bare_product() -> None:
    seed = RankingProfile.seed()
    assert seed.fusion == "rrf"
    assert (seed.recency_floor, seed.importance_floor, seed.ended) == (0, 0, 1)
    assert seed.decay_rate == 30
