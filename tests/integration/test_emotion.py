"""Three layers of emotion: on each memory, of the last two weeks, over time; at any moment, and never personality."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memground.clock import ManualClock
from neuromem import DominantEmotion, EmotionTrigger, InvalidInputError, NeuroMemory, NewMemory
from neuromem.providers.llm import OpenAILLM
from support.embeddings import HashEmbedding
from support.openai_server import OpenAIServer
from support.reflecting_model import answer, answering, blocks_of, purpose

type OpenMind = Callable[..., Awaitable[NeuroMemory]]

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


@pytest.fixture
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(chat=answer) as models:
        yield models


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def mind(open_mind: OpenMind, models: OpenAIServer, clock: ManualClock) -> NeuroMemory:
    llm = OpenAILLM(models.key, base_url=models.base_url, max_retries=0)
    return await open_mind(embedding=HashEmbedding(64), llm=llm, clock=clock, background=False)


async def feel(
    mind: NeuroMemory, days_ago: float, valence: Any, arousal: Any = None, label: Any = None, text: str = "…"
) -> str:
    """A memory of something felt so many days ago."""
    emotion = {"valence": valence, "arousal": arousal, "label": label}
    known = {name: value for name, value in emotion.items() if value is not None}
    at = NOW - timedelta(days=days_ago)
    memory = NewMemory(f"{text} {days_ago}", "episodic", {"emotion": known}, valid_from=at)
    (added,) = await mind.add_memories("anna", [memory])
    return added.memory_id


@pytest.mark.seed("10.1", "meso: the recent state, of one to two weeks, in emotion_profiles.latest_state")
@pytest.mark.seed("10.1", "macro: long-term, valence_avg and dominant_emotions among emotion_profiles")
async def test_numbers_are_means_of_all_and_of_the_last_two_weeks(mind: NeuroMemory) -> None:
    await feel(mind, 1, -0.6, 0.8, "Fear")
    await feel(mind, 13.9, 0.2, 0.4, "joy")
    await feel(mind, 14, 1.0, 1.0, "joy ")
    await feel(mind, 400, 0.4)
    await mind.add_memory("anna", "without emotion")
    found = await mind.emotion_profile("anna")
    assert (found.annotated, found.recent) == (4, 2)
    assert found.valence_avg == pytest.approx(0.25)
    assert found.arousal_avg == pytest.approx(0.55)
    assert found.latest_state_valence == pytest.approx(-0.2)
    assert found.latest_state_arousal == pytest.approx(0.6)
    assert found.dominant_emotions == (DominantEmotion("joy", 2, 2 / 3), DominantEmotion("fear", 1, 1 / 3))
    assert (found.latest_state, found.emotion_triggers, found.latest_state_updated_at) == (None, (), None)


async def test_what_is_no_emotion_counts_as_none(mind: NeuroMemory) -> None:
    """Metadata may hold anything; what lies outside the scale is moved to its end."""
    for wrong in ("high", None, True, [1], {"x": 1}):
        await mind.add_memory("anna", f"wrong {wrong}", metadata={"emotion": {"valence": wrong}})
    for emotion in ("sad", ["sad"], None, 5):
        await mind.add_memory("anna", f"no emotion {emotion}", metadata={"emotion": emotion})
    assert (await mind.emotion_profile("anna")).annotated == 0
    assert (await mind.digest("anna")).emotion is None
    await feel(mind, 1, 9, "much", 5)
    await feel(mind, 2, -7.5, 12, "  ")
    found = await mind.emotion_profile("anna")
    assert (found.valence_avg, found.arousal_avg, found.dominant_emotions) == (0.0, 0.5, ())
    done = await mind.digest("anna")
    assert done.emotion is not None
    assert done.emotion.annotated == 2


async def test_nobody_has_an_empty_profile(mind: NeuroMemory, user: str) -> None:
    found = await mind.emotion_profile(user)
    assert (found.user_id, found.annotated, found.valence_avg, found.latest_state_valence) == (user, 0, None, None)
    assert await mind.emotion_timeline(user) == []


@pytest.mark.seed("10.1", "latest_state is updated by digest()")
@pytest.mark.seed("7.4", "_update_emotion_profile gives the model instructions and the emotions of recent memories")
@pytest.mark.seed("7.4", "emotion_profiles is updated")
async def test_a_digest_finds_the_words(mind: NeuroMemory, models: OpenAIServer) -> None:
    lately = await feel(mind, 3, -0.5, 0.7, "fear", "the interview")
    long_ago = await feel(mind, 300, 0.8, 0.9, "joy", "the wedding")
    done = await mind.digest("anna")
    found = await mind.emotion_profile("anna")
    assert done.emotion == found
    assert found.latest_state == "Lately felt fear"
    assert found.latest_state_updated_at == NOW
    assert found.emotion_triggers == (
        EmotionTrigger("what brings fear", "fear"),
        EmotionTrigger("what brings joy", "joy"),
    )
    assert {source.id for source in found.sources} == {lately, long_ago}
    shown = blocks_of(models.calls[-1].body)["emotions"]
    assert shown == [
        {
            "time": "2026-03-27 12:00 Friday",
            "recent": True,
            "text": "the interview 3",
            "valence": -0.5,
            "arousal": 0.7,
            "label": "fear",
        },
        {
            "time": "2025-06-03 12:00 Tuesday",
            "recent": False,
            "text": "the wedding 300",
            "valence": 0.8,
            "arousal": 0.9,
            "label": "joy",
        },
    ]
    async with mind._db.read() as session:
        row = (await session.execute(session.tables.emotion_profiles.table.select())).mappings().one()
    assert (row["latest_state_valence"], row["valence_avg"]) == (-0.5, pytest.approx(0.15))
    assert row["dominant_emotions"] == [label.to_dict() for label in found.dominant_emotions]


async def test_numbers_move_on_words_stay_until_the_next_digest(mind: NeuroMemory, clock: ManualClock) -> None:
    await feel(mind, 3, -0.5, 0.7, "fear")
    await mind.digest("anna")
    clock.advance(timedelta(days=12))
    later = await mind.emotion_profile("anna")
    assert (later.recent, later.latest_state_valence) == (0, None)
    assert (later.latest_state, later.latest_state_updated_at) == ("Lately felt fear", NOW)
    assert (later.annotated, later.valence_avg) == (1, -0.5)


async def test_the_profile_of_any_moment(mind: NeuroMemory, clock: ManualClock) -> None:
    """Numbers are of what was known then, as of then; words are those there were."""
    await feel(mind, 1, -0.5, 0.7, "fear")
    await mind.digest("anna")
    clock.advance(timedelta(days=30))
    key = await feel(mind, -29, 0.9, 0.3, "joy")
    await mind.digest("anna")
    clock.advance(timedelta(hours=1))
    await mind.delete_memory("anna", key)
    then = await mind.emotion_profile("anna", as_of=NOW + timedelta(hours=1))
    assert (then.latest_state, then.latest_state_valence, then.valence_avg) == ("Lately felt fear", -0.5, -0.5)
    assert then == await mind.as_of(NOW + timedelta(hours=1)).emotion_profile("anna")
    second = await mind.emotion_profile("anna", as_of=NOW + timedelta(days=30))
    assert (second.latest_state, second.latest_state_valence) == ("Lately felt joy", 0.9)
    assert second.valence_avg == pytest.approx(0.2)
    now = await mind.emotion_profile("anna")
    assert (now.latest_state_valence, now.valence_avg) == (None, -0.5)
    before = await mind.emotion_profile("anna", as_of=NOW - timedelta(days=1))
    assert (before.annotated, before.latest_state) == (0, None)


async def test_without_news_of_emotions_the_second_call_is_saved(
    mind: NeuroMemory, models: OpenAIServer, clock: ManualClock
) -> None:
    await feel(mind, 3, -0.5, 0.7, "fear")
    first = await mind.digest("anna")
    clock.advance(timedelta(days=1))
    await mind.add_memory("anna", "Bought a boat")
    models.chat = answering(emotion={"latest_state": "something else"})
    done = await mind.digest("anna")
    assert (first.llm_calls, done.llm_calls) == (2, 1)
    assert [purpose(call.body) for call in models.calls] == ["digest", "emotion", "digest"]
    assert done.emotion is not None
    assert done.emotion.latest_state == "Lately felt fear"


async def test_words_no_longer_rest_on_what_the_next_digest_did_not_read(mind: NeuroMemory, clock: ManualClock) -> None:
    old = await feel(mind, 3, -0.5, 0.7, "fear")
    await mind.digest("anna", limit=1)
    clock.advance(timedelta(days=1))
    new = await feel(mind, 0, 0.5, 0.7, "joy")
    await mind.digest("anna", limit=1)
    assert [source.id for source in (await mind.emotion_profile("anna")).sources] == [new]
    assert [source.id for source in (await mind.emotion_profile("anna", as_of=NOW)).sources] == [old]


@pytest.mark.seed("10.3", "personality (Big Five) is not inferred", "values are not inferred")
@pytest.mark.seed("10.3", "the profile records only emotions that were expressed")
async def test_what_infers_personality_or_values_is_dropped_and_counted(
    mind: NeuroMemory, models: OpenAIServer
) -> None:
    await feel(mind, 1, -0.5, 0.7, "fear")
    models.chat = answering(
        digest={"insights": [{"content": "The user is an INTJ", "confidence": 1}]},
        emotion={
            "latest_state": "Has a neurotic personality, high in neuroticism",
            "emotion_triggers": [
                {"trigger": "exams", "emotion": "fear"},
                {"trigger": "her core values being hurt", "emotion": "anger"},
                {"trigger": "her introversion", "emotion": "shame"},
                {"trigger": "", "emotion": "x"},
                "deadlines",
                5,
            ],
        },
    )
    done = await mind.digest("anna")
    assert done.insights == ()
    assert done.emotion is not None
    assert done.emotion.latest_state is None
    assert [trigger.trigger for trigger in done.emotion.emotion_triggers] == ["exams", "deadlines"]
    dropped = {(item.kind, item.reason): item.count for item in done.dropped}
    assert dropped == {
        ("insight", "personality"): 1, ("emotion", "personality"): 2, ("emotion", "values"): 1,
        ("emotion", "unusable"): 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"latest_state": None, "emotion_triggers": []}, None),
        ({"latest_state": "none"}, None),
        ({"profile": {"Latest_State": "tense"}}, "tense"),
        ([{"latest_state": ["tense"], "emotion_triggers": "exams"}], None),
    ],
)
async def test_words_are_read_however_they_come(
    mind: NeuroMemory, models: OpenAIServer, said: Any, state: str | None
) -> None:
    await feel(mind, 1, -0.5)
    models.chat = answering(emotion=said)
    done = await mind.digest("anna")
    assert done.emotion is not None
    assert done.emotion.latest_state == state


async def test_emotions_by_week(mind: NeuroMemory) -> None:
    await feel(mind, 0, 0.5, 0.5)
    await feel(mind, 7, -0.5, 0.1)
    await feel(mind, 8, -1.0, 0.3)
    weeks = await mind.emotion_timeline("anna")
    assert [(week.start.date().isoformat(), week.valence, week.count) for week in weeks] == [
        ("2026-03-16", -1.0, 1),
        ("2026-03-23", -0.5, 1),
        ("2026-03-30", 0.5, 1),
    ]
    assert [week.end - week.start for week in weeks] == [timedelta(days=7)] * 3
    (month,) = await mind.emotion_timeline("anna", granularity="month", end=NOW - timedelta(days=1))
    assert (month.valence, month.arousal, month.count) == (-0.75, pytest.approx(0.2), 2)
    here = await mind.emotion_timeline("anna", granularity="day", timezone="Asia/Shanghai", start=NOW)
    assert here[0].start.isoformat() == "2026-03-29T16:00:00+00:00"
    with pytest.raises(InvalidInputError, match="granularity"):
        await mind.emotion_timeline("anna", granularity="hour")  # type: ignore[arg-type]


@pytest.mark.seed("10.1", "micro: metadata.emotion of a memory has valence, arousal and a label, noted by extraction")
async def test_extraction_notes_what_was_felt(mind: NeuroMemory) -> None:
    emotion = {"valence": -0.6, "arousal": 0.8, "label": "nervous"}
    await mind.apply_extraction("anna", facts=[{"content": "Was nervous at the interview", "emotion": emotion}])
    (memory,) = (await mind.list_memories("anna")).items
    assert memory.metadata["emotion"] == emotion
    assert (await mind.emotion_profile("anna")).latest_state_valence == -0.6
