"""The as-of law: a read of the past answers as the present did then, whatever was written since."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from memground.clock import ManualClock
from neuromem import NeuroMemory
from neuromem.importers import locomo
from support import law_digest
from support.embeddings import HashEmbedding
from support.law import KINDS, START, WORDS, Step, check_law, check_rollback, gathered, live, moments, plan
from support.sound import check_sound

LOCOMO = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "locomo-dev.json"

steps = st.lists(
    st.builds(
        Step, st.sampled_from(KINDS), st.integers(0, 4), st.integers(0, 4), st.integers(0, 999), st.integers(0, 999)
    ),
    min_size=15,
    max_size=30,
)
# No shrinking: it would live hundreds of lives. The steps that failed are printed.
derandomized = settings(
    derandomize=True,
    deadline=None,
    max_examples=3,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(scope="module")
async def mind(database_url: str, clock: ManualClock) -> AsyncIterator[NeuroMemory]:
    llm = law_digest.model(WORDS)
    async with NeuroMemory(database_url, HashEmbedding(32), llm, schema="law", clock=clock, auto_extract=False) as mind:
        yield mind
        await mind.wait_idle(timeout=60)
        await check_sound(mind)


@derandomized
@given(steps=steps, chosen=st.lists(st.integers(0, 9_999), min_size=3, max_size=3))
async def test_the_past_reads_as_it_was(
    mind: NeuroMemory, clock: ManualClock, steps: list[Step], chosen: list[int]
) -> None:
    acts = plan(steps)
    times = moments(acts)
    whole = await live(mind, clock, acts)
    await check_law(mind, clock, whole, {times[number % len(times)] for number in chosen})


@derandomized
@given(steps=steps, chosen=st.integers(0, 9_999))
async def test_after_a_rollback_the_present_reads_as_the_past_did(
    mind: NeuroMemory, clock: ManualClock, steps: list[Step], chosen: int
) -> None:
    acts = plan(steps)
    times = moments(acts)
    whole = await live(mind, clock, acts)
    await check_rollback(mind, clock, whole, times[chosen % len(times)])


async def test_a_dialogue_can_be_travelled_turn_by_turn(mind: NeuroMemory, clock: ManualClock, user: str) -> None:
    """Zero leaks, zero misses at every turn of a LoCoMo dialogue; the question is always what is said next."""
    if not LOCOMO.is_file():
        pytest.skip(f"no LoCoMo dialogues at {LOCOMO}")
    sessions = locomo.read(LOCOMO)[0].sessions
    turns = [(session_id, turn) for session_id, turns in sessions for turn in turns]
    clock.set(max(turn.timestamp for _, turn in turns) + timedelta(days=30))
    for session_id, session_turns in reversed(sessions):  # the order of arrival does not matter
        await mind.conversations.add_messages_batch(user, session_turns, session_id=session_id)
    await mind.wait_idle(timeout=60)

    async def check(number: int) -> None:
        session_id, turn = turns[number]
        said = {t.external_id: s for s, t in turns[: number + 1]}
        then = mind.as_of(turn.timestamp)
        question = turns[(number + 1) % len(turns)][1].content
        found = await mind.recall(user, question, limit=1_000, as_of=turn.timestamp)
        recalled = {hit.message.external_id for hit in found.conversation_results}
        assert recalled <= said.keys(), "a leak"
        assert len(recalled) >= min(len(said), 200), "a miss"
        assert {hit.at for hit in found.merged} <= {t.timestamp for _, t in turns[: number + 1]}
        in_session = await then.conversations.get_session_messages(user, session_id)
        assert [m.external_id for m in in_session] == [key for key, session in said.items() if session == session_id]
        listed = await then.conversations.list_sessions(user)
        assert {s.session_id: s.message_count for s in listed} == Counter(said.values())
        assert max(s.last_message_at for s in listed) == turn.timestamp

    reads: dict[str, Awaitable[None]] = {str(number): check(number) for number in range(len(turns))}
    await gathered(reads, at_once=4)
