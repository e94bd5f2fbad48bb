"""Memories through the client: records that never change, the way back, and nothing outside the scope."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memground.clock import ManualClock
from omnimem import (
    ConflictError,
    Content,
    F,
    IndexHint,
    InvalidInputError,
    Memory,
    NewMemory,
    NotFoundError,
    OmniMemClient,
    Report,
    Scope,
    SearchFilters,
    SearchQuery,
    SourceReference,
    UnsupportedError,
)
from support.embeddings import HashEmbedding

type OpenRecord = Callable[..., Awaitable[OmniMemClient]]
START = datetime(2026, 1, 1, tzinfo=UTC)


async def test_what_was_created_is_read_back(record: OmniMemClient) -> None:
    created = await record.create(
        Content("a text", {"n": 1.5, "list": [1, "x", None, {"deep": True}]}),
        scope=Scope(user_id="u", namespace={"a:b": "c%d"}),
        metadata={"k": "v"},
        type="mine",
        sources=[SourceReference("message", "m1", (1, 2), "https://example.org")],
        index_hint=IndexHint(fulltext_fields=["data.list"]),
        event_time=START,
        valid_time_from=START,
        valid_time_to=START + timedelta(days=1),
    )
    assert await record.get(created.memory_id) == created
    assert created.scope == Scope(tenant_id=record.scope.tenant_id, user_id="u", namespace={"a:b": "c%d"})
    assert Memory.from_dict(created.to_dict()) == created


async def test_an_update_appends_a_record(record: OmniMemClient) -> None:
    first = await record.create("one", metadata={"n": 1})
    second = await record.update(first.memory_id, content="two", expected_version=first.version)
    third = await record.update(first.memory_id, metadata={"n": 3})
    assert second.memory_id == first.memory_id
    assert len({first.record_id, second.record_id, third.record_id}) == 3
    assert first.version < second.version < third.version
    assert (third.text, third.metadata) == ("two", {"n": 3})
    history = await record.history(first.memory_id)
    assert [m.record_id for m in history] == [third.record_id, second.record_id, first.record_id]
    assert [m.is_latest for m in history] == [True, False, False]
    assert [m.text for m in history] == ["two", "two", "one"]
    assert (await record.get(first.memory_id, version=first.version)) == history[2]
    assert (await record.get(first.memory_id)) == third


async def test_history_comes_in_pages(record: OmniMemClient) -> None:
    memory = await record.create("0")
    for n in range(1, 8):
        await record.update(memory.memory_id, content=str(n))
    texts: list[str | None] = []
    cursor = None
    while True:
        page = await record.history(memory.memory_id, limit=3, cursor=cursor)
        texts += [m.text for m in page]
        if (cursor := page.cursor) is None:
            break
    assert texts == [str(n) for n in reversed(range(8))]
    other = await record.create("x")
    page = await record.history(memory.memory_id, limit=3)
    with pytest.raises(InvalidInputError, match="cursor"):
        await record.history(other.memory_id, limit=3, cursor=page.cursor)


async def test_every_moment_has_its_record(open_record: OpenRecord) -> None:
    clock = ManualClock(START)
    record = await open_record(clock=clock)
    memory = await record.create("v0")
    for n in range(1, 5):
        clock.advance(timedelta(hours=1))
        await record.update(memory.memory_id, content=f"v{n}")
    for n in range(5):
        for minutes in (0, 59):
            found = await record.at_time(memory.memory_id, START + timedelta(hours=n, minutes=minutes))
            assert found is not None
            assert found.text == f"v{n}"
    assert await record.at_time(memory.memory_id, START - timedelta(seconds=1)) is None
    back = await record.get_memory_at_time(memory.memory_id, START)
    assert back is not None
    assert back.text == "v0"


async def test_a_clock_that_stands_still_or_goes_back_breaks_no_order(open_record: OpenRecord) -> None:
    clock = ManualClock(START)
    record = await open_record(clock=clock)
    memory = await record.create("v0")
    await record.update(memory.memory_id, content="v1")
    clock.set(START - timedelta(days=1))
    await record.update(memory.memory_id, content="v2")
    history = await record.history(memory.memory_id)
    assert [m.text for m in history] == ["v2", "v1", "v0"]
    assert history[0].version > history[1].version > history[2].version
    assert [m.created_time for m in history] == [START] * 3
    found = await record.at_time(memory.memory_id, START)
    assert found is not None
    assert found.text == "v2"


async def test_a_revert_is_a_new_record(record: OmniMemClient) -> None:
    first = await record.create(Content("one", {"a": 1}), metadata={"n": 1}, type="fact")
    await record.update(first.memory_id, content="two", metadata={}, type="insight")
    reverted = await record.revert(first.memory_id, first.record_id)
    assert reverted.record_id != first.record_id
    assert (reverted.content, reverted.metadata, reverted.type) == (first.content, first.metadata, first.type)
    assert len(await record.get_memory_history(first.memory_id)) == 3
    again = await record.revert_to_record(first.memory_id, first.record_id)
    assert again.version > reverted.version
    other = await record.create("other")
    with pytest.raises(NotFoundError, match="no record"):
        await record.revert(other.memory_id, first.record_id)


async def test_a_deleted_memory_is_gone_at_every_moment(record: OmniMemClient) -> None:
    memory = await record.create("secret plan")
    await record.update(memory.memory_id, content="secret plan two")
    then = (await record.history(memory.memory_id))[0].created_time
    assert await record.delete(memory.memory_id) == 2
    assert await record.get(memory.memory_id) is None
    assert await record.get(memory.memory_id, version=memory.version) is None
    assert await record.at_time(memory.memory_id, then) is None
    assert len(await record.history(memory.memory_id)) == 0
    assert await record.count(as_of=then) == 0
    assert not (await record.search("secret plan", as_of=then)).hits
    for call in (record.delete(memory.memory_id), record.update(memory.memory_id, content="x")):
        with pytest.raises(NotFoundError):
            await call


async def test_sixty_four_updates_at_once_make_sixty_four_records(record: OmniMemClient) -> None:
    memory = await record.create("start")
    seen: list[int] = []

    async def read() -> None:
        while len(seen) < 100:
            found = await record.get(memory.memory_id)
            assert found is not None
            assert found.is_latest
            seen.append(found.version)
            await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    returned = await asyncio.gather(*(record.update(memory.memory_id, content=f"u{n}") for n in range(64)))
    await reading
    history = list(await record.history(memory.memory_id, limit=100))
    assert len(history) == 65
    versions = [m.version for m in reversed(history)]
    assert all(a < b for a, b in itertools.pairwise(versions))
    assert sorted(m.version for m in returned) == versions[1:]
    assert [m.is_latest for m in history] == [True] + [False] * 64
    assert seen == sorted(seen)


async def test_of_many_that_expect_a_version_one_wins(record: OmniMemClient) -> None:
    memory = await record.create("start")
    for n in range(5):
        done = await asyncio.gather(
            *(record.update(memory.memory_id, content=f"{n} {k}", expected_version=memory.version) for k in range(8)),
            return_exceptions=True,
        )
        won = [result for result in done if isinstance(result, Memory)]
        assert len(won) == 1
        assert all(isinstance(result, ConflictError) for result in done if not isinstance(result, Memory))
        memory = won[0]


async def test_listings_are_of_one_moment(record: OmniMemClient) -> None:
    memories = await record.create_many([f"m{n}" for n in range(10)])
    page = await record.list(limit=4)
    for memory in memories[:8]:
        await record.update(memory.memory_id, content="changed")
    await record.create("new")
    found = list(page)
    while page.cursor is not None:
        page = await record.list(limit=4, cursor=page.cursor)
        found += page
    assert sorted(str(m.text) for m in found) == [f"m{n}" for n in range(10)]
    assert [m.version for m in found] == sorted((m.version for m in found), reverse=True)
    assert await record.count() == 11


async def test_lists_and_counts_know_the_past(open_record: OpenRecord) -> None:
    clock = ManualClock(START)
    record = await open_record(clock=clock)
    one = await record.create("a", metadata={"n": 1})
    clock.advance(timedelta(hours=1))
    await record.update(one.memory_id, metadata={"n": 2})
    await record.create("b", metadata={"n": 1})
    assert [m.metadata for m in await record.list(as_of=START)] == [{"n": 1}]
    assert await record.count(filters=F("metadata.n") == 1, as_of=START) == 1
    assert await record.count(filters={"metadata.n": 2}, as_of=START) == 0
    assert await record.count(filters={"metadata.n": 2}) == 1
    assert await record.count() == 2


async def test_the_ends_of_valid_time_are_included(record: OmniMemClient) -> None:
    await record.create("true for a day", valid_time_from=START, valid_time_to=START + timedelta(days=1))
    await record.create("true since", valid_time_from=START + timedelta(days=1))
    await record.create("always")
    counts = {
        days: await record.count(filters=SearchFilters(valid_at=START + timedelta(days=days))) for days in (-1, 0, 1, 2)
    }
    assert counts == {-1: 1, 0: 2, 1: 3, 2: 2}


async def test_many_are_created_or_none(record: OmniMemClient) -> None:
    created = await record.create_many(
        ["one", Content("two"), NewMemory("three", scope=Scope(user_id="u"))], scope=Scope(app_id="app")
    )
    assert [m.text for m in created] == ["one", "two", "three"]
    assert created[2].scope == Scope(tenant_id=record.scope.tenant_id, app_id="app", user_id="u")
    with pytest.raises(InvalidInputError):
        await record.create_many(["four", " "])
    with pytest.raises(InvalidInputError, match=r"memories\[1\]"):
        await record.create_many(["four", 5])  # type: ignore[list-item]
    assert await record.count() == 3
    assert await record.create_many([]) == []


# ---------------------------------------------------------------- scopes


CALLS: dict[str, Callable[[OmniMemClient, Memory], Awaitable[Any]]] = {
    "get": lambda c, m: c.get(m.memory_id),
    "get a version": lambda c, m: c.get(m.memory_id, version=m.version),
    "history": lambda c, m: c.history(m.memory_id),
    "at_time": lambda c, m: c.at_time(m.memory_id, m.created_time),
    "list": lambda c, m: c.list(),
    "list then": lambda c, m: c.list(as_of=m.created_time),
    "count": lambda c, m: c.count(),
    "search": lambda c, m: c.search("secret"),
    "semantic": lambda c, m: c.search("secret", mode="semantic"),
    "keyword": lambda c, m: c.search("secret", mode="keyword"),
    "search then": lambda c, m: c.search("secret", as_of=m.created_time),
    "filter": lambda c, m: c.search(None, filters=F("memory_id") == m.memory_id),
    "query": lambda c, m: c.search(SearchQuery("secret")),
    "update": lambda c, m: c.update(m.memory_id, content="mine now"),
    "delete": lambda c, m: c.delete(m.memory_id),
    "revert": lambda c, m: c.revert(m.memory_id, m.record_id),
    "get_memory_history": lambda c, m: c.get_memory_history(m.memory_id),
    "get_memory_at_time": lambda c, m: c.get_memory_at_time(m.memory_id, m.created_time),
    "revert_to_record": lambda c, m: c.revert_to_record(m.memory_id, m.record_id),
    "update_memory": lambda c, m: c.update_memory(m.memory_id, new_content="mine now"),
    "verify": lambda c, m: c.verify(),
    "export": lambda c, m: _exported(c),
}


async def _exported(client: OmniMemClient) -> list[dict[str, Any]]:
    return [record async for record in client.export()]


def _nothing(answer: Any) -> bool:
    if isinstance(answer, Report):
        return answer.memories == answer.count == 0
    return answer in (None, 0) or len(answer) == 0


@pytest.mark.parametrize("name", CALLS)
async def test_nothing_outside_the_scope_is_reached(shared_record: OmniMemClient, user: str, name: str) -> None:
    theirs = shared_record.within(Scope(tenant_id=user, user_id="them", namespace={"env": "prod"}))
    memory = await theirs.create("secret of theirs", metadata={"word": "secret"})
    for scope in (
        Scope(tenant_id=f"{user}-other"),
        Scope(tenant_id=user, user_id="me"),
        Scope(tenant_id=user, namespace={"env": "dev"}),
        Scope(tenant_id=user, namespace={"env": "prod", "more": "x"}),
        Scope(tenant_id=user, run_id="r1"),
    ):
        mine = shared_record.within(scope)
        try:
            answer: Any = await CALLS[name](mine, memory)
        except NotFoundError as error:
            answer = str(error)
            assert "theirs" not in answer
            assert "them" not in answer
        else:
            assert _nothing(answer)
    assert await theirs.get(memory.memory_id) == memory


async def test_a_bound_client_refuses_other_scopes(shared_record: OmniMemClient, user: str) -> None:
    mine = shared_record.within(Scope(tenant_id=user, namespace={"env": "dev"}))
    for scope in (Scope(tenant_id="other"), Scope(namespace={"env": "prod"})):
        with pytest.raises(InvalidInputError, match="outside the scope"):
            await mine.create("x", scope=scope)
        with pytest.raises(InvalidInputError, match="outside the scope"):
            await mine.search("x", scope=scope)
        with pytest.raises(InvalidInputError, match="outside the scope"):
            mine.within(scope)
    deeper = mine.within(Scope(user_id="u"))
    assert (await deeper.create("x")).scope == Scope(tenant_id=user, user_id="u", namespace={"env": "dev"})
    assert await mine.count() == 1


@pytest.mark.parametrize("call", ["status", "retry_failed", "work", "about"])
async def test_what_is_about_everybody_is_refused_within_a_scope(record: OmniMemClient, call: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{call} is about everybody"):
        await getattr(record, call)()


async def test_a_wide_scope_sees_all_below_it(shared_record: OmniMemClient, user: str) -> None:
    for agent in ("a", "b"):
        for owner in ("u", "v"):
            await shared_record.create(f"{agent} {owner}", scope=Scope(tenant_id=user, agent_id=agent, user_id=owner))
    assert await shared_record.count(scope=Scope(tenant_id=user)) == 4
    assert await shared_record.count(scope=Scope(tenant_id=user, agent_id="b")) == 2
    assert len(await shared_record.search("u", scope=Scope(tenant_id=user, user_id="u"), mode="keyword")) == 2


# ---------------------------------------------------------------- bad input


BAD: dict[str, tuple[Callable[[OmniMemClient], Any], str]] = {
    "empty": (lambda c: c.create(" "), "empty"),
    "NUL": (lambda c: c.create("a\0b"), "NUL"),
    "10 MB": (lambda c: c.create("x" * 10_000_000), "characters"),
    "a number": (lambda c: c.create(7), "content must be"),
    "no scope": (lambda c: c.create("x", scope="acme"), "scope must be a Scope"),
    "naive": (lambda c: c.create("x", event_time=datetime(2026, 1, 1)), "no timezone"),  # noqa: DTZ001
    "nan": (lambda c: c.create(Content(data={"x": float("nan")})), "nan"),
    "deep": (lambda c: c.create("x", metadata=_deep(50)), "deeper"),
    "id": (lambda c: c.get(None), "memory_id must be"),
    "id with spaces": (lambda c: c.get("a b"), "no id"),
    "long id": (lambda c: c.get("x" * 201), "no id"),
    "version": (lambda c: c.get("x", version="1"), "version="),
    "limit": (lambda c: c.list(limit=0), "limit=0"),
    "huge limit": (lambda c: c.history("x", limit=10**9), "limit="),
    "cursor": (lambda c: c.list(cursor="!!"), "cursor="),
    "another cursor": (lambda c: c.search("x", cursor="e30"), "cursor="),
    "naive as_of": (lambda c: c.search("x", as_of=datetime(2026, 1, 1)), "no timezone"),  # noqa: DTZ001
    "naive t": (lambda c: c.at_time("x", datetime(2026, 1, 1)), "no timezone"),  # noqa: DTZ001
    "query": (lambda c: c.search(7), "query must be"),
    "operator": (lambda c: c.search("x", filters={"data.x": {"like": "y"}}), "unknown operator"),
    "field": (lambda c: c.list(filters={"colour": 1}), "unknown filter field"),
    "path": (lambda c: c.count(filters={"data..x": 1}), "malformed"),
    "deep filter": (lambda c: c.count(filters=_deep_filter(1_000)), "levels deep"),
    "nothing": (lambda c: c.update("x"), "update of nothing"),
    "None content": (lambda c: c.update("x", content=None), "content must be"),
    "vector": (lambda c: c.search("x", query_embedding=[1.0]), "pass 32 numbers"),
    "nan vector": (lambda c: c.search("x", query_embedding=[float("nan")] * 32), "nan"),
    "zero vector": (lambda c: c.search("x", query_embedding=[0.0] * 32), "length 0"),
}


def _deep(levels: int) -> dict[str, Any]:
    return {"x": _deep(levels - 1)} if levels else {}


def _deep_filter(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {"data.x": 1}
    for _ in range(levels):
        made = {"not": made}
    return made


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_and_named(record: OmniMemClient, name: str) -> None:
    call, said = BAD[name]
    with pytest.raises(InvalidInputError, match=said):
        await call(record)
    assert await record.count() == 0


async def test_valid_time_stays_in_order_over_updates(record: OmniMemClient) -> None:
    memory = await record.create("x", valid_time_from=START)
    with pytest.raises(InvalidInputError, match="before valid_time_from"):
        await record.update(memory.memory_id, valid_time_to=START - timedelta(days=1))
    ended = await record.update(memory.memory_id, valid_time_to=START + timedelta(days=1))
    assert (await record.update(memory.memory_id, valid_time_to=None)).valid_time_to is None
    assert ended.valid_time_from == START


async def test_another_model_is_refused(open_record: OpenRecord) -> None:
    from omnimem import ModelMismatchError

    await open_record()
    with pytest.raises(ModelMismatchError, match="hash-32"):
        await open_record(HashEmbedding(16))
