"""Memories by when they are about: in questions, in ranges, recently, along a timeline; each as of any moment."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from conftest import OpenMind
from memground.clock import ManualClock
from neuromem import Memory, MergedHit, NeuroMemory, NewMemory, NewMessage, RankingProfile
from support.embeddings import HashEmbedding

NOW = datetime(2026, 11, 21, 14, tzinfo=UTC)
SHANGHAI, NEW_YORK = ZoneInfo("Asia/Shanghai"), ZoneInfo("America/New_York")


def at(*parts: int, zone: Any = UTC) -> datetime:
    return datetime(*parts, tzinfo=zone)  # type: ignore[arg-type, misc]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def mind(open_mind: OpenMind, clock: ManualClock) -> NeuroMemory:
    return await open_mind(embedding=HashEmbedding(32), clock=clock, background=False)


def contents(memories: list[Memory]) -> list[str]:
    return [memory.content for memory in memories]


async def add(mind: NeuroMemory, user: str, **when: datetime) -> None:
    """Memories that say the same but for a word, each of its time."""
    await mind.add_memories(
        user, [NewMemory(f"trip {name}", valid_from=t, memory_type="episodic") for name, t in when.items()]
    )


async def first(mind: NeuroMemory, user: str, query: str, **options: Any) -> MergedHit:
    return (await mind.recall(user, query, explain=True, **options)).merged[0]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("trip last May", "may"),
        ("trip in the summer of 2024", "summer"),
        ("trip three years ago", "old"),
        ("三年前的 trip", "old"),
        ("去年十二月的 trip", "winter"),
        ("trip yesterday", "yesterday"),
        ("昨天的 trip", "yesterday"),
        ("trip before 2024", "old"),
        ("trip between November and December 2025", "winter"),
        ("trip on Christmas", "winter"),
    ],
)
async def test_what_is_of_the_time_asked_about_comes_first(
    mind: NeuroMemory, user: str, query: str, wanted: str
) -> None:
    times = {
        "old": at(2023, 8, 3), "summer": at(2024, 7, 15), "winter": at(2025, 12, 25, 20), "may": at(2026, 5, 9),
        "autumn": at(2026, 10, 3), "yesterday": at(2026, 11, 20, 9),
    }  # fmt: skip
    await add(mind, user, **times)
    hit = await first(mind, user, query)
    assert hit.content == f"trip {wanted}"
    assert hit.explanation is not None
    assert hit.explanation.parts["time"] == 1.0
    assert any(note.startswith("of the time asked about: ") for note in hit.explanation.notes)
    # Nothing is lost: the others are lower, not gone.
    found = await mind.search(user, query, explain=True)
    assert len(found) == len(times)
    assert found[0].memory.content == f"trip {wanted}"
    for other in found:
        assert other.explanation is not None
        assert math.prod(other.explanation.parts.values()) == pytest.approx(other.score, rel=1e-9)


async def test_turns_of_the_time_asked_about_come_first(open_mind: OpenMind, user: str, clock: ManualClock) -> None:
    mind = await open_mind(embedding=HashEmbedding(32), clock=clock)
    for session, day in (("a", at(2023, 8, 3)), ("b", at(2026, 5, 9)), ("c", at(2026, 10, 3))):
        said = [NewMessage("user", f"I made a trip, said in {session}", timestamp=day)]
        await mind.conversations.add_messages_batch(user, said, session_id=session)
    await mind.wait_idle(timeout=30)
    for query, wanted in (("which trip was last May?", "b"), ("三年前的 trip", "a"), ("a trip last month", "c")):
        hit = await first(mind, user, query)
        assert hit.content.endswith(wanted)
        assert hit.explanation is not None
        assert hit.explanation.notes[-1].startswith("of the time asked about: ")


async def test_the_score_is_the_docstrings(mind: NeuroMemory, user: str) -> None:
    """Distances in days, by hand; a validity without an end goes on, an episode does not."""
    new = {
        "during": NewMemory("a", valid_from=at(2023, 5, 9)),
        "ten days after": NewMemory("b", valid_from=at(2023, 6, 11), memory_type="episodic"),
        "ended five days before": NewMemory("c", valid_from=at(2022, 1, 1), valid_to=at(2023, 4, 26)),
        "held": NewMemory("d", valid_from=at(2022, 1, 1), valid_to=at(2024, 1, 1)),
        "holds still": NewMemory("e", valid_from=at(2022, 1, 1), memory_type="fact"),
        "happened": NewMemory("f", valid_from=at(2022, 1, 1), memory_type="episodic"),
        "known only": NewMemory("g", known_at=at(2023, 5, 31, 23)),
    }  # fmt: skip
    await mind.add_memories(user, list(new.values()))
    query, profile = "a b c d e f g in May 2023", RankingProfile()
    hits = await mind.search(user, query, explain=True)
    times = {hit.memory.content: hit.explanation.parts["time"] for hit in hits if hit.explanation}

    def expected(days: float) -> float:
        return 1 - profile.other_time * (1 - math.exp(-days / profile.time_days))

    far = (at(2023, 5, 1) - at(2022, 1, 1)).days
    off = {"a": 0, "b": 10, "c": 5, "d": 0, "e": 0, "f": far, "g": 0}
    assert times == pytest.approx({content: expected(days) for content, days in off.items()})
    # What was true then is not held against it; what was over by then is.
    ended = {hit.memory.content: hit.explanation.parts["ended"] for hit in hits if hit.explanation}
    assert (ended["c"], ended["d"]) == (0.5, 1.0)
    assert "time" not in {
        part for hit in await mind.search(user, "a b", explain=True) for part in hit.explanation.parts
    }  # type: ignore[union-attr]


async def test_a_month_without_a_year_is_that_of_any(mind: NeuroMemory, user: str) -> None:
    await add(mind, user, a=at(1999, 5, 31, 23), b=at(2024, 5, 1), c=at(2026, 6, 2), d=at(2026, 4, 29), e=at(2, 5, 5))
    hits = await mind.search(user, "trip in May", explain=True)
    off = {
        hit.memory.content[-1]: -RankingProfile().time_days
        * math.log(1 - (1 - hit.explanation.parts["time"]) / RankingProfile().other_time)
        for hit in hits
        if hit.explanation
    }
    assert off == pytest.approx({"a": 0, "b": 0, "c": 1, "d": 2, "e": 0}, abs=1e-6)
    winter = {hit.memory.content[-1]: hit for hit in await mind.search(user, "trip in the winter", explain=True)}
    assert len(winter) == 5
    january = await mind.add_memory(user, "trip f", valid_from=at(2020, 1, 7), memory_type="episodic")
    found = await mind.search(user, "trip in the winter", explain=True)
    assert next(hit for hit in found if hit.memory.memory_id == january.memory_id).explanation.parts["time"] == 1.0  # type: ignore[union-attr]


async def test_the_seeds_profile_knows_no_time(open_mind: OpenMind, user: str, clock: ManualClock) -> None:
    mind = await open_mind(embedding=HashEmbedding(32), clock=clock, background=False, ranking=RankingProfile.seed())
    await add(mind, user, a=at(2026, 5, 9), b=at(2026, 11, 1))
    hits = await mind.search(user, "trip last May", explain=True)
    assert [hit.explanation.parts["time"] for hit in hits if hit.explanation] == [1.0, 1.0]


async def test_a_question_asked_in_the_past_means_its_own_yesterday(
    mind: NeuroMemory, user: str, clock: ManualClock
) -> None:
    for day in (at(2026, 6, 9, 9), at(2026, 11, 20, 9)):
        clock.set(day)
        await mind.add_memory(user, f"trip of {day.date()}")
    clock.set(NOW)
    assert (await first(mind, user, "trip yesterday")).content == "trip of 2026-11-20"
    assert (await first(mind, user, "trip yesterday", as_of=at(2026, 6, 10, 9))).content == "trip of 2026-06-09"
    assert (await mind.as_of(at(2026, 6, 10, 9)).search(user, "trip yesterday", explain=True))[0].explanation.parts[
        "time"
    ] == 1.0  # type: ignore[union-attr]


async def test_a_day_belongs_to_the_place(open_mind: OpenMind, user: str, clock: ManualClock) -> None:
    """Late in the evening there it is the next day in UTC."""
    late = at(2026, 11, 19, 23, 30, zone=NEW_YORK)
    mind = await open_mind(embedding=HashEmbedding(32), clock=clock, background=False, timezone="America/New_York")
    await add(mind, user, late=late, next=at(2026, 11, 20, 12, zone=NEW_YORK))
    query = "trip the day before yesterday"
    assert (await first(mind, user, query)).content == "trip late"
    assert (await mind.search(user, query))[0].memory.content == "trip late"
    assert (await mind.as_of(NOW).search(user, query))[0].memory.content == "trip late"
    async with mind.transaction() as tx:
        assert (await tx.search(user, query))[0].memory.content == "trip late"
    # In UTC it was said on the 20th, which is yesterday.
    hits = await mind.search(user, "trip yesterday", timezone="UTC", explain=True)
    assert [hit.explanation.parts["time"] for hit in hits if hit.explanation] == [1.0, 1.0]
    for timezone, days in (
        (None, ["2026-11-19", "2026-11-20"]),
        ("UTC", ["2026-11-20"]),
        ("Asia/Shanghai", ["2026-11-20", "2026-11-21"]),
    ):
        periods = await mind.memory_timeline(user, granularity="day", timezone=timezone)
        zone = NEW_YORK if timezone is None else ZoneInfo(timezone)
        assert [period.start.astimezone(zone).isoformat()[:16] for period in periods] == [
            f"{day}T00:00" for day in days
        ]
        assert [period.end.astimezone(zone) - period.start.astimezone(zone) for period in periods] == [
            timedelta(days=1)
        ] * len(days)


@pytest.mark.seed("6", "MemoryService: memories of a range of time", "TemporalService: filtering by ranges of time")
async def test_memories_of_a_range(mind: NeuroMemory, user: str) -> None:
    await add(
        mind, user, c=at(2026, 6, 1), a=at(2026, 5, 1), b=at(2026, 5, 31, 23, 59), d=at(9999, 12, 31), e=at(1, 1, 1)
    )
    await mind.add_memory(f"{user}-other", "trip of another", valid_from=at(2026, 5, 5))
    assert contents(await mind.get_memories_by_time_range(user, at(2026, 5, 1), at(2026, 6, 1))) == ["trip a", "trip b"]
    assert contents(await mind.get_memories_by_time_range(user, None, None)) == [f"trip {name}" for name in "eabcd"]
    assert contents(await mind.get_memories_by_time_range(user, at(2026, 6, 1), None)) == ["trip c", "trip d"]
    assert contents(await mind.get_memories_by_time_range(user, None, at(2026, 5, 2))) == ["trip e", "trip a"]
    assert contents(await mind.get_memories_by_time_range(user, None, None, limit=2)) == ["trip e", "trip a"]
    assert await mind.get_memories_by_time_range(user, None, None, memory_types=["fact"]) == []
    found = await mind.get_memories_by_time_range(user, None, None, where={"content": "trip b"})
    assert contents(found) == ["trip b"]


async def test_a_range_tells_where_memories_came_from(mind: NeuroMemory, user: str) -> None:
    said = await mind.ingest(user, "user", "I was in Porto")
    memory = await mind.add_memory(user, "was in Porto", sources=[said.message_id])
    (found,) = await mind.get_memories_by_time_range(user, None, None)
    assert found == memory
    assert [source.id for source in found.sources] == [said.message_id]


async def test_recent_memories(mind: NeuroMemory, user: str, clock: ManualClock) -> None:
    await add(
        mind, user, old=at(2026, 11, 14, 13), week=at(2026, 11, 14, 14), ahead=at(2026, 11, 22), day=at(2026, 11, 20)
    )
    now = await mind.add_memory(user, "trip now")
    assert now.event_at == NOW
    assert contents(await mind.get_recent_memories(user)) == ["trip now", "trip day", "trip week"]
    assert contents(await mind.get_recent_memories(user, days=1)) == ["trip now"]
    assert contents(await mind.get_recent_memories(user, days=30, limit=2)) == ["trip now", "trip day"]
    clock.set(at(2026, 11, 22, 1))
    assert contents(await mind.get_recent_memories(user, days=2)) == ["trip ahead", "trip now"]
    assert contents(await mind.as_of(NOW).get_recent_memories(user)) == ["trip now", "trip day", "trip week"]


@pytest.mark.seed("6", "MemoryService: a timeline")
async def test_a_timeline(mind: NeuroMemory, user: str) -> None:
    await add(mind, user, a=at(2025, 12, 29), b=at(2026, 1, 4, 23), c=at(2026, 1, 5), d=at(2026, 3, 1))
    await mind.add_memory(user, "likes tea", memory_type="fact", valid_from=at(2026, 1, 20))

    async def told(granularity: Any, **options: Any) -> list[tuple[str, str, dict[str, int]]]:
        periods = await mind.memory_timeline(user, granularity=granularity, **options)
        assert all(period.count == sum(period.by_type.values()) for period in periods)
        return [(f"{p.start.date()}", f"{p.end.date()}", dict(p.by_type)) for p in periods]

    assert await told("year") == [
        ("2025-01-01", "2026-01-01", {"episodic": 1}),
        ("2026-01-01", "2027-01-01", {"episodic": 3, "fact": 1}),
    ]
    assert await told("month") == [
        ("2025-12-01", "2026-01-01", {"episodic": 1}),
        ("2026-01-01", "2026-02-01", {"episodic": 2, "fact": 1}),
        ("2026-03-01", "2026-04-01", {"episodic": 1}),
    ]
    assert (await told("week"))[0] == ("2025-12-29", "2026-01-05", {"episodic": 2})
    assert (await told("day", memory_types=["fact"])) == [("2026-01-20", "2026-01-21", {"fact": 1})]
    assert await told("month", start=at(2026, 1, 5), end=at(2026, 1, 20)) == [
        ("2026-01-01", "2026-02-01", {"episodic": 1})
    ]
    assert [period.to_dict()["count"] for period in await mind.memory_timeline(user)] == [1, 3, 1]


async def test_a_timeline_reaches_the_ends_of_time(mind: NeuroMemory, user: str) -> None:
    await add(mind, user, first=at(1, 1, 1), last=at(9999, 12, 31, 23))
    for granularity in ("day", "week", "month", "year"):
        for timezone in ("UTC", "America/New_York", "Asia/Shanghai"):
            periods = await mind.memory_timeline(user, granularity=granularity, timezone=timezone)  # type: ignore[arg-type]
            assert [period.count for period in periods] == [1, 1]
            assert all(period.start < period.end for period in periods)


async def test_the_past_is_read_as_it_was(mind: NeuroMemory, user: str, clock: ManualClock) -> None:
    clock.set(at(2026, 5, 1))
    kept = await mind.add_memory(user, "trip to Oslo", valid_from=at(2026, 4, 1))
    await mind.add_memory(user, "trip to Rome", valid_from=at(2026, 4, 2))
    clock.set(at(2026, 6, 1))
    await mind.update_memory(user, kept.memory_id, content="trip to Porto", valid_from=at(2025, 4, 1))
    await mind.add_memory(user, "trip to Bern", valid_from=at(2026, 4, 3))
    then = mind.as_of(at(2026, 5, 2))
    april = (at(2026, 4, 1), at(2026, 5, 1))
    assert contents(await then.get_memories_by_time_range(user, *april)) == ["trip to Oslo", "trip to Rome"]
    assert contents(await mind.get_memories_by_time_range(user, *april)) == ["trip to Rome", "trip to Bern"]
    assert [period.count for period in await then.memory_timeline(user)] == [2]
    assert [period.count for period in await mind.memory_timeline(user)] == [1, 2]
    assert contents(await then.get_recent_memories(user, days=30)) == ["trip to Rome"]
