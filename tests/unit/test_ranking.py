"""The arithmetic of ranking that needs no database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memground.errors import InvalidInputError
from neuromem.ranking import Arms, RankingProfile, top_with_best

profile = RankingProfile(vector_weight=0.6, keyword_weight=0.4)


def test_fused_by_hand() -> None:
    arms = Arms(vector={"a": 0.8, "b": 0.6, "c": 0.4}, keyword={"b": 10.0, "d": 5.0})
    assert arms.fused(profile, vector_top=0.8, keyword_top=20.0) == pytest.approx(
        {
            "a": 0.6 * 1.0,
            "b": 0.6 * 0.75 + 0.4 * 0.5,
            "c": 0.6 * 0.5,
            "d": 0.6 * 0.5 + 0.4 * 0.25,  # not listed by the vectors: at most as near as the last one listed
        }
    )
    assert arms.vector_floor == 0.4


def test_fused_of_one_arm_of_none_and_of_opposite_vectors() -> None:
    assert Arms({}, {"a": 3.0}).fused(profile, vector_top=0.0, keyword_top=3.0) == {"a": 0.4}
    assert Arms({"a": 0.5}, {}).fused(profile, vector_top=0.5, keyword_top=0.0) == {"a": 0.6}
    assert Arms({}, {}).fused(profile, vector_top=0.0, keyword_top=0.0) == {}
    opposite = Arms({"a": 0.5, "b": -0.5}, {"c": 1.0}).fused(profile, vector_top=0.5, keyword_top=1.0)
    assert opposite == {"a": 0.6, "b": 0.0, "c": 0.4}


@given(
    st.dictionaries(st.integers(0, 30), st.floats(-1, 1)),
    st.dictionaries(st.integers(0, 30), st.floats(0, 50)),
)
def test_fused_is_the_union_within_bounds(vector: dict[int, float], keyword: dict[int, float]) -> None:
    tops = {"vector_top": max(vector.values(), default=0.0), "keyword_top": max(keyword.values(), default=0.0)}
    fused = Arms(vector, keyword).fused(profile, **tops)
    assert fused.keys() == vector.keys() | keyword.keys()
    assert all(0.0 <= score <= 1.0 + 1e-12 for score in fused.values())


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
        ({"session": float("nan")}, "session=nan"),
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


def test_the_seeds_profile_is_the_bare_product() -> None:
    seed = RankingProfile.seed()
    assert seed.fusion == "rrf"
    assert (seed.recency_floor, seed.importance_floor, seed.ended, seed.neighbour, seed.session) == (0, 0, 1, 0, 0)
    assert seed.decay_rate == 30
