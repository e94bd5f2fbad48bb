"""Random lives: whatever came of a message, and whatever happened to that since, goes with it; nothing else does."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import OpenMind
from memground.clock import ManualClock
from neuromem import Episode, Fact, HygieneRules, NeuroMemory, Triple
from neuromem.providers.llm import CallbackLLM
from neuromem.providers.local_storage import LocalStorage
from support import law, law_digest, law_files
from support.embeddings import HashEmbedding
from support.markers import places
from support.reflecting_model import answer

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


# ---------------------------------------------------------------- as if it had never been


def without(acts: list[law.Act], name: str) -> list[law.Act]:
    """The acts but for those of a file."""
    files = {"file", "file past", "file change", "unfile"}
    return [act for act in acts if act.kind not in files or law_files.NAMES[act.pick % len(law_files.NAMES)] != name]


@pytest.mark.parametrize("seed", range(2))
async def test_after_a_file_is_erased_every_moment_is_as_if_it_had_never_been(open_mind: OpenMind, seed: int) -> None:
    clock = ManualClock(law.START)
    mind = await open_mind(
        embedding=HashEmbedding(32), llm=law_digest.model(law.WORDS), clock=clock, auto_extract=False
    )
    steps = law.random_steps(seed, 40)
    more = [replace(step, kind="file", pick=number) for number, step in enumerate(law.random_steps(seed + 100, 4))]
    acts = law.plan([*steps[:20], *more, *steps[20:]])
    whole = await law.live(mind, clock, acts)
    rng = random.Random(seed)
    gone = rng.sample(sorted(name for name in law_files.NAMES if name in whole.ids), 2)
    left = whole.done
    for name in gone:
        left = without(left, name)
    other = await law.live(mind, clock, left)
    assert not other.refused
    other.learns = whole.learns
    await mind.wait_idle(60)
    clock.set(whole.end)
    for name in gone:
        document = whole.ids.pop(name)
        receipt = await mind.erase_document(whole.user, document)
        assert receipt.complete
        assert await places(mind, [document]) == set()
    for moment in [*rng.sample(law.moments(acts), 4), whole.end]:
        clock.set(whole.end)
        found = [await law.answers(mind.as_of(moment), life, other.memories, moment) for life in (whole, other)]
        assert not (differences := law.differences(*found)), f"as of {moment}\n{differences}"


@pytest.mark.parametrize("seed", range(2))
async def test_lives_with_files_and_digests_keep_no_mark_of_what_is_erased(
    open_mind: OpenMind, user: str, tmp_path: Path, seed: int
) -> None:
    """Everything that was said or stored is erased, one thing after the other, with digests and rollbacks between."""
    clock, rng = ManualClock(START), random.Random(seed)
    storage = LocalStorage(tmp_path / "objects")
    llm = CallbackLLM(_reflect, model="scripted")
    mind = await open_mind(
        embedding=HashEmbedding(), llm=llm, storage=storage, clock=clock, background=False, auto_extract=False
    )
    life = Life(mind, clock, user, seed)
    things: dict[tuple[str, str], str] = {}

    async def remember() -> None:
        mark = f"mark{rng.randrange(10**9)}y"
        felt = {"emotion": {"valence": rng.uniform(-1, 1), "arousal": 0.5, "label": mark}} if rng.random() < 0.6 else {}
        said = f"{mark} {rng.choice(['#tea', '#rain'])}"
        memory = await mind.add_memory(user, said, memory_type="fact", metadata=felt)
        things["memory", memory.memory_id] = mark

    async def store() -> None:
        mark = f"mark{rng.randrange(10**9)}z"
        said = f"{mark} is read. ".encode() * rng.choice([3, 200])
        document = await mind.files.upload(user, f"{mark}.txt", said, tags=[mark])
        things["document", document.document_id] = mark

    async def digest() -> None:
        await mind.digest(user, limit=rng.choice([1, 3, 50]))

    acts = [remember, remember, store, digest, life.say, life.change, life.forget, life.go_back, life.take_back]
    for _ in range(20):
        clock.advance(timedelta(hours=rng.randrange(1, 24)))
        await rng.choice(acts)()
    await remember()
    things |= {("message", key): mark for key, mark in life.messages.items()}
    order = sorted(things)
    rng.shuffle(order)
    for number, (what, key) in enumerate(order):
        clock.advance(timedelta(hours=1))
        receipt = await getattr(mind, f"erase_{what}")(user, key)
        assert receipt.complete
        assert await places(mind, [things[what, key], key], tmp_path) == set()
        if rng.random() < 0.3:
            await digest()
        if rng.random() < 0.2:
            await life.go_back()
        kept = {things[other] for other in order[number + 1 :]}
        shown = {place.rpartition(" ")[2] for place in await places(mind, kept, tmp_path)}
        assert shown == kept
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    left = await mind.list_memories(user, limit=1_000)
    assert [memory.content for memory in left.items if memory.content not in SHARED] == []


async def _reflect(messages: list[dict[str, Any]]) -> str:
    return answer({"messages": messages})
