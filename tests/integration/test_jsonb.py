"""JSON comes back from `jsonb` as it was, its numbers with the types they had."""

import asyncio
import json
from typing import Any

import asyncpg
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memground.postgres.jsonb import written
from neuromem import NeuroMemory
from omnimem import OmniMemClient

LARGE = [1e16, -1e16, 1e22, 1e23, 1.2345678901234567e16, 1.7976931348623157e308, 2**63 - 1]
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(["1e+22", '"1e+22', "\\1e+22"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def plain(value: Any) -> str:
    """A text that tells 1.0 from 1; `jsonb` has an order of its own for keys."""
    return json.dumps(value, sort_keys=True)


def test_any_json(database_url: str) -> None:
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))

        @settings(max_examples=200, deadline=None, derandomize=True, database=None)
        @given(VALUES)
        @example(LARGE)
        def same(value: Any) -> None:
            text = runner.run(connection.fetchval("SELECT $1::jsonb", written(value)))
            assert plain(json.loads(text)) == plain(value)

        same()
        runner.run(connection.close())


async def test_what_is_stored(nm: NeuroMemory, record: OmniMemClient, user: str) -> None:
    memory = await record.create("a large number", metadata={"n": LARGE})
    found = await record.get(memory.memory_id)
    assert found is not None
    await nm.kv.set("numbers", user, "large", LARGE)
    for value in (found.metadata["n"], await nm.kv.get("numbers", user, "large")):
        assert plain(value) == plain(LARGE)
