"""The shortest way through the whole mind."""

from neuromem import NeuroMemory


async def test_a_message_becomes_memory_and_is_recalled(nm: NeuroMemory, user: str) -> None:
    await nm.ingest(user, "user", "I moved to Porto last week.", speaker="Anna")
    await nm.wait_idle(timeout=30)
    found = await nm.recall(user, "Where does Anna live?")
    assert found.merged[0].content == "I moved to Porto last week."
    assert found.merged[0].source == "conversation"
