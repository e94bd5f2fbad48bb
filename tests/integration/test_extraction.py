"""What was extracted becomes memories, a profile and relations: once, with its sources, as of when it was known."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from benchmarks.measuring import counted
from sqlalchemy import select

from memground.clock import ManualClock
from neuromem import (
    Emotion,
    Episode,
    Fact,
    HygieneRules,
    InvalidInputError,
    Memory,
    NeuroMemory,
    NewMessage,
    NotFoundError,
    Source,
    Triple,
)
from neuromem.extraction.items import Extracted, Extraction, ProfileUpdate
from neuromem.services.extraction import MemoryExtractionService
from support.embeddings import HashEmbedding

type OpenMind = Callable[..., Awaitable[NeuroMemory]]

T0 = datetime(2026, 3, 1, 9, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


class Life:
    """A mind with a clock of its own, and one user who says things."""

    def __init__(self, mind: NeuroMemory, clock: ManualClock) -> None:
        self.mind = mind
        self.clock = clock

    async def say(self, minutes: float, *texts: str) -> list[str]:
        """Ids of messages that were said (and are known since) then."""
        self.clock.set(max(self.clock.now(), at(minutes)))
        said = [NewMessage("user", text, at(minutes)) for text in texts]
        return [m.message_id for m in await self.mind.conversations.add_messages_batch("anna", said)]

    async def learn(self, minutes: float, *facts: Any, **more: Any) -> Any:
        """An extraction at that time from something just said."""
        self.clock.set(max(self.clock.now(), at(minutes)))
        sources = more.pop("sources", None) or await self.say(minutes, "…")
        found = [Fact(fact) if isinstance(fact, str) else fact for fact in facts]
        return await self.mind.apply_extraction("anna", facts=found, sources=sources, **more)

    async def facts(self, minutes: float | None = None) -> list[Memory]:
        """Facts in the order in which they count, the last first."""
        reader = self.mind if minutes is None else self.mind.as_of(at(minutes))
        found = (await reader.list_memories("anna", memory_types=["fact", "episodic"])).items
        return sorted(found, key=lambda memory: (memory.event_at, memory.content), reverse=True)

    async def known(self, minutes: float | None = None) -> list[str]:
        return [memory.content for memory in await self.facts(minutes)]


@pytest.fixture
async def life(open_mind: OpenMind) -> Life:
    clock = ManualClock(at(0))
    mind = await open_mind(embedding=HashEmbedding(64), clock=clock, background=False)
    return Life(mind, clock)


async def test_everything_lands_with_its_sources(life: Life) -> None:
    first, second = await life.say(1, "I moved to Porto in May", "and I ran a marathon, so happy!")
    life.clock.set(at(60))
    emotion = Emotion(0.9, 0.8, "joy")
    result = await life.mind.apply_extraction(
        "anna",
        facts=[Fact("Lives in Porto", "home", 0.9, 8, at(-1000), entities=("Porto",))],
        episodes=[{"content": "Ran a marathon", "happened_at": at(-500), "emotion": emotion.to_dict()}],
        profile_updates={"city": "Porto"},
        sources=[first, second],
        origin="mine",
    )
    assert (len(result.added), result.profile, result.origin, result.at) == (2, ("city",), "mine", at(60))
    marathon, home = await life.facts()
    assert (home.memory_type, home.importance, home.valid_from, home.event_at) == ("fact", 8, at(-1000), at(-1000))
    assert home.metadata == {"category": "home", "confidence": 0.9, "entities": ["Porto"]}
    assert {source.id for source in home.sources} == {first, second}
    assert (home.known_from, home.recorded_at, home.origin) == (at(1), at(60), "mine")
    assert (marathon.memory_type, marathon.valid_from, marathon.event_at) == ("episodic", at(-500), at(-500))
    assert marathon.metadata["emotion"] == {"valence": 0.9, "arousal": 0.8, "label": "joy"}
    assert await life.mind.as_of(at(1)).kv.get("profile", "anna", "city") == "Porto"
    assert await life.mind.as_of(at(0.9)).kv.get("profile", "anna", "city") is None
    said = await life.mind.conversations.get_session_messages("anna")
    assert [message.extracted for message in said] == [True, True]
    assert await life.mind.conversations.get_unextracted_messages("anna") == []


async def test_one_embedding_call(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = life.mind._embedding
    assert isinstance(embedding, HashEmbedding)
    before = embedding.calls
    await life.learn(1, "likes tea", "likes rain", episodes=[Episode("saw a boat")])
    assert embedding.calls == before + 1
    await life.learn(2, profile_updates={"city": "Porto"})
    assert embedding.calls == before + 1


async def test_thirty_items_are_looked_up_and_written_in_a_few_statements(life: Life) -> None:
    """The model sees "user" in every sentence, knows a third already, and names a source for each."""
    await life.learn(1, *(f"User likes thing{n}" for n in range(10)), profile_updates={"city": "Oslo"})
    said = [(await life.say(minute, f"turn {minute}"))[0] for minute in range(2, 32)]

    def sourced[T](items: list[T]) -> tuple[Extracted[T], ...]:
        return tuple(Extracted(item, (said[place % 30],)) for place, item in enumerate(items))

    extraction = Extraction(
        facts=sourced([Fact(f"User likes thing{n}") for n in range(30)]),
        episodes=sourced([Episode(f"User saw thing{n}") for n in range(30)]),
        triples=sourced([Triple("user", "likes", f"thing{n}") for n in range(30)]),
        profile_updates=sourced([ProfileUpdate(f"key{n}", n) for n in range(29)] + [ProfileUpdate("city", "Porto")]),
    )
    life.clock.set(at(40))
    async with counted(life.mind) as sent, life.mind._db.session() as session:
        service = MemoryExtractionService(session, life.mind._embedding)
        vectors = await service.embed(extraction)
        stamp = session.stamp("many")
        done = await service.store("anna", extraction, vectors, stamp, sources=[Source("message", key) for key in said])
        await session.commit()
    assert (len(done.added), len(done.restated), len(done.profile), len(done.triples.stored)) == (50, 10, 30, 30)
    assert len(sent.sent) <= 40, "\n".join(text for text, _ in sent.sent)


async def test_what_concerns_each_other_in_one_extraction_is_told_one_after_the_other(open_mind: OpenMind) -> None:
    """Whether told at once or in turn, and known before or not: the same is remembered."""
    rules = HygieneRules(near_duplicate=0.5)
    told = [
        "Lives in Porto", "Has a dog", "Lives in Porto near the river", "has a  dog.", "Lives in Porto",
        "Has a dog Rex", "Lives in Porto near the river since May",
    ]  # fmt: skip
    lives: list[list[tuple[str, Any, int]]] = []
    for number, at_once in enumerate((True, False)):
        clock = ManualClock(at(0))
        mind = await open_mind(embedding=HashEmbedding(64), clock=clock, background=False, hygiene=rules)
        user = f"user{number}"
        for texts in (["Lives in Porto"], told if at_once else None, *([] if at_once else [[text] for text in told])):
            if texts is not None:
                message = await mind.ingest(user, "user", "…", timestamp=at(0))
                await mind.apply_extraction(user, facts=[Fact(text) for text in texts], sources=[message.message_id])
                clock.advance(timedelta(seconds=1))
        found = (await mind.list_memories(user)).items
        lives.append(sorted((m.content, m.metadata, m.importance) for m in found))
    assert lives[0] == lives[1]
    assert [content for content, _, _ in lives[0]] == ["Has a dog Rex", "Lives in Porto near the river since May"]


async def test_told_again_it_gets_a_source_more_and_counts_from_then(life: Life) -> None:
    first = await life.learn(1, Fact("Likes tea", confidence=0.5, importance=3))
    again = await life.learn(5, Fact("likes  tea.", confidence=0.8, importance=7, entities=("tea",)))
    assert (again.added, again.restated) == ((), first.added)
    (memory,) = await life.facts()
    assert (memory.content, memory.importance, memory.event_at) == ("Likes tea", 7, at(5))
    assert memory.metadata == {"category": "general", "confidence": 0.8, "entities": ["tea"]}
    assert len(memory.sources) == 2
    (then,) = await life.facts(4)
    assert (then.importance, len(then.sources), then.event_at) == (3, 1, at(1))


async def test_from_the_same_messages_again_nothing_changes(life: Life) -> None:
    sources = await life.say(1, "I like tea")
    await life.learn(2, "likes tea", sources=sources)
    await life.learn(3, "likes tea", sources=sources)
    (memory,) = await life.facts()
    assert len(await life.mind.history("anna", memory.memory_id)) == 1
    assert len(memory.sources) == 1


async def test_a_then_b_then_a_ends_at_a(life: Life) -> None:
    for minute, city in enumerate(("Oslo", "Porto", "Oslo")):
        await life.learn(minute, f"Lives in {city}", profile_updates={"city": city})
    assert await life.known() == ["Lives in Oslo", "Lives in Porto"]
    assert await life.known(1) == ["Lives in Porto", "Lives in Oslo"]
    assert await life.mind.kv.get("profile", "anna", "city") == "Oslo"
    assert [entry.value for entry in await life.mind.kv.history("profile", "anna", "city")] == ["Oslo", "Porto", "Oslo"]


async def test_what_was_compared_before_something_was_written_is_compared_anew(open_mind: OpenMind) -> None:
    clock = ManualClock(at(0))
    rules = HygieneRules(near_duplicate=0.5)
    life = Life(await open_mind(embedding=HashEmbedding(64), clock=clock, background=False, hygiene=rules), clock)
    await life.learn(1, "Lives in Porto")
    # The two of the dog have all before them written; then Ben is told of a memory that says something else now.
    told = ("Lives in Porto near the river", "Has a dog", "has a  dog.", "Lives in Porto with Ben")
    await life.learn(2, *told)
    assert sorted(await life.known()) == ["Has a dog", "Lives in Porto near the river", "Lives in Porto with Ben"]


async def test_what_was_corrected_since_stays_what_it_said_when_the_same_was_told_before(life: Life) -> None:
    """Said at 1 and at 3, corrected at 5; whether 3 is extracted before that or after, 4 knows both."""
    early, late = await life.say(1, "I like tea"), await life.say(3, "I like coffee")
    learned = await life.learn(3.5, "likes tea", sources=early)
    life.clock.set(at(5))
    await life.mind.update_memory("anna", learned.added[0], content="likes coffee")
    await life.learn(6, "likes coffee", sources=late)
    assert sorted(await life.known(2)) == ["likes tea"]
    assert sorted(await life.known(4)) == ["likes coffee", "likes tea"]


async def test_more_detail_makes_it_fuller_and_less_takes_nothing_away(open_mind: OpenMind) -> None:
    clock = ManualClock(at(0))
    rules = HygieneRules(near_duplicate=0.5)
    life = Life(await open_mind(embedding=HashEmbedding(64), clock=clock, background=False, hygiene=rules), clock)
    await life.learn(1, "Lives in Porto")
    fuller = await life.learn(2, "Lives in Porto near the river")
    assert len(fuller.enriched) == 1
    await life.learn(3, "Lives in Porto")
    assert await life.known() == ["Lives in Porto near the river"]
    assert await life.known(1) == ["Lives in Porto"]
    (hit,) = [hit for hit in await life.mind.search("anna", "river", explain=True) if hit.explanation]
    assert hit.explanation is not None
    assert hit.explanation.keyword_rank == 1


async def test_what_differs_is_kept_apart(life: Life) -> None:
    await life.learn(1, "I have 2 cats", "I have 3 cats", "likes tea", "does not like tea")
    await life.learn(2, "I have 3 cats")
    assert len(await life.known()) == 4


async def test_the_same_twice_in_one_extraction_is_one(life: Life) -> None:
    result = await life.learn(1, "likes tea", "Likes tea!", episodes=[Episode("likes tea")])
    assert (len(result.added), len(result.restated)) == (2, 1)


async def test_an_ended_fact_that_is_true_again_is_another(life: Life) -> None:
    await life.learn(1, Fact("Works at Acme", valid_from=at(-100), valid_to=at(-50)))
    await life.learn(2, "Works at Acme")
    assert len(await life.known()) == 2


async def test_that_something_ended_is_news_of_the_same_fact(life: Life) -> None:
    await life.learn(1, Fact("Works at Acme", valid_from=at(-100)))
    await life.learn(2, Fact("Works at Acme", valid_to=at(0)))
    (memory,) = await life.facts()
    assert (memory.valid_from, memory.valid_to) == (at(-100), at(0))
    assert (await life.facts(1))[0].valid_to is None


async def test_what_was_said_earlier_but_extracted_later_is_put_where_it_belongs(life: Life) -> None:
    early, late = await life.say(1, "I like tea"), await life.say(9, "I do like tea")
    await life.learn(20, "likes tea", sources=late, profile_updates={"city": "Porto"})
    await life.learn(21, "Likes tea", sources=early, profile_updates={"city": "Oslo"})
    (memory,) = await life.facts()
    assert len(memory.sources) == 2
    assert [await life.known(minute) for minute in (0, 1, 8, 9)] == [[], ["Likes tea"], ["Likes tea"], ["likes tea"]]
    cities = [await life.mind.as_of(at(m)).kv.get("profile", "anna", "city") for m in (0, 1, 8, 9)]
    assert cities == [None, "Oslo", "Oslo", "Porto"]
    assert await life.mind.kv.get("profile", "anna", "city") == "Porto"


@pytest.mark.parametrize("in_order", [True, False])
async def test_in_whatever_order_it_is_extracted_what_ended_has_ended(life: Life, in_order: bool) -> None:
    first, second = await life.say(1, "I live in Oslo"), await life.say(100, "I left Oslo")
    life.clock.set(at(200))
    tellings = [(Fact("Anna lives in Oslo"), first), (Fact("Anna lives in Oslo", valid_to=at(90)), second)]
    for fact, sources in tellings if in_order else reversed(tellings):
        await life.learn(200, fact, sources=sources)
    assert [fact.valid_to for fact in await life.facts()] == [at(90)]
    assert [fact.valid_to for fact in await life.facts(50)] == [None]


async def test_in_whatever_order_it_is_extracted_it_counts_from_its_last_telling(life: Life) -> None:
    told = {minute: await life.say(minute, "…") for minute in (1, 3, 5, 7)}
    for number, minute in enumerate((5, 1, 7, 3)):
        city = "Oslo" if minute in (1, 5) else "Porto"
        await life.learn(20 + number, "likes tea", sources=told[minute], profile_updates={"city": city})
    assert [[memory.event_at for memory in await life.facts(minute)] for minute in (2, 4, 6, 8)] == [
        [at(1)], [at(3)], [at(5)], [at(7)],
    ]  # fmt: skip
    assert [len((await life.facts(minute))[0].sources) for minute in (2, 4, 6, 8)] == [1, 2, 3, 4]
    cities = [await life.mind.as_of(at(m)).kv.get("profile", "anna", "city") for m in (2, 4, 6, 8)]
    assert cities == ["Oslo", "Porto", "Oslo", "Porto"]


async def test_what_was_forgotten_since_is_not_learned_again_from_what_was_said_before(life: Life) -> None:
    early = await life.say(1, "I like tea")
    learned = await life.learn(2, "likes tea")
    life.clock.set(at(5))
    await life.mind.delete_memory("anna", learned.added[0])
    await life.learn(6, "likes tea", sources=early)
    assert await life.known() == []
    assert await life.known(1) == ["likes tea"]
    again = await life.learn(7, "likes tea")
    assert len(again.added) == 1
    assert await life.known() == ["likes tea"]


async def test_a_none_ends_a_profile_value(life: Life) -> None:
    await life.learn(1, profile_updates={"pet": "Rex"})
    result = await life.learn(2, profile_updates={"pet": None, "car": None})
    assert result.profile == ("pet",)
    assert await life.mind.kv.get("profile", "anna", "pet", "nothing") == "nothing"
    assert await life.mind.as_of(at(1)).kv.get("profile", "anna", "pet") == "Rex"


async def test_triples_become_edges_with_both_clocks_and_sources(life: Life) -> None:
    sources = await life.say(1, "I live in Oslo")
    first = await life.learn(2, triples=[Triple("Anna", "lives_in", "Oslo")], sources=sources)
    second = await life.learn(5, triples=[{"subject": "anna", "relation": "lives in", "object": "Porto"}])
    assert (len(first.triples.stored), len(second.triples.stored), len(second.triples.ended)) == (1, 1, 1)
    assert first.triples.stored[0].known_from == at(1)
    facts = await life.mind.graph.find_entity_facts("anna", "where does Anna live?")
    assert [(fact.object, fact.valid_to is None) for fact in facts] == [("Porto", True), ("Oslo", False)]
    async with life.mind._db.read() as session:
        links = session.tables.memory_sources.table
        found = await session.execute(
            select(links.c.derived_id, links.c.source_id).where(links.c.derived_kind == "edge")
        )
        assert (str(first.triples.stored[0].edge_id), sources[0]) in [(str(a), str(b)) for a, b in found]


def lives_in(place: str) -> dict[str, Any]:
    return {"facts": [Fact(f"Anna lives in {place}")], "triples": [Triple("Anna", "lives_in", place)]}


async def test_a_fact_ends_with_the_relation_that_it_says_in_words(life: Life) -> None:
    """A move that is told only as a relation."""
    more = [
        "Anna loves Oslo",
        "Anna's brother lives in Oslo",
        "Anna lives in Oslo with Ben",
        "Anna hates Oslo. Lives in",
    ]
    await life.learn(1, "Anna currently lives in  Oslo.", *more, triples=[Triple("Anna", "lives_in", "Oslo")])
    moved = await life.learn(5, triples=[Triple("anna", "livesIn", "Porto")], origin="move")
    assert len(moved.ended) == 1
    ends = {memory.content: memory.valid_to for memory in await life.facts()}
    assert ends == {"Anna currently lives in  Oslo.": at(5), **dict.fromkeys(more)}
    assert [memory.valid_to for memory in await life.facts(4)] == [None] * 5
    assert [memory.valid_to for memory in await life.facts(5)].count(at(5)) == 1
    life.clock.set(at(10))
    hits = await life.mind.search("anna", "Where does Anna live, in Oslo?", valid_at=at(9), limit=9)
    assert [hit.memory.content for hit in hits if "currently" in hit.memory.content] == []
    await life.mind.undo("anna", origin="move")
    assert [memory.valid_to for memory in await life.facts()] == [None] * 5


async def test_in_chinese_too(life: Life) -> None:
    await life.learn(1, "安娜住在奥斯陆。", "安娜喜欢奥斯陆", triples=[Triple("安娜", "住在", "奥斯陆")])
    await life.learn(5, triples=[Triple("安娜", "住在", "波尔图")])
    assert {memory.content: memory.valid_to for memory in await life.facts()} == {
        "安娜住在奥斯陆。": at(5),
        "安娜喜欢奥斯陆": None,
    }


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_in_whatever_order_it_is_extracted_the_fact_has_ended(life: Life, order: tuple[int, int]) -> None:
    said = [await life.say(1, "I live in Oslo"), await life.say(5, "I moved to Porto")]
    tellings = [lives_in("Oslo"), {"triples": [Triple("Anna", "lives_in", "Porto")]}]
    life.clock.set(at(20))
    for number in order:
        await life.mind.apply_extraction("anna", sources=said[number], **tellings[number])
    assert [[m.valid_to for m in await life.facts(t)] for t in (0, 2, 6, 30)] == [[], [None], [at(5)], [at(5)]]


@pytest.mark.parametrize("parts", [((0, 1, 2),), ((0,), (1,), (2,)), ((0, 1), (2,)), ((0,), (1, 2))])
async def test_there_and_back_is_the_same_told_at_once_or_in_turn(life: Life, parts: Sequence[Sequence[int]]) -> None:
    said = [await life.say(minute, "…") for minute in (1, 5, 9)]
    told = [lives_in(place) for place in ("Oslo", "Porto", "Oslo")]
    life.clock.set(at(20))
    async with life.mind._db.session() as session:
        service = MemoryExtractionService(session, life.mind._embedding)
        for part in parts:
            found = Extraction(
                facts=tuple(Extracted(told[n]["facts"][0], tuple(said[n])) for n in part),
                triples=tuple(Extracted(told[n]["triples"][0], tuple(said[n])) for n in part),
            )
            sources = [Source("message", said[n][0]) for n in part]
            await service.store("anna", found, await service.embed(found), session.stamp("x"), sources=sources)
    seen = [sorted((m.content, m.valid_to is None) for m in await life.facts(t)) for t in (2, 6, 10)]
    oslo, porto = "Anna lives in Oslo", "Anna lives in Porto"
    assert seen == [
        [(oslo, True)],
        [(oslo, False), (porto, True)],
        [(oslo, False), (oslo, True), (porto, False)],
    ]


async def test_a_diff_tells_which_messages_were_extracted_then(life: Life) -> None:
    await life.learn(2, "likes tea", sources=[*await life.say(1, "I like tea"), *await life.say(2, "and so on")])
    await life.say(3, "what else?")
    life.clock.set(at(4))

    async def learned(start: float, end: float) -> list[tuple[str, bool]]:
        found = (await life.mind.diff("anna", at(start), at(end))).learned
        return [(change.after.content, change.after.extracted) for change in found if change.kind == "message"]

    assert await learned(0, 4) == [("I like tea", True), ("and so on", True), ("what else?", False)]
    assert await learned(0, 1.5) == [("I like tea", False)]
    await life.mind.rollback("anna", at(0))
    (forgotten, _, _) = [c for c in (await life.mind.diff("anna", at(3), at(5))).forgotten if c.kind == "message"]
    assert forgotten.before.extracted


async def test_undo_takes_an_extraction_back(life: Life) -> None:
    await life.learn(1, Fact("likes tea", confidence=0.5), profile_updates={"city": "Oslo"})
    await life.learn(2, "Likes tea", "likes rain", profile_updates={"city": "Porto"}, origin="second")
    life.clock.set(at(3))
    await life.mind.undo("anna", origin="second")
    (memory,) = await life.facts()
    assert (memory.metadata["confidence"], len(memory.sources), memory.event_at) == (0.5, 1, at(1))
    assert await life.mind.kv.get("profile", "anna", "city") == "Oslo"
    said = await life.mind.conversations.get_session_messages("anna")
    assert [message.extracted for message in said] == [True, False]
    then = await life.mind.as_of(at(2)).conversations.get_session_messages("anna")
    assert [message.extracted for message in then] == [True, True]


async def test_rollback_goes_back_before_it(life: Life) -> None:
    sources = await life.say(1, "I like tea")
    await life.learn(2, "likes rain", sources=[*sources, *await life.say(2, "and rain")])
    life.clock.set(at(3))
    await life.mind.rollback("anna", at(1.5))
    assert await life.known() == []
    (message,) = await life.mind.conversations.get_session_messages("anna")
    assert not message.extracted


async def test_unsure_and_too_many_items_are_counted_not_kept(open_mind: OpenMind) -> None:
    mind = await open_mind(embedding=HashEmbedding(), background=False, hygiene=HygieneRules(max_items=2))
    facts = [Fact("a", confidence=0.1), Fact("b"), Fact("c"), Fact("d")]
    result = await mind.apply_extraction("anna", facts=facts)
    assert [(d.kind, d.reason, d.count) for d in result.dropped] == [("fact", "unsure", 1), ("fact", "too many", 1)]
    assert len(result.added) == 2


async def test_personality_and_values_are_dropped_whoever_infers_them(life: Life) -> None:
    result = await life.learn(
        1, "Anna is an INTJ", "likes tea", profile_updates={"personality": "introvert", "city": "Porto"}
    )
    assert await life.known() == ["likes tea"]
    assert [entry.key for entry in await life.mind.kv.list("profile", "anna")] == ["city"]
    assert sum(dropped.count for dropped in result.dropped) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"facts": "tea"}, "facts must be a list of Fact values or dicts"),
        ({"facts": [1]}, r"facts\[0\] must be a Fact or a dict"),
        ({"facts": [{"text": "x"}]}, r"facts\[0\] has the field 'text'; accepted: content"),
        ({"facts": [{}]}, r"facts\[0\] lacks a field"),
        ({"facts": [Fact("a\x00")]}, r"facts\[0\].content holds a NUL"),
        ({"facts": [Fact("a", confidence=2)]}, r"facts\[0\].confidence=2 is not accepted"),
        ({"facts": [Fact("a", confidence=float("nan"))]}, r"facts\[0\].confidence=nan"),
        ({"facts": [Fact("a", importance=11)]}, "importance=11"),
        ({"facts": [Fact("a", valid_from=datetime(2024, 1, 1))]}, "no timezone"),  # noqa: DTZ001
        ({"facts": [{"content": "a", "emotion": {"valence": 3, "arousal": 0}}]}, r"emotion.valence=3"),
        ({"facts": [Fact("a", entities="Porto")]}, r"entities must be a list"),  # type: ignore[arg-type]
        ({"episodes": [Fact("a")]}, r"episodes\[0\] must be a Episode"),
        ({"triples": [Triple("a", "", "b")]}, r"triples\[0\]: relation is empty"),
        ({"profile_updates": ["a"]}, "profile_updates must be a dict"),
        ({"profile_updates": {"a": object()}}, "which JSON cannot hold"),
        ({"sources": ["x"]}, "source id='x' is no id"),
    ],
)
async def test_bad_items_are_refused_and_nothing_is_written(life: Life, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        await life.mind.apply_extraction("anna", **{"profile_updates": {"ok": 1}, **given})
    assert await life.mind.kv.list("profile", "anna") == []


async def test_messages_of_others_are_no_sources(life: Life) -> None:
    theirs = await life.mind.ingest("bob", "user", "hello")
    with pytest.raises(NotFoundError, match="has no message"):
        await life.mind.apply_extraction("anna", facts=[Fact("x")], sources=[theirs.message_id])
    assert await life.known() == []


async def test_inside_a_transaction_it_lands_with_the_rest_or_not_at_all(life: Life) -> None:
    async def both() -> None:
        async with life.mind.transaction() as tx:
            message = await tx.ingest("anna", "user", "I like tea")
            await tx.apply_extraction("anna", facts=[Fact("likes tea")], sources=[message.message_id])
            assert [memory.content for memory in (await tx.list_memories("anna")).items] == ["likes tea"]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await both()
    assert await life.known() == []


async def test_without_the_graph_relations_are_dropped_and_counted(open_mind: OpenMind) -> None:
    mind = await open_mind(embedding=HashEmbedding(64), background=False, graph_enabled=False)
    home = Triple("Anna", "lives_in", "Porto")
    result = await mind.apply_extraction("anna", facts=[Fact("Anna lives in Porto")], triples=[home])
    assert (len(result.added), result.triples.stored) == (1, ())
    assert [(item.kind, item.reason, item.count) for item in result.dropped] == [("triple", "no graph", 1)]
    assert (await mind.stats("anna")).graph_edges == 0
    await mind.graph.create_edge("anna", "person", "Anna", "lives_in", "place", "Porto")
    assert [fact.content for fact in await mind.graph.find_entity_facts("anna", "Anna")] == ["Anna lives in Porto"]
