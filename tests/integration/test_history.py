"""Going back, taking back and comparing: what a user can do with the past, told as small stories."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from memground.clock import ManualClock
from neuromem import ConflictError, Diff, InvalidInputError, MessageHit, NeuroMemory, NewMessage, NotFoundError, Source
from support.embeddings import HashEmbedding


class Minutes(ManualClock):
    """Stands still until told to go on."""

    def later(self, minutes: float = 1) -> datetime:
        """Lets time pass; returns the new moment."""
        self.advance(timedelta(minutes=minutes))
        return self.now()


@pytest.fixture(scope="module")
def clock() -> Minutes:
    return Minutes(datetime(2024, 5, 1, 12, tzinfo=UTC))


@pytest.fixture(scope="module")
async def mind(database_url: str, clock: Minutes) -> AsyncIterator[NeuroMemory]:
    async with NeuroMemory(database_url, HashEmbedding(32), schema="history", clock=clock) as mind:
        yield mind


async def contents(mind: NeuroMemory, user: str, as_of: datetime | None = None) -> set[str]:
    view = mind if as_of is None else mind.as_of(as_of)
    return {memory.content for memory in (await view.list_memories(user)).items}


async def said(mind: NeuroMemory, user: str, query: str, as_of: datetime | None = None) -> dict[str, MessageHit]:
    """The messages recall finds, by content, each with its explanation."""
    await mind.wait_idle(timeout=30)
    found = await mind.recall(user, query, limit=100, as_of=as_of, explain=True)
    return {hit.message.content: hit for hit in found.conversation_results}


def ranks(hit: MessageHit) -> tuple[bool, bool]:
    """Whether the vector arm and the keyword arm found it themselves."""
    assert hit.explanation is not None
    return hit.explanation.vector_rank is not None, hit.explanation.keyword_rank is not None


# ---------------------------------------------------------------- one memory


async def test_a_b_a_ends_at_a_and_b_stays_in_between(mind: NeuroMemory, clock: Minutes, user: str) -> None:
    memory = await mind.add_memory(user, "lives in Oslo")
    clock.later()
    await mind.update_memory(user, memory.memory_id, content="lives in Porto")
    between = clock.later()
    clock.later()
    await mind.update_memory(user, memory.memory_id, content="lives in Oslo")
    await mind.update_memory(user, memory.memory_id, content="lives in Oslo")  # nothing new

    versions = await mind.history(user, memory.memory_id)
    assert [version.content for version in versions] == ["lives in Oslo", "lives in Porto", "lives in Oslo"]
    assert versions[0].known_to is None
    assert versions[1].known_to == versions[0].known_from
    assert await contents(mind, user, between) == {"lives in Porto"}
    (hit,) = await mind.search(user, "where", as_of=between)
    assert (hit.memory.content, hit.memory.known_to) == ("lives in Porto", None)
    assert len(await mind.as_of(between).history(user, memory.memory_id)) == 2


async def test_a_deleted_memory_stays_in_the_past_and_can_be_brought_back(
    mind: NeuroMemory, clock: Minutes, user: str
) -> None:
    message = await mind.ingest(user, "user", "I live in Porto")
    source = Source("message", message.message_id, {"from": 2})
    memory = await mind.add_memory(user, "lives in Porto", sources=[source])
    there = clock.now()
    clock.later()
    await mind.delete_memory(user, memory.memory_id)
    assert await mind.get_memory(user, memory.memory_id) is None
    with pytest.raises(NotFoundError):
        await mind.update_memory(user, memory.memory_id, content="lives in Oslo")
    past = await mind.as_of(there).get_memory(user, memory.memory_id)
    assert past is not None
    assert past.sources == (source,)

    clock.later()
    back = await mind.revert(user, memory.memory_id, memory.version)
    assert (back.content, back.sources, back.created_at) == ("lives in Porto", (source,), memory.created_at)
    assert back.version > memory.version
    assert len(await mind.history(user, memory.memory_id)) == 2
    assert (await mind.revert(user, memory.memory_id, memory.version)).version == back.version  # already so


async def test_a_correction_can_be_dated_back_but_not_before_what_it_corrects(
    mind: NeuroMemory, clock: Minutes, user: str
) -> None:
    memory = await mind.add_memory(user, "born in May")
    told = clock.later()
    clock.later()
    corrected = await mind.update_memory(user, memory.memory_id, content="born in June", known_at=told)
    assert (corrected.known_from, corrected.recorded_at) == (told, clock.now())
    assert await contents(mind, user, told) == {"born in June"}
    assert await contents(mind, user, told - timedelta(microseconds=1)) == {"born in May"}
    with pytest.raises(InvalidInputError, match="before the current version"):
        await mind.update_memory(user, memory.memory_id, content="born in July", known_at=memory.known_from)


async def test_a_memory_is_not_known_before_what_it_came_from(mind: NeuroMemory, clock: Minutes, user: str) -> None:
    start = clock.now()
    message = await mind.ingest(user, "user", "I live in Porto", timestamp=clock.later())
    clock.later()
    memory = await mind.add_memory(user, "lives in Porto", known_at=start, sources=[message.message_id])
    assert memory.known_from == memory.event_at == message.known_from
    assert await contents(mind, user, start) == set()


async def test_many_can_change_one_memory_at_once(mind: NeuroMemory, user: str) -> None:
    memory = await mind.add_memory(user, "likes tea")
    changes = (mind.update_memory(user, memory.memory_id, content=f"likes tea no. {n}") for n in range(24))
    await asyncio.gather(*changes)
    versions = await mind.history(user, memory.memory_id)
    assert len({version.content for version in versions}) == len(versions) == 25
    assert [version.known_to is None for version in versions] == [True] + [False] * 24


# ---------------------------------------------------------------- key-values


async def test_a_key_lives_on_through_its_deletion(mind: NeuroMemory, clock: Minutes, user: str) -> None:
    await mind.kv.set("profile", user, "pet", True)
    there = clock.now()
    clock.later()
    assert await mind.kv.delete("profile", user, "pet")
    assert not await mind.kv.delete("profile", user, "pet")
    gone = clock.now()
    clock.later()
    await mind.kv.set("profile", user, "pet", 1)
    await mind.kv.set("profile", user, "pet", True)  # for JSON, true is not 1
    profiles = [(await mind.recall(user, "pet", as_of=moment)).user_profile for moment in (there, gone, None)]
    assert profiles == [{"pet": True}, {}, {"pet": True}]
    assert [entry.value for entry in await mind.kv.history("profile", user, "pet")] == [True, 1, True]
    assert await mind.as_of(gone).kv.get("profile", user, "pet", "none") == "none"


async def test_setting_and_deleting_a_key_at_once_loses_nothing(mind: NeuroMemory, user: str) -> None:
    """Every delete that says it ended an entry did; what is left is what the last writer left."""
    await mind.kv.set("notes", user, "n", 0)
    sets = [mind.kv.set("notes", user, "n", number) for number in range(1, 13)]
    deletes = [mind.kv.delete("notes", user, "n") for _ in range(12)]
    done = await asyncio.gather(*(act for pair in zip(sets, deletes, strict=True) for act in pair))
    versions = await mind.kv.history("notes", user, "n")
    assert len(versions) == 13
    assert await mind.kv.get("notes", user, "n") == (versions[0].value if versions[0].known_to is None else None)
    assert sum(entry is True for entry in done) >= 1


# ---------------------------------------------------------------- rollback


async def test_a_rollback_and_the_undo_of_it(mind: NeuroMemory, clock: Minutes, user: str) -> None:
    kept = await mind.add_memory(user, "likes tea")
    changed = await mind.add_memory(user, "lives in Oslo")
    deleted = await mind.add_memory(user, "has a boat")
    await mind.kv.set("profile", user, "city", "Oslo")
    await mind.ingest(user, "user", "hello from Oslo", external_id="m1")
    good = clock.now()
    clock.later()
    await mind.update_memory(user, changed.memory_id, content="lives in Porto")
    await mind.delete_memory(user, deleted.memory_id)
    await mind.add_memory(user, "likes rain")
    await mind.kv.set("profile", user, "city", "Porto")
    await mind.kv.set("profile", user, "pet", "Rex")
    await mind.ingest(user, "user", "hello from Porto", external_id="m2")
    bad = clock.now()
    clock.later()

    reversal = await mind.rollback(user, good)
    assert reversal.restored == {"memory": 2, "kv": 1}
    assert reversal.ended == {"memory": 1, "kv": 1, "message": 1}
    assert await contents(mind, user) == {"likes tea", "lives in Oslo", "has a boat"}
    assert (await mind.recall(user, "city")).user_profile == {"city": "Oslo"}
    assert set(await said(mind, user, "hello")) == {"hello from Oslo"}
    assert [s.message_count for s in await mind.conversations.list_sessions(user)] == [1]
    assert await contents(mind, user, bad) == {"likes tea", "lives in Porto", "likes rain"}
    assert (await mind.get_memory(user, kept.memory_id)) == kept  # what had not changed has no new version
    assert (await mind.rollback(user, good)).restored == {}

    clock.later()
    undone = await mind.undo(user, origin=reversal.origin)
    assert (undone.restored, undone.ended) == (
        {"memory": 2, "kv": 2, "message": 1},
        {"memory": 1},
    )
    assert await contents(mind, user) == {"likes tea", "lives in Porto", "likes rain"}
    assert (await mind.recall(user, "city")).user_profile == {"city": "Porto", "pet": "Rex"}
    assert set(await said(mind, user, "hello")) == {"hello from Oslo", "hello from Porto"}


async def test_messages_taken_back_before_they_had_vectors_are_still_found_in_the_past(
    open_mind, clock: Minutes, user: str
) -> None:
    lazy = await open_mind(embedding=HashEmbedding(32), clock=clock, background=False)
    before = clock.now()
    clock.later()
    await lazy.ingest(user, "user", "the boat is red")
    there = clock.now()
    clock.later()
    reversal = await lazy.rollback(user, before)
    clock.later()
    await lazy.undo(user, origin=reversal.origin)
    again = clock.now()
    clock.later()
    await lazy.rollback(user, before)

    mind = await open_mind(embedding=HashEmbedding(32), clock=clock)
    assert await said(mind, user, "red boat") == {}
    for moment in (there, again):
        (hit,) = (await said(mind, user, "red boat", moment)).values()
        assert ranks(hit) == (True, True)


# ---------------------------------------------------------------- undo


async def test_undo_takes_back_one_writer_and_keeps_what_others_did_on_top(
    mind: NeuroMemory, clock: Minutes, user: str
) -> None:
    mine = await mind.add_memory(user, "likes tea", origin="agent")
    ended = await mind.add_memory(user, "has a boat", origin="agent")
    clock.later()
    message = await mind.ingest(user, "user", "imported words", origin="import")
    corrected = await mind.add_memory(user, "lives in Olso", origin="import", sources=[message.message_id])
    await mind.add_memory(user, "likes rain", origin="import")
    await mind.update_memory(user, mine.memory_id, content="hates tea", origin="import")
    await mind.delete_memory(user, ended.memory_id, origin="import")
    await mind.kv.set("profile", user, "city", "Olso", origin="import")
    clock.later()
    await mind.update_memory(user, corrected.memory_id, content="lives in Oslo", origin="agent")
    clock.later()

    await mind.undo(user, origin="import")
    assert await contents(mind, user) == {"likes tea", "has a boat", "lives in Oslo"}
    assert (await mind.recall(user, "city")).user_profile == {}
    assert await said(mind, user, "imported") == {}
    kept = await mind.get_memory(user, corrected.memory_id)
    assert kept is not None
    assert [source.id for source in kept.sources] == [message.message_id]  # a memory that stays says where it is from
    assert (await mind.undo(user, origin="import")).ended == {}
    assert await contents(mind, "somebody else") == set()


async def test_undo_what_was_recorded_since(mind: NeuroMemory, clock: Minutes, user: str) -> None:
    memory = await mind.add_memory(user, "born in May")
    told = clock.later()
    since = clock.later()
    await mind.update_memory(user, memory.memory_id, content="born in June", known_at=told)
    await mind.add_memory(user, "an old thing, told now", known_at=told)
    await mind.ingest(user, "user", "an old turn, imported now", timestamp=told)
    clock.later()

    await mind.undo(user, recorded_since=since)
    assert await contents(mind, user) == {"born in May"}
    assert await said(mind, user, "turn") == {}
    assert await contents(mind, user, clock.now() - timedelta(seconds=1)) == {"born in June", "an old thing, told now"}

    clock.later()
    await mind.add_memory(user, "by ann", origin="ann")
    await mind.add_memory(user, "by bob", origin="bob")
    await mind.undo(user, origin="bob", recorded_since=clock.now())
    assert await contents(mind, user) == {"born in May", "by ann"}


async def test_undone_messages_leave_recall_and_come_back_with_their_vectors(
    mind: NeuroMemory, clock: Minutes, user: str
) -> None:
    turns = [NewMessage("user", f"{word} harbour") for word in ("red", "green", "blue")]
    await mind.conversations.add_messages_batch(user, turns, session_id="s1", origin="import")
    await mind.ingest(user, "user", "yellow harbour", session_id="s1")
    there = clock.now()
    everything = {"red harbour", "green harbour", "blue harbour", "yellow harbour"}
    assert set(await said(mind, user, "harbour")) == everything
    clock.later()

    reversal = await mind.undo(user, origin="import")
    assert reversal.ended == {"message": 3}
    assert set(await said(mind, user, "harbour")) == set(await said(mind, user, "zzqx")) == {"yellow harbour"}
    assert set(await said(mind, user, "harbour", there)) == everything
    left = await mind.conversations.get_session_messages(user, "s1")
    assert [(message.content, message.seq) for message in left] == [("yellow harbour", 4)]

    clock.later()
    await mind.undo(user, origin=reversal.origin)
    assert (await mind.background_status(user)).waiting == 0  # nothing has to be embedded again
    found = await said(mind, user, "harbour")
    assert set(found) == everything
    assert {ranks(hit) for hit in found.values()} == {(True, True)}
    assert [m.seq for m in await mind.conversations.get_session_messages(user, "s1")] == [1, 2, 3, 4]


async def test_an_import_that_is_undone_and_done_again_is_there_once(
    mind: NeuroMemory, clock: Minutes, user: str
) -> None:
    def turns(text: str) -> list[NewMessage]:
        return [NewMessage("user", text, timestamp=told, external_id="m1")]

    told = clock.now()
    clock.later()
    await mind.conversations.add_messages_batch(user, turns("bad text"), origin="import 1")
    clock.later()
    undone = await mind.undo(user, origin="import 1")
    clock.later()
    (again,) = await mind.conversations.add_messages_batch(user, turns("good text"), origin="import 2")
    assert (again.timestamp, again.known_from) == (told, undone.at)
    clock.later()
    assert set(await said(mind, user, "text", told)) == {"bad text"}
    assert set(await said(mind, user, "text", undone.at)) == {"good text"}
    assert [s.message_count for s in await mind.as_of(told).conversations.list_sessions(user)] == [1]

    assert (await mind.undo(user, origin=undone.origin)).restored == {}  # its place is taken
    assert set(await said(mind, user, "text")) == {"good text"}
    clock.later()
    await mind.rollback(user, told)
    assert set(await said(mind, user, "text")) == {"bad text"}


# ---------------------------------------------------------------- diff


def told(diff: Diff) -> dict[str, list[tuple[str, object, object]]]:
    def words(value: object) -> object:
        return None if value is None else getattr(value, "content", None) or getattr(value, "value", None)

    parts = {"learned": diff.learned, "changed": diff.changed, "forgotten": diff.forgotten}
    return {
        name: sorted((change.kind, words(change.before), words(change.after)) for change in changes)
        for name, changes in parts.items()
    }


async def test_a_diff_says_what_was_learned_changed_and_forgotten(mind: NeuroMemory, clock: Minutes, user: str) -> None:
    changed = await mind.add_memory(user, "lives in Oslo")
    wavering = await mind.add_memory(user, "likes tea")
    forgotten = await mind.add_memory(user, "has a boat")
    await mind.kv.set("profile", user, "city", "Oslo")
    await mind.ingest(user, "user", "hello", origin="noise")
    t1 = clock.now()
    clock.later()
    await mind.update_memory(user, wavering.memory_id, content="hates tea")
    middle = clock.now()
    clock.later()
    await mind.update_memory(user, wavering.memory_id, content="likes tea")
    await mind.update_memory(user, changed.memory_id, content="lives in Porto")
    await mind.delete_memory(user, forgotten.memory_id)
    await mind.add_memory(user, "likes rain")
    await mind.kv.set("profile", user, "city", "Porto")
    await mind.ingest(user, "user", "goodbye")
    await mind.undo(user, origin="noise")
    t2 = clock.now()
    clock.later()

    assert told(await mind.diff(user, t1, t2)) == {
        "learned": [("memory", None, "likes rain"), ("message", None, "goodbye")],
        "changed": [("kv", "Oslo", "Porto"), ("memory", "lives in Oslo", "lives in Porto")],
        "forgotten": [("memory", "has a boat", None), ("message", "hello", None)],
    }
    only_middle = {"learned": [], "changed": [("memory", "likes tea", "hates tea")], "forgotten": []}
    assert told(await mind.diff(user, t1, middle)) == only_middle
    assert told(await mind.as_of(middle).diff(user, t1, t2)) == only_middle  # the past knows no later
    (change,) = (await mind.diff(user, t1, middle)).changed
    assert change.before is not None
    assert change.before.known_to is None  # as t1 saw it
    with pytest.raises(InvalidInputError, match="swap them"):
        await mind.diff(user, t2, t1)


async def test_a_view_of_the_past_cannot_be_asked_about_later(mind: NeuroMemory, clock: Minutes, user: str) -> None:
    t0 = clock.now()
    clock.later()
    await mind.add_memory(user, "likes rain")
    t1 = clock.later()
    clock.later()
    assert (await mind.as_of(t0).recall(user, "rain", as_of=t1)).merged == ()
    assert await mind.as_of(t0).search(user, "rain", as_of=t1) == []
    assert len(await mind.as_of(t1).search(user, "rain", as_of=clock.now())) == 1
    assert await mind.as_of(t1).search(user, "rain", as_of=t0) == []


# ---------------------------------------------------------------- transactions


async def test_a_transaction_is_all_or_nothing(mind: NeuroMemory, clock: Minutes, user: str) -> None:
    there = await mind.add_memory(user, "likes tea")
    await mind.kv.set("profile", user, "city", "Oslo")
    clock.later()

    async def fail_at_the_end() -> None:
        async with mind.transaction() as tx:
            message = await tx.ingest(user, "user", "hello")
            await tx.add_memory(user, "says hello", sources=[message.message_id])
            await tx.update_memory(user, there.memory_id, content="hates tea")
            await tx.kv.set("profile", user, "city", "Porto")
            await tx.undo(user, origin="agent")
            assert await tx.kv.get("profile", user, "city", "none") == "none"  # it sees itself,
            assert await mind.kv.get("profile", user, "city") == "Oslo"  # nobody else does
            await tx.delete_memory(user, message.message_id)  # not a memory

    with pytest.raises(NotFoundError):
        await fail_at_the_end()
    assert (await mind.background_status(user)).waiting == 0
    assert await mind.conversations.list_sessions(user) == []
    assert await mind.get_memory(user, there.memory_id) == there
    assert (await mind.recall(user, "hello")).user_profile == {"city": "Oslo"}
    assert await contents(mind, user) == {"likes tea"}

    async with mind.transaction() as tx:
        message = await tx.ingest(user, "user", "hello")
        await tx.add_memory(user, "says hello", sources=[message.message_id])
    assert await contents(mind, user) == {"likes tea", "says hello"}
    assert set(await said(mind, user, "hello")) == {"hello"}


async def test_transactions_that_wait_for_each_other_end_with_a_conflict(mind: NeuroMemory, user: str) -> None:
    both_have_written = asyncio.Barrier(2)

    async def write_and_take_back(origin: str) -> None:
        async with mind.transaction() as tx:
            await tx.add_memory(user, f"by {origin}", origin=origin)
            await both_have_written.wait()
            await tx.undo(user, origin="nobody")  # wants the user's memory to itself, which the other has, too

    done = await asyncio.gather(write_and_take_back("ann"), write_and_take_back("bob"), return_exceptions=True)
    (error,) = (result for result in done if result is not None)
    assert isinstance(error, ConflictError)
    assert len(await contents(mind, user)) == 1
