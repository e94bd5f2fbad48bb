"""What counts as told twice. Losing a memory is worse than keeping two."""

from datetime import UTC, datetime, timedelta

import pytest

from neuromem.extraction.hygiene import Statement, compare, merged
from neuromem.extraction.policy import HygieneRules

RULES = HygieneRules()
MAY = datetime(2024, 5, 1, tzinfo=UTC)


def verdict(new: str, old: str, similarity: float = 0.97) -> str:
    return compare(Statement(new), Statement(old), similarity, RULES)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("Lives in Porto", "lives in  porto"),
        ("Lives in Porto.", "lives in Porto"),
        ("Ｌives in Porto", "lives in Porto"),
        ("Anna really likes the tea", "Anna likes tea"),
        ("我喜欢喝茶。", "我喜欢喝茶"),
    ],
)
def test_the_same_words_say_the_same_whatever_the_vectors(new: str, old: str) -> None:
    assert verdict(new, old, similarity=0.0) == "same"


@pytest.mark.parametrize(
    ("poor", "rich"),
    [
        ("lives in Porto", "Lives in Porto, near the river"),
        ("Anna likes Bob", "Anna likes Bob and Carla"),
        ("她住在波尔图", "她住在波尔图的河边"),
    ],
)
def test_more_detail_is_richer_and_less_is_the_same(poor: str, rich: str) -> None:
    assert verdict(rich, poor) == "richer"
    assert verdict(poor, rich) == "same"
    assert verdict(rich, poor, similarity=0.94) == verdict(poor, rich, similarity=0.94) == "different"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I have 2 cats", "I have 3 cats"),
        ("I have two cats", "I have three cats"),
        ("likes tea", "does not like tea"),
        ("Anna likes tea", "Anna likes tea no longer"),
        ("lives in Porto", "lives in Porto until May"),
        ("lives in Porto", "lived in Porto"),
        ("Anna likes Bob", "Bob likes Anna"),
        ("likes tea", "Bob likes tea"),
        ("Anna moved to Porto", "Anna's brother moved to Porto"),
        ("meets the design team every Monday at noon", "meets the design team every Tuesday at noon"),
        ("knows C", "knows C++"),
        ("it was 5 degrees", "it was -5 degrees"),
        ("she loves tea", "he loves tea"),
        ("我有2只猫", "我有3只猫"),
        ("我喜欢茶", "我不喜欢茶"),
        ("我住在波尔图", "我住在波尔图，但不久"),
        ("!!!", "???"),
    ],
)
def test_what_differs_in_a_number_a_name_a_day_or_a_negation_is_kept(one: str, other: str) -> None:
    assert verdict(one, other, similarity=1.0) == verdict(other, one, similarity=1.0) == "different"


def test_what_is_true_again_is_news() -> None:
    ended = Statement("works at Acme", MAY, MAY + timedelta(days=90))
    assert compare(Statement("works at Acme"), ended, 1.0, RULES) == "different"
    assert compare(ended, ended, 1.0, RULES) == "same"
    assert compare(ended, Statement("works at Acme", MAY), 1.0, RULES) == "same"


def test_an_event_told_with_another_day_is_another_event() -> None:
    def run(at: datetime | None) -> Statement:
        return Statement("ran a marathon", at, event=True)

    assert compare(run(MAY), run(MAY + timedelta(days=30)), 1.0, RULES) == "different"
    assert compare(run(MAY), run(MAY + timedelta(hours=3)), 1.0, RULES) == "same"
    assert compare(run(None), run(MAY), 1.0, RULES) == "same"


def test_metadata_of_two_tellings() -> None:
    old = {"category": "home", "confidence": 0.6, "entities": ["Anna"], "emotion": {"valence": 1}}
    new = {"category": "place", "confidence": 0.9, "entities": ["Porto", "Anna"], "topic": "x"}
    assert merged(old, new) == {
        "category": "home",
        "confidence": 0.9,
        "entities": ["Anna", "Porto"],
        "emotion": {"valence": 1},
        "topic": "x",
    }
    assert merged({}, {}) == {}
