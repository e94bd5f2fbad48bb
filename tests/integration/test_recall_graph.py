"""recall over memories, turns, relations and the profile, in one ranking."""

from datetime import UTC, datetime

import pytest

from neuromem import F, Fact, NeuroMemory, NewMemory, RankingProfile, Triple
from neuromem.types import MergedHit, RecallResult

_DID = ("painted", "visited", "sang at", "cooked for", "read about", "repaired")
_WHAT = ("the lake", "a boat", "the choir", "old maps", "the garden", "a clock", "the harbour")
_WHO = ("Ben", "Cleo", "Dana", "Emil", "Finn")
MAY = datetime(2024, 5, 1, tzinfo=UTC)
QUESTION = "Where does Anna live?"


def merged(result: RecallResult) -> dict[str, MergedHit]:
    return {hit.content: hit for hit in result.merged}


@pytest.mark.seed("6.1", 'triples come into merged, source="graph"', 'turns come into merged, source="conversation"')
@pytest.mark.seed("6.1", "merged is sorted by score", "recall answers merged", "recall answers graph_context")
async def test_a_relation_answers_beside_memories_turns_and_the_profile(nm: NeuroMemory, user: str) -> None:
    said = await nm.ingest(user, "user", "Anna packed her things and left for the coast", speaker="Bob")
    home = Triple("Anna", "lives_in", "Porto", valid_from=MAY)
    profile = {"where_anna_lives": "by the river", "pet": "Rex"}
    await nm.apply_extraction(user, triples=[home], profile_updates=profile, sources=[said.message_id])
    await nm.add_memory(user, "Anna likes the sea")
    await nm.wait_idle()
    result = await nm.recall(user, QUESTION, explain=True)
    fact = merged(result)["Anna lives in Porto"]
    assert (fact.source, fact.sources, fact.valid_from) == ("graph", ("graph",), MAY)
    assert [source.id for source in fact.came_from] == [said.message_id]
    assert fact.explanation is not None
    assert fact.explanation.parts["named"] == 0.5
    assert {hit.source for hit in result.merged} == {"graph", "vector", "conversation", "profile"}
    assert "where anna lives: by the river" in merged(result)
    assert "pet: Rex" not in merged(result)  # no word of the question
    assert result.user_profile == profile
    assert [found.object for found in result.graph_results] == ["Porto"]
    assert result.graph_context == "Anna lives in Porto (since 2024-05-01)"
    assert [hit.score for hit in result.merged] == sorted((hit.score for hit in result.merged), reverse=True)


async def test_the_same_content_stands_once_with_all_its_sources(nm: NeuroMemory, user: str) -> None:
    await nm.add_memory(user, "Anna lives in Porto")
    await nm.graph.create_edge(user, "person", "Anna", "lives_in", "place", "Porto")
    hits = [hit for hit in (await nm.recall(user, QUESTION)).merged if hit.content.casefold() == "anna lives in porto"]
    assert [set(hit.sources) for hit in hits] == [{"vector", "graph"}]


@pytest.mark.seed("6.1", "a memory that holds both ends of a triple gets 0.5")
@pytest.mark.seed("6.1", "a memory that holds one end of a triple gets 0.2")
async def test_both_ends_of_a_relation_raise_a_memory_more_than_one(nm: NeuroMemory, user: str) -> None:
    """The seed's numbers: 1.5 for both ends, 1.2 for one, 2.0 at most, each multiplied in.

    By default Anna, who is in three of the four, says a quarter, Porto and New York three quarters each.
    """
    texts = ["Anna walks through Porto", "Anna walks through Lisbon", "planning a portorico tour", "new_york, Anna!"]
    await nm.add_memories(user, [NewMemory(text) for text in texts])
    for place in ("Porto", "New York"):
        await nm.graph.create_edge(user, "person", "Anna", "been_to", "place", place)

    async def factors(ranking: RankingProfile) -> dict[str, float]:
        async with NeuroMemory(
            nm._db._url_in_use, nm._embedding, schema=nm._db.schema, ranking=ranking, background=False
        ) as other:
            found = await other.recall(user, "What about Anna and Porto?", explain=True)
        return {hit.memory.content: hit.explanation.parts["graph"] for hit in found.vector_results if hit.explanation}

    literal = await factors(RankingProfile.seed())
    assert literal == pytest.approx(dict(zip(texts, (1.7, 1.4, 1.0, 1.7), strict=True)))
    relative = await factors(RankingProfile())
    both, one = 0.5 * (0.25 + 0.75) / 2, 0.2 * 0.25
    wanted = (1 + both + one, 1 + 2 * one, 1.0, 1 + both + one)
    assert relative == pytest.approx({text: f / max(wanted) for text, f in zip(texts, wanted, strict=True)})


@pytest.mark.seed("6.1", "what triples give is capped at 2.0")
async def test_many_relations_raise_a_memory_to_twice_its_score_at_most(nm: NeuroMemory, user: str) -> None:
    await nm.add_memory(user, "Anna, always Anna")
    for number in range(9):
        await nm.graph.create_edge(user, "person", "Anna", "knows", "person", f"Friend {number}")
    async with NeuroMemory(
        nm._db._url_in_use, nm._embedding, schema=nm._db.schema, ranking=RankingProfile.seed(), background=False
    ) as seed:
        found = await seed.recall(user, "Who does Anna know?", explain=True)
    assert found.vector_results[0].explanation is not None
    assert found.vector_results[0].explanation.parts["graph"] == 2.0


async def test_a_relation_that_ended_says_so_and_the_past_knows_it_as_it_was(nm: NeuroMemory, user: str) -> None:
    await nm.apply_extraction(user, triples=[Triple("Anna", "lives_in", "Oslo")])
    before = nm._context.clock.now()
    await nm.apply_extraction(user, triples=[Triple("Anna", "lives_in", "Porto")])
    now, then = await nm.recall(user, QUESTION, explain=True), await nm.as_of(before).recall(user, QUESTION)
    assert [fact.object for fact in then.graph_results] == ["Oslo"]
    assert then.graph_context == "Anna lives in Oslo"
    assert [(fact.object, fact.ended) for fact in now.graph_results] == [("Porto", False), ("Oslo", True)]
    ended = merged(now)["Anna lives in Oslo"]
    assert ended.explanation is not None
    assert ended.explanation.parts["ended"] == 0.5
    assert "no longer true" in ended.explanation.notes[0]


async def test_what_was_said_and_what_was_learned_from_it_share_one_place(nm: NeuroMemory, user: str) -> None:
    said = await nm.ingest(user, "user", "I bought a red bicycle for the way to work")
    facts = [Fact("Anna bought a red bicycle"), Fact("Anna goes to work by bicycle")]
    await nm.apply_extraction(user, facts=facts, sources=[said.message_id])
    for number in range(12):
        await nm.ingest(user, "user", f"the bicycle shop number {number} is closed on Mondays")
    await nm.wait_idle()
    found = await nm.recall(user, "Which bicycle did Anna buy?", limit=20)
    places = [place for place, hit in enumerate(found.merged) if said.message_id in {s.id for s in hit.came_from}]
    assert len(places) == 3  # nothing is lost where there is room
    assert places[0] == 0
    assert places[1] > 5  # but one of them stands for all where it counts


async def test_what_was_learned_takes_no_place_from_what_was_said(nm: NeuroMemory, user: str) -> None:
    """Before and after everything was learned as a fact and a relation, the same turns are told, in the same order."""
    texts = [f"{_DID[n % 6]} {_WHAT[n % 7]} with {_WHO[n % 5]} on day {n}" for n in range(60)]
    said = [
        await nm.ingest(user, "user", f"I {text}", speaker="Anna", session_id=f"s{n % 4}")
        for n, text in enumerate(texts)
    ]
    await nm.wait_idle()
    questions = ["What did Anna paint?", "Who was at the lake with Anna?", "day 17", "What about the choir?"]
    limits = (8, 10, 20)

    async def told() -> list[list[str]]:
        found = [await nm.recall(user, question, limit=limit) for question in questions for limit in limits]
        return [[hit.came_from[0].id for hit in result.merged] for result in found]

    before = await told()
    for message, text in zip(said, texts, strict=True):
        who = Triple("Anna", "talks_about", text.split(" with ")[1].split()[0])
        await nm.apply_extraction(user, facts=[Fact(f"Anna {text}")], triples=[who], sources=[message.message_id])
    assert await told() == before
    hits = (await nm.recall(user, questions[0])).merged
    assert {hit.source for hit in hits} == {"vector", "conversation"}


async def test_what_says_more_than_its_turn_stands_by_itself(nm: NeuroMemory, user: str) -> None:
    """Who reads "we moved here" knows no answer; the memory and the relation that were made of it do."""
    moved = await nm.ingest(user, "user", "We moved here last week, at last!", speaker="Wei")
    home = Triple("Wei", "lives_in", "Porto")
    await nm.apply_extraction(user, facts=[Fact("Wei lives in Porto now")], triples=[home], sources=[moved.message_id])
    for number in range(30):
        await nm.ingest(user, "user", f"Live music at the club again, concert number {number}", speaker="Bob")
    await nm.wait_idle()
    found = await nm.recall(user, "Where does Wei live?", limit=8)
    assert found.merged[0].content == "Wei lives in Porto now"
    assert "Wei lives in Porto" in merged(found)


async def test_without_its_turns_a_memory_is_ranked_by_itself(nm: NeuroMemory, user: str) -> None:
    said = await nm.ingest(user, "user", "I bought a red bicycle")
    await nm.apply_extraction(user, facts=[Fact("Anna bought a red bicycle")], sources=[said.message_id])
    await nm.wait_idle()
    alone = await nm.recall(user, "red bicycle", include_conversations=False, explain=True)
    why = alone.vector_results[0].explanation
    assert why is not None
    assert "turns" not in why.parts
    assert alone.merged[0].score > 0.5


async def test_a_filter_and_a_mind_without_a_graph_leave_relations_out(nm: NeuroMemory, user: str) -> None:
    await nm.apply_extraction(user, triples=[Triple("Anna", "lives_in", "Porto")], profile_updates={"anna": "lives"})
    filtered = await nm.recall(user, QUESTION, where=F("metadata.topic") == "home")
    assert (filtered.merged, filtered.graph_results, filtered.graph_context) == ((), (), "")
    async with NeuroMemory(
        nm._db._url_in_use, nm._embedding, schema=nm._db.schema, graph_enabled=False, background=False
    ) as without:
        assert (await without.recall(user, QUESTION)).graph_results == ()
