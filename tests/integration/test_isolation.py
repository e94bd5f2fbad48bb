"""One user never sees or touches what is another's, by any call; a walk over the statements shows why."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from benchmarks.measuring import counted
from sqlalchemy import text

from neuromem import NeuroMemory, NotFoundError
from neuromem.providers.llm import CallbackLLM
from neuromem.services.background import BackgroundWorker
from support.calls import PRESENT_ONLY, READS, WRITES, call, settle
from support.embeddings import HashEmbedding
from support.reflecting_model import answer
from support.storages import FolderStorage

OWNER = re.compile(r"\b(?:user_id|scope_id|owner) = \$(\d+)")

# Calls that name a thing by its id: another user's looks like none.
BY_ID = {
    "apply_extraction",
    "find_memory_id",
    "history",
    "add_memory",
    "update_memory",
    "delete_memory",
    "revert",
    "erase_memory",
    "erase_message",
    "erase_document",
    "conversations.close_session",
    "graph.edge_history",
    "graph.update_node",
    "graph.delete_node",
    "graph.update_edge",
    "graph.delete_edge",
    "files.get_text",
    "files.download",
    "files.download_url",
    "files.history",
    "files.update",
    "files.delete",
}

# Statements that bind no user, and why they may.
LEASED = r"WITH chosen AS .*lease_token = \$.* (UPDATE {s}\.jobs SET|DELETE FROM {s}\.jobs) "
BACKGROUND = {
    "jobs are claimed by whoever works, for all users": r"WITH chosen AS .*SKIP LOCKED\) UPDATE {s}\.jobs SET",
    "a lease is known by its token": LEASED,
    "a claimed job names its message; turns around it are joined by user_id": r"SELECT message\.message_id, .*"
    r"WHERE {s}\.conversations\.message_id = ANY .*earlier\.user_id = message\.user_id",
    "messages of claimed jobs are locked": r"SELECT {s}\.conversations\.id FROM .*message_id = ANY .*FOR SHARE",
    "a vector is stored beside every version of its message": r"SELECT .* FROM {s}\.conversations "
    r"WHERE {s}\.conversations\.message_id = ANY \(\$1::UUID\[\]\)$",
}


@pytest.fixture(scope="module")
async def mind(database_url: str, storage: FolderStorage) -> AsyncIterator[NeuroMemory]:
    async def reflect(messages: list[dict[str, Any]]) -> str:
        return answer({"messages": messages})

    async with NeuroMemory(
        database_url,
        HashEmbedding(),
        CallbackLLM(reflect),
        storage,
        schema="isolation",
        auto_extract=False,
        background=False,
    ) as mind:
        yield mind


async def rows_of(mind: NeuroMemory, user: str) -> dict[str, str | None]:
    """Everything a user has in any table, as one digest per table."""
    digests: dict[str, str | None] = {}
    async with mind._db.read() as session:
        for table in mind._db.tables.metadata.sorted_tables:
            owner = next((name for name in ("user_id", "scope_id", "owner") if name in table.c), None)
            if owner is not None:
                query = f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {table} t WHERE {owner} = :user"
                digests[table.name] = await session.scalar(text(query).bindparams(user=user))
    return digests


# After an erasure: files are removed by jobs that no longer say whose they were, and the server counts anew in its
# tables, of which it tells nobody a row; an empty one is shown a row of nothing for that, taken away by its key.
ERASING = {"delete_user_data", "erase_memory", "erase_message", "erase_document", "purge_history"}
AFTERWARDS = (
    r"ANALYZE |SELECT EXISTS \(SELECT 1 FROM \S+\)|DELETE FROM \S+ WHERE \S+\.(id|user_id) = \$1",
    r"SELECT count\(\*\) AS count_1 FROM isolation\.jobs WHERE isolation\.jobs\.kind = \$1::VARCHAR AND \S+\.ref",
    r"WITH chosen AS .*SKIP LOCKED\) UPDATE isolation\.jobs SET",
    LEASED.replace("{s}", "isolation"),
)


COUNTING = {"rollback", "undo"}
"""Calls before which the server counts anew where much is new, so that very much is taken back quickly."""


@asynccontextmanager
async def statements(mind: NeuroMemory) -> AsyncIterator[list[tuple[str, Any]]]:
    """What the block sends to the mind's own tables: (SQL, parameters); by SQLAlchemy, and past it to the driver."""
    seen: list[tuple[str, Any]] = []
    async with counted(mind) as found:
        yield seen
    for sql, parameters in found.sent:
        if f"{mind._db.schema}." in sql:
            many = isinstance(parameters, list)
            seen.append((re.sub(r"\s+", " ", sql), parameters[0] if many else parameters))


def binds(sql: str, parameters: Any, user: str) -> bool:
    """Whether the statement compares the owner's column with the user; an insert of what it is given has nothing to
    compare, nor has one that joins it with what it has just inserted or locked."""
    locked = set(re.findall(r"(?:WITH|,) (\w+) AS MATERIALIZED \(SELECT pg_advisory_xact_lock_shared\(\$", sql))
    inserted = set(re.findall(r"(?:WITH|,) (\w+) AS \(INSERT", sql))
    read = set(re.findall(r"\b(?:FROM|JOIN) (\S+)", sql))
    if sql.startswith("INSERT") or inserted:
        given = (name in inserted | locked or name.startswith("unnest(") for name in read)
        return all(given) or any(parameters[int(number) - 1] == user for number in OWNER.findall(sql))
    return any(parameters[int(number) - 1] == user for number in OWNER.findall(sql))


@pytest.mark.parametrize("name", READS)
async def test_reading_shows_nothing_of_another_user(mind: NeuroMemory, user: str, name: str) -> None:
    world = await settle(mind, user)
    signs = (
        "Porto",
        "'porto'",
        world.memory_id,
        world.message_id,
        "message_count=2",
        "waiting=2",
        "pending=2",
        "count=1,",
        "annotated=1,",
        "count=1)",
        "count=2,",
        "file://",
        "'conversations': 2",
    )
    own = repr(await call(mind, name, READS[name](world)))
    assert any(sign in own for sign in signs)
    asked = READS[name](replace(world, user=f"not-{user}"))
    for view in [mind] if name in PRESENT_ONLY else [mind, mind.as_of(datetime.now(UTC)), mind.as_of(world.between)]:
        try:
            answer = repr(await call(view, name, asked))
        except NotFoundError as error:
            assert name in BY_ID
            answer = str(error).replace(world.memory_id, "").replace(world.document_id, "")  # the id that was asked for
        answer = re.sub(r"entity='porto'|names=\([^)]*\)", "", answer)  # what was asked for
        assert [sign for sign in signs if sign in answer] == []


@pytest.mark.parametrize("name", WRITES)
async def test_writing_touches_nothing_of_another_user(mind: NeuroMemory, user: str, name: str) -> None:
    world = await settle(mind, user)
    before = await rows_of(mind, user)
    asked = WRITES[name](replace(world, user=f"not-{user}"))
    if name in BY_ID:
        with pytest.raises(NotFoundError):
            await call(mind, name, asked)
    else:
        await call(mind, name, asked)
    assert await rows_of(mind, user) == before


async def test_the_same_names_are_different_things_for_two_users(mind: NeuroMemory, user: str) -> None:
    other = f"not-{user}"
    mine, theirs = await settle(mind, user), await settle(mind, other)
    await mind.kv.set("profile", other, "city", "Oslo")
    again = await mind.ingest(other, "user", "said by another", session_id="s1", external_id="x1")
    assert again.message_id == theirs.message_id != mine.message_id
    await mind.conversations.close_session(other, "s1")

    assert await mind.kv.get("profile", user, "city") == "Porto, Portugal"
    assert [m.seq for m in await mind.conversations.get_session_messages(user, "s1")] == [1, 2]
    assert [m.seq for m in await mind.conversations.get_session_messages(other, "s1")] == [1, 2]
    closed = [(await mind.conversations.list_sessions(who))[0].closed_at for who in (user, other)]
    assert [moment is None for moment in closed] == [True, False]


async def test_undo_by_a_writer_s_name_stays_with_the_user(mind: NeuroMemory, user: str) -> None:
    await settle(mind, user)
    before = await rows_of(mind, user)
    await settle(mind, f"not-{user}")
    done = await mind.undo(f"not-{user}", origin="agent")
    assert done.ended
    assert await rows_of(mind, user) == before


async def test_every_statement_of_every_call_names_the_user(mind: NeuroMemory, user: str) -> None:
    """The mechanism behind the above: no statement relies on an id alone."""
    touched: set[str] = set()
    for name in (*READS, *WRITES):
        who = f"{user}-{name}"
        async with statements(mind) as seen:
            world = await settle(mind, who)
            arguments = (READS.get(name) or WRITES[name])(world)
            await call(mind, name, arguments)
            if name in READS and name not in PRESENT_ONLY:
                await call(mind.as_of(world.between), name, arguments)
        named = {who, arguments.get("user_id", who)}
        unbound = [sql for sql, parameters in seen if not any(binds(sql, parameters, one) for one in named)]
        if name == "digest":  # by one at a time, under a lease
            unbound = [sql for sql in unbound if not re.match(LEASED.replace("{s}", "isolation"), sql)]
        if name in COUNTING:
            unbound = [sql for sql in unbound if not sql.startswith("ANALYZE ")]
        if name in ERASING:
            unbound = [sql for sql in unbound if not any(re.match(pattern, sql) for pattern in AFTERWARDS)]
        assert unbound == [], name
        touched |= {word for sql, _ in seen for word in re.findall(r"isolation\.(\w+)", sql)}
    assert touched >= {
        "embeddings", "memory_sources", "key_values", "conversations", "conversation_sessions", "jobs", "graph_nodes",
        "graph_edges", "documents", "emotion_profiles",
    }  # fmt: skip


async def test_background_statements_that_name_no_user_are_these(mind: NeuroMemory, user: str) -> None:
    await settle(mind, user)
    async with statements(mind) as seen:
        while await BackgroundWorker(mind._db, HashEmbedding()).work_once():
            pass
    unbound = {sql for sql, parameters in seen if not binds(sql, parameters, user)}
    allowed = [re.compile(pattern.replace("{s}", "isolation")) for pattern in BACKGROUND.values()]
    assert [sql for sql in unbound if not any(pattern.match(sql) for pattern in allowed)] == []
    assert all(any(pattern.match(sql) for sql in unbound) for pattern in allowed), "an exception nobody needs"
