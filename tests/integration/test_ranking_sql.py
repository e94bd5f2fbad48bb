"""The score SQL computes is the one the formulas say, recomputed here by hand."""

import math
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from conftest import OpenMind
from memground.clock import ManualClock
from memground.view import View
from neuromem import Hit, Memory, NeuroMemory, NewMemory, RankingProfile
from neuromem.db import Database
from neuromem.queries.scope import Scope
from neuromem.services.search import SearchService
from support.embeddings import HashEmbedding

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
QUERY = "coffee in porto with the baker"
WORDS = ("coffee", "porto", "baker", "river", "train", "garden", "violin", "snow", "market", "letter")
HOSTILE: tuple[Any, ...] = (
    None, "angry", [], ["arousal"], {"arousal": "0.9"}, {"arousal": [1]}, {"arousal": 7}, {"arousal": -3},
    {"arousal": None}, {"arousal": True}, {"arousal": {}}, {"arousal": 2**62}, {"arousal": 1e-300}, {"Arousal": 1},
)  # fmt: skip
CALM = range(4, 12)
"""Entries of HOSTILE that hold an emotion.arousal, by place; those that are numbers are clamped."""
CLAMPED = {6: 1.0, 7: 0.0, 11: 1.0, 12: 1e-300}


class Gauss(HashEmbedding):
    """Directions at random, the same for the same text: no two texts are equally near."""

    def _vector(self, text: str) -> list[float]:
        vector = np.random.default_rng(list(text.encode())).standard_normal(self.dims)
        return (vector / np.linalg.norm(vector)).tolist()


@dataclass
class Ground:
    """A mind with memories of every age, weight and mood, and the services that read it."""

    mind: NeuroMemory
    database: Database
    embedding: HashEmbedding
    clock: ManualClock

    async def scored(
        self,
        user: str,
        profile: RankingProfile,
        vector: Sequence[float],
        *,
        limit: int = 1_000,
        view: View | None = None,
    ) -> tuple[list[Hit], list[uuid.UUID]]:
        """What the SQL says, and the keyword arm's rows in order."""
        async with self.database.read() as session:
            service = SearchService(session, self.embedding, profile)
            scope = Scope(user, view or View(now=self.clock.now()))
            keyword = await service.keyword_arm(scope, QUERY)
            found = await service.scored_search(scope, vector, keyword, limit=limit)
        return found.hits, [key for key, _ in keyword]


@pytest.fixture
async def ground(open_mind: OpenMind, database_url: str, schema: str) -> AsyncIterator[Ground]:
    embedding, clock = Gauss(32), ManualClock(NOW)
    mind = await open_mind(embedding=embedding, clock=clock, background=False)
    async with Database(database_url, dims=32, model_id=embedding.model_id, schema=schema, clock=clock) as database:
        yield Ground(mind, database, embedding, clock)


def emotion(place: int) -> dict[str, Any]:
    return {} if place >= len(HOSTILE) else {"emotion": HOSTILE[place]}


async def add_many(ground: Ground, user: str) -> list[Memory]:
    """Sixty memories; the first ones carry hostile emotions, the last ones lie at the ends of time."""
    chance = random.Random(5)
    new = [
        NewMemory(
            " ".join([f"memory {n}", *chance.sample(WORDS, 4)]),
            metadata=emotion(n) or {"emotion": {"arousal": round(chance.random(), 3), "valence": -1}},
            importance=chance.randint(1, 10),
            known_at=NOW - timedelta(days=chance.expovariate(1 / 60)),
        )
        for n in range(56)
    ]
    extremes = (
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1066, 10, 14, tzinfo=UTC),
        NOW + timedelta(days=400),
        datetime(9999, 12, 31, tzinfo=UTC),
    )
    new += [NewMemory(f"coffee in porto {start.year}", valid_from=start) for start in extremes]
    return await ground.mind.add_memories(user, new)


def arousal(memory: Memory) -> float:
    number = memory.metadata.get("emotion")
    number = number.get("arousal") if isinstance(number, dict) else None
    return (
        min(max(float(number), 0.0), 1.0) if isinstance(number, int | float) and not isinstance(number, bool) else 0.0
    )


def recency(memory: Memory, now: datetime = NOW) -> float:
    days = max(0.0, (now - memory.event_at) / timedelta(days=1))
    return math.exp(-days / (30.0 * (1.0 + 0.5 * arousal(memory))))


def similarities(ground: Ground, memories: Sequence[Memory], vector: Sequence[float]) -> dict[str, float]:
    """Cosines by record id, best first: what the vector arm must say."""
    stored, query = (
        np.array(numbers, dtype=np.float16).astype(np.float64)  # as the database keeps them
        for numbers in ([ground.embedding._vector(m.content) for m in memories], vector)
    )
    cosines = stored @ query / np.linalg.norm(stored, axis=1) / np.linalg.norm(query)
    scored = {m.record_id: float(cosine) for m, cosine in zip(memories, cosines, strict=True)}
    return dict(sorted(scored.items(), key=lambda item: -item[1]))


def elsewhere(ground: Ground, *texts: str) -> list[float]:
    """A vector equally near to texts, none of which need share a word with the query."""
    return np.sum([ground.embedding._vector(text) for text in texts or ("violin snow letter",)], axis=0).tolist()


async def test_arousal_is_read_with_distrust(ground: Ground, user: str) -> None:
    memories = await add_many(ground, user)
    assert [arousal(memory) for memory in memories[: len(HOSTILE)]] == [
        CLAMPED.get(place, 0.0) for place in range(len(HOSTILE))
    ]


@pytest.mark.seed("6", "SearchService ranks both arms by RRF")
@pytest.mark.seed("6.1", "memories are fused in SQL: RRF of both arms, recency, importance")
@pytest.mark.seed("10.2", "recency = e^(-t / (decay_rate × (1 + arousal × 0.5)))")
async def test_the_seeds_score_is_rrf_times_recency_times_importance(ground: Ground, user: str) -> None:
    memories = {m.record_id: m for m in await add_many(ground, user)}
    profile = RankingProfile.seed()
    vector = elsewhere(ground)
    hits, keyword = await ground.scored(user, profile, vector)
    near = list(similarities(ground, list(memories.values()), vector))
    words = [str(key) for key in keyword]
    assert set(near) == set(memories)
    assert 20 < len(words) < len(near)
    expected = {}
    for key, memory in memories.items():
        fused = 1 / (60 + 1 + near.index(key)) + (1 / (60 + 1 + words.index(key)) if key in words else 0.0)
        expected[key] = fused * recency(memory) * memory.importance / 10
    assert {hit.memory.record_id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert hit.explanation is not None
        assert hit.explanation.vector_rank == 1 + near.index(hit.memory.record_id)
        assert math.prod(hit.explanation.parts.values()) == pytest.approx(hit.score, rel=1e-12)


async def test_the_default_score_is_the_docstrings(ground: Ground, user: str) -> None:
    memories = {m.record_id: m for m in await add_many(ground, user)}
    profile = RankingProfile(candidates=15)
    vector = elsewhere(ground)
    hits, keyword = await ground.scored(user, profile, vector)
    truth = dict(list(similarities(ground, list(memories.values()), vector).items())[:15])
    explained = {hit.memory.record_id: hit.explanation for hit in hits if hit.explanation}
    near = {key: e.vector_score for key, e in explained.items() if e.vector_score is not None}
    words = {key: e.keyword_score for key, e in explained.items() if e.keyword_score is not None}
    assert near == pytest.approx(truth, abs=1e-6)  # the server adds in single precision
    assert set(words) == {str(key) for key in keyword}
    assert len(words) == len(near) == 15
    assert len(set(words) | set(near)) > 20
    expected = {}
    for key in set(near) | set(words):
        fused = 0.55 * near.get(key, min(near.values())) / max(near.values())
        fused += 0.45 * words.get(key, 0.0) / max(words.values())
        age, weight = recency(memories[key]), memories[key].importance / 10
        expected[key] = fused * (0.9 + 0.1 * age) * (0.8 + 0.2 * weight)
    assert {hit.memory.record_id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-9)


async def test_what_only_one_arm_finds_is_there(ground: Ground, user: str) -> None:
    """An order number is found though its vector is far; a meaning is found though no word agrees."""
    for profile in (RankingProfile.seed(), RankingProfile()):
        owner = f"{user}-{profile.fusion}"
        await ground.mind.add_memories(owner, [f"violin snow letter number {n}" for n in range(40)])
        wanted = await ground.mind.add_memory(owner, "the baker")
        few = RankingProfile(**{**vars(profile), "candidates": 5})
        hits, _ = await ground.scored(owner, few, [-x for x in elsewhere(ground, "the baker")])
        notes = {hit.memory.record_id: hit.explanation.notes for hit in hits if hit.explanation}
        assert notes.pop(wanted.record_id) == ("found by its words only",)
        assert list(notes.values()) == [("found by its meaning only",)] * 5


async def test_either_arms_best_comes_beyond_the_limit(ground: Ground, user: str) -> None:
    await ground.mind.add_memories(
        user, [NewMemory(f"coffee {'porto ' * (n % 3)}{n}", importance=9) for n in range(30)]
    )
    faded = NOW - timedelta(days=3_000)
    await ground.mind.add_memory(user, "violin snow letter", importance=1, known_at=faded)
    await ground.mind.add_memory(user, QUERY, importance=1, known_at=faded)
    hits, _ = await ground.scored(user, RankingProfile.seed(), elsewhere(ground), limit=8)
    assert [hit.memory.content for hit in hits[8:]] in (
        [QUERY, "violin snow letter"],
        ["violin snow letter", QUERY],
    )
    found = await ground.mind.search(user, QUERY, limit=8, query_embedding=elsewhere(ground))
    assert len(found) == 8


@pytest.mark.seed("10.2", "what was felt strongly fades more slowly")
async def test_who_was_moved_remembers_longer(ground: Ground, user: str) -> None:
    then = NOW - timedelta(days=20)
    await ground.mind.add_memories(
        user,
        [
            NewMemory("coffee with the baker", known_at=then, metadata={"emotion": {"arousal": arousal}})
            for arousal in (0.1, 0.9, 0.5)
        ],
    )
    for profile in (RankingProfile.seed(), RankingProfile()):
        hits, _ = await ground.scored(user, profile, elsewhere(ground, QUERY))
        assert [hit.memory.metadata["emotion"]["arousal"] for hit in hits] == [0.9, 0.5, 0.1]


async def test_what_is_over_ranks_lower_and_says_so(ground: Ground, user: str) -> None:
    end = NOW - timedelta(days=10)
    over, lasting = await ground.mind.add_memories(
        user,
        [
            NewMemory("coffee with the baker in porto", known_at=NOW - timedelta(days=40), valid_to=end),
            NewMemory("coffee with the baker", known_at=NOW - timedelta(days=40), valid_to=NOW + timedelta(days=1)),
        ],
    )

    async def ranked(**arguments: Any) -> list[Hit]:
        vector = elsewhere(ground, over.content, lasting.content)
        return await ground.mind.search(user, QUERY, query_embedding=vector, explain=True, **arguments)

    hits = await ranked()
    assert [hit.memory.memory_id for hit in hits] == [lasting.memory_id, over.memory_id]
    explained = hits[1].explanation
    assert explained is not None
    assert explained.parts["ended"] == 0.5
    assert "no longer true since 2026-05-22" in explained.notes
    assert hits[0].explanation is not None
    assert hits[0].explanation.parts["ended"] == 1.0
    # Before its end nothing was over; and who asks about a moment gets what was true then, at full weight.
    for arguments in ({"as_of": end - timedelta(days=1)}, {"valid_at": end - timedelta(days=1)}):
        hits = await ranked(**arguments)
        assert [hit.memory.memory_id for hit in hits] == [over.memory_id, lasting.memory_id]
        assert [hit.explanation.parts["ended"] for hit in hits if hit.explanation] == [1.0, 1.0]
    assert [hit.memory.memory_id for hit in await ranked(valid_at=end)] == [lasting.memory_id]  # half-open
    ground.clock.set(end)  # at the very moment of its end it is over
    assert [hit.explanation.parts["ended"] for hit in await ranked() if hit.explanation] == [1.0, 0.5]


async def test_the_ends_of_time_do_not_overflow(ground: Ground, user: str) -> None:
    await add_many(ground, user)
    for profile in (
        RankingProfile.seed(),
        RankingProfile(),
        RankingProfile(decay_rate=1e-300),
        RankingProfile(decay_rate=1e300),
    ):
        hits, _ = await ground.scored(user, profile, elsewhere(ground, QUERY))
        assert all(math.isfinite(hit.score) and hit.score >= 0 for hit in hits)
        parts = [hit.explanation.parts for hit in hits if hit.explanation]
        assert all(0.0 <= part <= 1.0 for part in (p["recency"] for p in parts))
        future = [hit for hit in hits if hit.memory.event_at > NOW]
        assert len(future) == 2
        assert all(hit.explanation.parts["recency"] == 1.0 for hit in future if hit.explanation)


async def test_age_is_counted_from_the_moment_of_the_view(ground: Ground, user: str) -> None:
    memory = await ground.mind.add_memory(user, "coffee", known_at=NOW - timedelta(days=60))
    then = NOW - timedelta(days=30)
    hits, _ = await ground.scored(
        user, RankingProfile.seed(), elsewhere(ground, QUERY), view=View(now=then, known_at=then)
    )
    assert hits[0].score == pytest.approx(2 / 61 * math.exp(-1) * 0.5, rel=1e-9)
    assert hits[0].memory.memory_id == memory.memory_id


async def test_a_vector_that_points_away_scores_nothing_and_not_less(ground: Ground, user: str) -> None:
    await ground.mind.add_memories(user, ["coffee in porto", "violin"])
    away = [-x for x in elsewhere(ground, "coffee in porto", "violin")]
    hits, _ = await ground.scored(user, RankingProfile(), away)
    assert {hit.memory.content: hit.score for hit in hits} == pytest.approx(
        {"coffee in porto": 0.45 * 0.9, "violin": 0.0}
    )


async def test_messages_and_memories_share_one_scale(open_mind: OpenMind, user: str) -> None:
    """With ranks fused instead of scores, too: else every turn would stand above every memory."""
    mind = await open_mind(embedding=HashEmbedding(32), ranking=RankingProfile.seed())
    await mind.add_memory(user, "coffee in porto with the baker", importance=10)
    await mind.ingest(user, "user", "the baker has a garden")
    await mind.wait_idle(timeout=30)
    found = await mind.recall(user, QUERY, explain=True)
    assert [hit.source for hit in found.merged] == ["vector", "conversation"]
    said = found.conversation_results[0]
    assert said.score == pytest.approx(2 / 61 * 0.5, rel=1e-6)
