"""All that is known about one thing: memories, graph and conversations joined."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from benchmarks.measuring import counted
from sqlalchemy import text

from memground.names import names_in, normal_name, pattern
from neuromem import Fact, NeuroMemory, NewMemory, NewMessage, Triple
from neuromem.queries.scope import Scope
from neuromem.services.entities import EntityService
from support.embeddings import HashEmbedding


@pytest.fixture(scope="module")
async def mind(database_url: str) -> AsyncIterator[NeuroMemory]:
    async with NeuroMemory(database_url, HashEmbedding(), schema="entities", background=False) as mind:
        yield mind


JOINED = ("embeddings", "graph_nodes", "graph_edges", "conversations")
DAY = timedelta(days=1)
ID = "gen_random_uuid()"
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)


async def told(mind: NeuroMemory, user: str) -> None:
    """Anna, whom some call Annie, moved from Oslo to Porto."""
    said = [
        NewMessage("user", "I met Anna in Oslo", timestamp=LONG_AGO),
        NewMessage("assistant", "How was it?", timestamp=LONG_AGO + DAY),
        NewMessage("user", "annie's new flat in Porto is bright", timestamp=LONG_AGO + 2 * DAY),
        NewMessage("user", "we planned an annapurna trek", speaker="Anna", timestamp=LONG_AGO + 3 * DAY),
    ]
    first, _, third, _ = await mind.conversations.add_messages_batch(user, said, session_id="s1")
    for triple, source in (
        (Triple("Anna", "lives in", "Oslo", "person", "place"), first),
        (Triple("Anna", "lives in", "Porto", "person", "place"), third),
    ):
        await mind.apply_extraction(user, triples=[triple], sources=[source.message_id])
    await mind.graph.update_node(user, "person", "Anna", {"aliases": ["Annie"], "born": 1994})
    await mind.apply_extraction(user, facts=[Fact("Anna lives in Porto")], sources=[third.message_id])
    await mind.add_memories(user, [NewMemory("ANNIE likes tea", known_at=LONG_AGO + 9 * DAY), "Ben likes tea"])


@pytest.mark.seed("9.2", "entity_profile() joins memories, graph and conversations in one statement")
async def test_a_profile_joins_all_that_is_known(mind: NeuroMemory, user: str) -> None:
    await told(mind, user)
    for name in ("Anna", "annie", "ANNIE"):
        async with counted(mind) as found:
            profile = await mind.entity_profile(user, name)
        asked = [sql for sql, _ in found.sent if "entities." in sql]
        joined = [sql for sql in asked if all(f"entities.{table}" in sql for table in JOINED)]
        assert (len(asked), len(joined)) == (2, 1)  # the other names of the thing, then everything
        assert set(profile.names) == {"anna", "annie"}
        assert [(node.node_type, node.properties["born"]) for node in profile.nodes] == [("person", 1994)]
        assert [(fact.content, fact.ended) for fact in profile.relations] == [
            ("Anna lives in Porto", False),
            ("Anna lives in Oslo", True),
        ]
        assert [memory.content for memory in profile.memories] == ["ANNIE likes tea", "Anna lives in Porto"]
        assert [message.content[:6] for message in profile.messages] == ["annie'", "I met "]
        assert (profile.relation_count, profile.memory_count, profile.message_count) == (2, 2, 2)
        assert (profile.first_mentioned, profile.last_mentioned) == (LONG_AGO, LONG_AGO + 9 * DAY)
        assert profile.complete
        assert profile
    assert profile.memories[1].sources
    assert profile.memories[1] == await mind.get_memory(user, profile.memories[1].memory_id)
    assert profile.messages == tuple((await mind.conversations.get_session_messages(user, "s1"))[2::-2])
    porto = await mind.entity_profile(user, "Porto")
    assert [fact.content for fact in porto.relations] == ["Anna lives in Porto"]
    assert len(porto.memories) == 1


async def test_its_long_statement_is_planned_once_a_connection(mind: NeuroMemory, user: str) -> None:
    async with mind._db.read() as session:
        for _ in range(2):
            await EntityService(session).profile(Scope(user, mind._context.view()), "Anna", limit=3)
        kept = await session.execute(text("SELECT generic_plans, statement FROM pg_prepared_statements"))
        runs = [row.generic_plans for row in kept if all(f"entities.{table}" in row.statement for table in JOINED)]
    assert runs
    assert min(runs) >= 2


async def test_relations_are_counted_by_name(mind: NeuroMemory, user: str) -> None:
    """Also as the statement is planned for all values at once, in a graph that has a hub."""
    await told(mind, user)
    async with counted(mind) as found:
        await mind.entity_profile(user, "nobody")
    statement, values = next(sent for sent in found.sent if "entities.conversations" in sent[0])
    crowd = {
        "graph_nodes": {"id": ID, "node_key": ID, "user_id": "'crowd'", "node_id": "'thing ' || n"},
        "graph_edges": {
            "id": ID,
            "edge_id": ID,
            "user_id": "'crowd'",
            "source_id": "'thing ' || n",
            "target_id": "'hub'",
        },
    }
    async with mind._db.engine.begin() as connection:
        for name, changed in crowd.items():
            columns = [c.name for c in mind._db.tables.metadata.tables[f"entities.{name}"].c if c.computed is None]
            values_of = ", ".join(changed.get(column, column) for column in columns)
            copied = f"SELECT * FROM entities.{name} WHERE user_id = :user AND known_to IS NULL LIMIT 1"
            copying = f"SELECT {values_of} FROM ({copied}) one, generate_series(1, 20000) n"
            await connection.execute(
                text(f"INSERT INTO entities.{name} ({', '.join(columns)}) {copying}"), {"user": user}
            )
            await connection.execute(text(f"ANALYZE entities.{name}"))
        await connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.exec_driver_sql(f"PREPARE asked AS {statement}")
        explained = await connection.exec_driver_sql(f"EXPLAIN EXECUTE asked ({', '.join(['NULL'] * len(values))})")
        plan = "\n".join(explained.scalars())
        await connection.exec_driver_sql("DEALLOCATE asked")
        await connection.rollback()
    for end in ("source", "target"):
        assert re.search(rf"Index Cond: .*{end}_id\)::text = things", plan), plan


async def test_a_profile_of_then_knows_what_was_known_then(mind: NeuroMemory, user: str) -> None:
    await told(mind, user)
    then = await mind.entity_profile(user, "Anna", as_of=LONG_AGO + DAY)
    assert [(fact.content, fact.ended) for fact in then.relations] == [("Anna lives in Oslo", False)]
    assert (then.names, then.memory_count, then.message_count) == (("anna",), 0, 1)
    assert await mind.as_of(LONG_AGO + DAY).entity_profile(user, "Anna") == then
    assert not await mind.entity_profile(user, "Annie", as_of=LONG_AGO + DAY)
    assert not await mind.entity_profile(user, "Anna", as_of=LONG_AGO - DAY)
    true_then = await mind.entity_profile(user, "Anna", valid_at=LONG_AGO + DAY)
    assert [fact.content for fact in true_then.relations] == ["Anna lives in Oslo"]


async def test_what_nobody_named_has_a_profile_that_is_false(mind: NeuroMemory, user: str) -> None:
    profile = await mind.entity_profile(user, "Zoë")
    assert not profile
    assert (profile.names, profile.first_mentioned, profile.complete) == (("zoë",), None, True)
    assert not await mind.entity_profile(user, "the")
    assert not await mind.entity_profile(user, "!?")


async def test_names_stand_as_words_in_every_script(mind: NeuroMemory, user: str) -> None:
    texts = [
        "我认识李雷很久了",
        "New_York's mayor",
        "new\u2010york",
        "a new look at York",
        "C++ and C#",
        "ＡＮＮ called",
    ]
    await mind.add_memories(user, texts)
    for name in ("李雷", "New York", "C++", "C#", "Ann", "C", "Looks", "york"):
        profile = await mind.entity_profile(user, name)
        expected = {item for item in texts if names_in(item, [normal_name(name)])}
        assert {memory.content for memory in profile.memories} == expected, name
        assert profile.memory_count == len(expected)


HELD = (
    "ann",
    "new york",
    "李雷",
    "c++",
    "o'neil",
    "[x]",
    "a.b",
    "jo-an",
    "émile",
    "ßtest",
    "12",
    "^a$",
    "q\\d",
    "ok_go",
)
TEXTS = (
    "Ann", "planning", "annette", "an n", "x ann.", "ann李雷", "我ann我", "New_York", "new  york", "newyork",
    "NEW\nYORK", "李雷和",
    "c++", "c+++", "xc++", "O'Neil's", "a [X] b", "aXb", "a.b", "aab", "Jo An",
    "jo\u2212an", "Émile", "emile", "12", "112", "1 12",
    "^A$", "q\\d", "q5", "OK-Go", "okgo", "",
)  # fmt: skip


async def test_the_database_finds_names_where_python_does(mind: NeuroMemory) -> None:
    async with mind._db.read() as session:
        for name in map(normal_name, HELD):
            fits = text("SELECT :text ~ :pattern")
            for said in TEXTS:
                found = await session.scalar(fits, {"text": said, "pattern": pattern(name)})
                assert found == bool(names_in(said, [name])), (name, said)


async def test_a_name_in_more_texts_than_are_counted(mind: NeuroMemory, user: str) -> None:
    """Then the latest are found along time, and it is said that not all were counted."""
    memories = [NewMemory(f"Anna {n}", known_at=LONG_AGO + n * DAY) for n in range(40)]
    await mind.add_memories(user, [*memories, NewMemory("Ben", known_at=LONG_AGO - DAY)])
    said = [NewMessage("user", f"Anna said {n}", timestamp=LONG_AGO + n * DAY) for n in range(40, 60)]
    await mind.conversations.add_messages_batch(user, said, session_id="s1")
    whole = await mind.entity_profile(user, "anna", limit=3)
    assert (whole.memory_count, whole.message_count, whole.complete) == (40, 20, True)
    for most in (15, 30):
        async with mind._db.read() as session:
            scope = Scope(user, mind._context.view())
            some = await EntityService(session, most).profile(scope, "anna", limit=3)
        counts = {"memory_count": most, "message_count": min(most, 20), "complete": False}
        assert replace(some, **counts) == replace(whole, **counts)
        assert (some.memory_count, some.message_count, some.complete) == tuple(counts.values())
    assert [memory.content for memory in whole.memories] == ["Anna 39", "Anna 38", "Anna 37"]
    assert (whole.first_mentioned, whole.last_mentioned) == (LONG_AGO, LONG_AGO + 59 * DAY)


@pytest.mark.seed("9.2", "stats() counts all types of memories")
async def test_everything_a_user_has_is_counted_in_one_statement(mind: NeuroMemory, user: str) -> None:
    await told(mind, user)
    await mind.add_memory(user, "was glad", metadata={"emotion": {"valence": 0.5, "arousal": 0.2, "label": "glad"}})
    await mind.add_memory(user, "tends to move", memory_type="insight")
    await mind.kv.set("notes", user, "a", 1)
    async with counted(mind) as found:
        stats = await mind.stats(user)
    counting = [sql for sql, _ in found.sent if "entities." in sql and "entities.jobs" not in sql]
    assert len(counting) == 1
    assert stats.memories == {"general": 3, "fact": 1, "insight": 1}
    assert (stats.insights, stats.emotions, stats.documents) == (1, 1, 0)
    assert (stats.messages, stats.sessions, stats.key_values) == (4, 1, 1)
    assert (stats.graph_nodes, stats.graph_edges) == (3, 2)
    assert stats.without_vector == 4  # nobody makes the turns' vectors here
    assert (await mind.stats(f"not-{user}")).memories == {}
    then = await mind.as_of(LONG_AGO + DAY).stats(user)
    assert (then.messages, then.memories, then.graph_edges, then.background) == (2, {}, 1, None)
    assert (then.first_known, then.last_known) == (LONG_AGO, LONG_AGO + DAY)
