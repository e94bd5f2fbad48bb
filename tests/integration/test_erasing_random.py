"""Random lives: whatever came of a message, and whatever happened to that since, goes with it; nothing else does."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conftest import OpenMind
from memground.clock import ManualClock
from neuromem import Episode, Fact, HygieneRules, NeuroMemory, Triple
from support.embeddings import HashEmbedding
from support.markers import places

START = datetime(2024, 1, 1, tzinfo=UTC)
SHARED = ("tea is liked at home and at work", "rain falls on the old town in autumn")
NAMES, KEYS = ("anna", "ben", "porto"), ("city", "pet")


class Life:
    """What a user says and does. Each message has a mark of its own, which is in all that is made of it."""

    def __init__(self, mind: NeuroMemory, clock: ManualClock, user: str, seed: int) -> None:
        self.mind, self.clock, self.user = mind, clock, user
        self.rng = random.Random(seed)
        self.messages: dict[str, str] = {}
        self.origins: list[str] = []

    async def live(self, steps: int) -> None:
        acts = [self.say] * 5 + [self.change, self.forget, self.go_back, self.take_back, self.set, self.say_together]
        for _ in range(steps):
            self.clock.advance(timedelta(hours=self.rng.randrange(48)))
            await self.rng.choice(acts)()

    async def say(self) -> None:
        mark = f"mark{len(self.messages)}x"
        message = await self.mind.ingest(
            self.user, "user", f"{mark} said", session_id=f"s{self.rng.randrange(2)}", speaker=mark,
            metadata={mark: mark},
        )  # fmt: skip
        self.messages[message.message_id] = mark
        if self.rng.random() < 0.8:
            await self.learn([message.message_id], mark)

    async def say_together(self) -> None:
        """Something that several messages told, late."""
        chosen = self.rng.sample(sorted(self.messages), min(2, len(self.messages)))
        if chosen:
            await self.learn(chosen, " and ".join(self.messages[key] for key in chosen))

    async def learn(self, sources: list[str], mark: str) -> None:
        rng = self.rng
        shared = rng.choice(SHARED)
        facts = [Fact(f"{mark} is so", entities=(mark,)), Fact(shared), Fact(f"{shared} {mark}")]
        triples = [
            Triple(rng.choice(NAMES), "knows", mark),
            Triple(rng.choice(NAMES), "lives_in", rng.choice([mark, "porto"])),
            Triple(rng.choice(NAMES), "likes", "tea"),
        ]
        done = await self.mind.apply_extraction(
            self.user,
            facts=rng.sample(facts, rng.randrange(4)),
            episodes=[Episode(f"{mark} happened")] if rng.random() < 0.3 else [],
            triples=rng.sample(triples, rng.randrange(4)),
            profile_updates={rng.choice(KEYS): rng.choice([mark, {"in": [mark]}, None])},
            sources=sources,
            origin=rng.choice(["agent", "other"]),
        )
        self.origins.append(done.origin)

    async def change(self) -> None:
        if found := (await self.mind.list_memories(self.user)).items:
            memory = self.rng.choice(found)
            await self.mind.update_memory(self.user, memory.memory_id, content=f"{memory.content} indeed")

    async def forget(self) -> None:
        if found := (await self.mind.list_memories(self.user)).items:
            await self.mind.delete_memory(self.user, self.rng.choice(found).memory_id)

    async def go_back(self) -> None:
        past = self.clock.now() - timedelta(hours=self.rng.randrange(1, 96))
        self.origins.append((await self.mind.rollback(self.user, past)).origin)

    async def take_back(self) -> None:
        if self.origins:
            done = await self.mind.undo(self.user, origin=self.rng.choice(self.origins))
            self.origins.append(done.origin)

    async def set(self) -> None:
        await self.mind.kv.set("profile", self.user, self.rng.choice(KEYS), f"by hand {self.rng.randrange(9)}")


def of_hand(rows: list[Any]) -> list[Any]:
    return [value for value in rows if isinstance(value, str) and value.startswith("by hand")]


@pytest.mark.parametrize("seed", range(3))
async def test_each_message_takes_all_that_came_of_it_along(open_mind: OpenMind, user: str, seed: int) -> None:
    clock = ManualClock(START)
    rules = HygieneRules(near_duplicate=0.6)
    mind = await open_mind(embedding=HashEmbedding(), clock=clock, hygiene=rules, background=False)
    life = Life(mind, clock, user, seed)
    await life.live(25)
    other = Life(mind, clock, f"not-{user}", seed + 1_000)
    other.messages = {}
    await other.mind.ingest(other.user, "user", "somebody else")

    async def written_by_hand() -> list[Any]:
        found = [entry.value for key in KEYS for entry in await mind.kv.history("profile", user, key)]
        return sorted(of_hand(found))

    hand = await written_by_hand()
    order = sorted(life.messages)
    life.rng.shuffle(order)
    for number, message_id in enumerate(order):
        clock.advance(timedelta(minutes=1))
        expected = await mind.preview_erasure(user, message_id=message_id)
        receipt = await mind.erase_message(user, message_id)
        assert receipt.rows == expected.rows
        assert receipt.complete
        mark = life.messages[message_id]
        assert await places(mind, [mark, message_id]) == set()
        if number == len(order) // 2:
            await mind.purge_history(user, START + timedelta(hours=1))
            hand = await written_by_hand()
        kept = {life.messages[key] for key in order[number + 1 :]}
        assert {place.rpartition(" ")[2] for place in await places(mind, kept)} == kept
    assert await written_by_hand() == hand
    for view in (mind, mind.as_of(START + timedelta(days=10))):
        found = await view.list_memories(user)
        assert [memory.content for memory in found.items if memory.content not in SHARED] == []
        assert (await view.graph.list_nodes(user)).items == ()
    assert (await mind.list_memories(user)).items == ()
    assert len(await mind.conversations.get_session_messages(other.user)) == 1
