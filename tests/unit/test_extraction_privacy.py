"""Rule 10.3: nobody's personality or values are inferred. What a model returns of the kind is dropped and counted."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from neuromem import Emotion, Fact, Triple
from neuromem.extraction.asking import Asked, Turn
from neuromem.extraction.items import Extracted, Extraction, ProfileUpdate
from neuromem.extraction.parsing import parse_extraction
from neuromem.extraction.privacy import inferred_in_label, inferred_in_text, without_inferences
from neuromem.types import Dropped

NOON = datetime(2024, 5, 17, 12, tzinfo=UTC)

PERSONALITY = [
    "Anna is an introvert",
    "Anna is quite extroverted",
    "Anna's MBTI type is INTJ",
    "Anna is INFP-T",
    "anna is an intj",
    "Anna is ＩＮＴＪ",
    "Anna's personality: curious and warm",
    "Anna has a very bubbly personality",
    "小林性格开朗",
    "她是INTJ",
    "Anna scores high in neuroticism",
    "Anna is very conscientious",
    "Big Five: openness 0.8",
    "Her big-five profile shows high agreeableness",
    "Anna is high in openness",
    "Anna has the personality type of a leader",
    "Her personality is warm",
    "Anna is an enneagram 4w5",
    "Anna's DISC profile is D",
    "OCEAN scores: 0.1 0.2",
    "Anna seems rather neurotic",
    "Anna has the character traits of a leader",
    "小林性格内向",
    "小林比较外向",
    "小林的性格特点是开朗",
    "大五人格得分：神经质较高",
    "小林的九型人格是四号",
    "小林属于MBTI中的ENFP",
]
VALUES = [
    "Anna values honesty above all",
    "Anna values her independence",
    "Family values matter to Anna",
    "Anna's core values are freedom and justice",
    "Her values align with the company's",
    "Anna's political orientation is left",
    "Anna is politically conservative",
    "Anna is probably liberal.",
    "Anna leans left-wing",
    "Anna's religious beliefs are strong",
    "小林的价值观偏传统",
    "小林的政治立场是自由派",
    "小林的宗教信仰是佛教",
    "小林重视家庭",
]
HARMLESS = [
    "The value of the house is 300,000 euros",
    "values: 3",
    "The sensor values were wrong",
    "Anna's blood values are fine",
    "The doctor said her values were back to normal",
    "Anna got good value for money",
    "Anna has a slipped disc",
    "Anna plays disc golf",
    "Anna bought a hard disc of type SSD",
    "Anna loves the ocean",
    "Anna swims in the ocean with five big friends",
    "Anna made a conservative estimate of the costs",
    "Anna is a liberal arts student",
    "Anna works for the Conservative Party",
    "Anna studies political science",
    "Anna's favourite character is Frodo",
    "Anna collects type 4 stamps",
    "The hotel has an agreeable smell",
    "Anna opened the box",
    "Anna went to church on Sunday",
    "Anna is open to a new job",
    "Anna read a book about personality",
    "Anna had lunch with a TV personality",
    "Anna studied personalities of the stage",
    "小林的房子价值三百万",
    "小林从国内向国外寄了包裹",
    "小林对外向客户介绍产品",
    "小林喜欢开放性问题",
    "小林养了五只大狗",
    "小林的人很多",
    "小林学习国际政治专业",
]


@pytest.mark.parametrize("text", PERSONALITY)
def test_personality_is_recognised(text: str) -> None:
    assert inferred_in_text(text) == "personality"


@pytest.mark.parametrize("text", VALUES)
def test_values_are_recognised(text: str) -> None:
    assert inferred_in_text(text) == "values"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_sounds_like_it_stays(text: str) -> None:
    assert inferred_in_text(text) is None


@pytest.mark.parametrize(
    ("label", "inferred"),
    [
        ("personality", "personality"),
        ("Personality type", "personality"),
        ("personalityTraits", "personality"),
        ("mbti_type", "personality"),
        ("big_five", "personality"),
        ("bigFive.openness", "personality"),
        ("disc", "personality"),
        ("ocean_scores", "personality"),
        ("character_traits", "personality"),
        ("has_personality_trait", "personality"),
        ("性格", "personality"),
        ("人格类型", "personality"),
        ("values", "values"),
        ("core-values", "values"),
        ("beliefs", "values"),
        ("political_orientation", "values"),
        ("religion", "values"),
        ("religious_affiliation", "values"),
        ("价值观", "values"),
        ("政治倾向", "values"),
        ("house_value", None),
        ("sensor_values", None),
        ("value", None),
        ("favorite_ocean", None),
        ("disc_golf_club", None),
        ("favorite_character", None),
        ("city", None),
        ("occupation", None),
        ("城市", None),
        ("性别", None),
    ],
)
def test_labels(label: str, inferred: str | None) -> None:
    assert inferred_in_label(label) == inferred


SAID = "Well, I'm an introvert, and an INTJ if you believe the test. My daughter moved to Porto."


def extract(answer: dict[str, Any], role: str = "user") -> Extraction:
    asked = Asked((Turn("m1", role, SAID, NOON, "Anna"),))
    return parse_extraction(json.dumps(answer), asked)


def test_a_model_that_returns_personality_and_values_is_not_believed() -> None:
    found = extract(
        {
            "facts": [
                {"content": "Anna's daughter lives in Porto"},
                {"content": "Anna is an introvert"},
                {"content": "Anna is very organised", "category": "Personality"},
                {"content": "Anna values honesty"},
            ],
            "episodes": [{"content": "Anna took the MBTI and got INTJ"}],
            "triples": [
                ["daughter", "lives_in", "Porto"],
                ["Anna", "has_personality", "warm"],
                ["Anna", "is", "INTJ"],
                ["Anna", "values", "honesty"],
                {"subject": "Anna", "relation": "is", "object": "curious", "object_type": "personality trait"},
            ],
            "profile_updates": {
                "name": "Anna",
                "mbti": "intj",
                "type": "INTJ",
                "about": {"big_five": {"openness": 0.9}},
                "notes": ["introvert"],
                "values": ["honesty"],
                "religion": "Buddhist",
            },
        }
    )
    assert [item.item.content for item in found.facts] == ["Anna's daughter lives in Porto"]
    assert found.episodes == ()
    assert [item.item.object for item in found.triples] == ["Porto"]
    assert [item.item for item in found.profile_updates] == [ProfileUpdate("name", "Anna")]
    assert set(found.dropped) == {
        Dropped("fact", "personality", 2),
        Dropped("fact", "values", 1),
        Dropped("episode", "personality", 1),
        Dropped("triple", "personality", 3),
        Dropped("triple", "values", 1),
        Dropped("profile", "personality", 4),
        Dropped("profile", "values", 2),
    }


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ('Anna said: "I\'m an introvert"', True),
        ("Anna said: “I'm an INTROVERT, and an INTJ”.", True),
        ("安娜说：「an INTJ if you believe the test」", True),
        ('Anna said: "I am an introvert"', False),
        ('Anna said: "I\'m an introvert", so she is an introvert', False),
        ("Anna said that I'm an introvert", False),
        ('Anna said: "moved to Porto". She is an introvert', False),
    ],
)
def test_a_quotation_of_the_user_may_stay_in_a_memory(content: str, kept: bool) -> None:
    found = extract({"facts": [{"content": content, "entities": ["Anna", "INTJ"]}]})
    assert [item.item.content for item in found.facts] == [content] * kept
    assert [item.item.entities for item in found.facts] == [("Anna",)] * kept


def test_what_the_assistant_said_of_the_user_is_no_quotation() -> None:
    found = extract({"facts": [{"content": 'It was said: "I\'m an introvert"'}]}, role="assistant")
    assert found.facts == ()


def test_a_feeling_is_no_place_for_it_either() -> None:
    felt = {"valence": 0.5, "arousal": 0.2, "label": "introvert"}
    (item,) = extract({"facts": [{"content": "Anna went home early", "emotion": felt}]}).facts
    assert item.item.emotion == Emotion(0.5, 0.2, None)


def test_a_quotation_never_enters_the_profile_or_the_graph() -> None:
    quoted = '"I\'m an introvert"'
    found = extract({"profile_updates": {"about_me": quoted}, "triples": [["Anna", "said", quoted]]})
    assert (found.profile_updates, found.triples) == ((), ())


def test_an_extraction_of_one_s_own_is_held_to_it_too() -> None:
    sources = ("m1",)
    found = Extraction(
        facts=(Extracted(Fact("Anna is an introvert"), sources), Extracted(Fact("Anna has a cat"), sources)),
        triples=(Extracted(Triple("Anna", "mbti_type", "x"), sources),),
        dropped=(Dropped("fact", "unusable", 1),),
    )
    clean = without_inferences(found)
    assert [item.item.content for item in clean.facts] == ["Anna has a cat"]
    assert clean.triples == ()
    assert clean.dropped == (
        Dropped("fact", "unusable", 1),
        Dropped("fact", "personality", 1),
        Dropped("triple", "personality", 1),
    )
