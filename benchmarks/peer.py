"""LangGraph's AsyncPostgresStore beside ours: the same server, the same memories and vectors, the same questions.

Each user (or tenant) is a namespace. Its rows are copied from our tables and its indexes built afterwards, as our own
are; what is timed are its own calls, `aput` and `asearch`. It searches by vector only: no words, no conversations, no
moment of the past. Not installed with the rest: `pip install --group bench`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import asyncpg
import numpy as np

from benchmarks import loading, measuring, nearest
from benchmarks.questions import Query
from neuromem import NeuroMemory

if TYPE_CHECKING:
    from langgraph.store.postgres.aio import AsyncPostgresStore

NAME = "LangGraph AsyncPostgresStore"
FIELD = "text"
_INDEX = "store_vectors_embedding_idx"
_ORIGIN = "peer-benchmark"


def installed() -> bool:
    return find_spec("langgraph") is not None and find_spec("psycopg") is not None


def namespace(user: str) -> tuple[str, str]:
    return ("users", user)


@asynccontextmanager
async def filled(
    url: str, schema: str, dims: int, rows: str, vectors: Mapping[str, Sequence[float]]
) -> AsyncIterator["AsyncPostgresStore"]:
    """A store in a schema of its own on the server, gone when the block ends.

    `rows`: a query of (prefix, key, text, embedding), what it is filled with; `vectors`: by text, what its embedding
    function answers.
    """
    from langgraph.store.postgres.aio import AsyncPostgresStore

    address = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema},public"

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        return [list(vectors[text]) for text in texts]

    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"drop schema if exists {schema} cascade; create schema {schema}")
        index: Any = {"dims": dims, "embed": embed, "fields": [FIELD]}
        try:
            async with AsyncPostgresStore.from_conn_string(address, index=index) as opened:
                await opened.setup()
                await _fill(connection, schema, rows)
                yield opened
        finally:
            await connection.execute(f"drop schema {schema} cascade")
    finally:
        await connection.close()


async def _fill(connection: asyncpg.Connection, schema: str, rows: str) -> None:
    """Writes the rows into the store's tables as `aput` would have written them."""
    await connection.execute("set maintenance_work_mem = '2GB'; set max_parallel_maintenance_workers = 2")
    index = await connection.fetchval(f"select pg_get_indexdef('{schema}.{_INDEX}'::regclass)")
    await connection.execute(f"drop index {schema}.{_INDEX}")
    await connection.execute(
        f"insert into {schema}.store (prefix, key, value) "
        f"select prefix, key, jsonb_build_object('{FIELD}', text) from ({rows}) as rows"
    )
    await connection.execute(
        f"insert into {schema}.store_vectors (prefix, key, field_name, embedding) "
        f"select prefix, key, '{FIELD}', embedding::vector from ({rows}) as rows"
    )
    await connection.execute(index)
    await connection.execute(f"vacuum (analyze) {schema}.store")
    await connection.execute(f"vacuum (analyze) {schema}.store_vectors")


async def measure(nm: NeuroMemory, groups: dict[str, Sequence[Query]], new: Sequence[str]) -> dict[str, Any]:
    """search by group of users, with its share of the exact nearest; put of `new` texts, and neuromem's add of them."""
    random = np.random.default_rng(17)
    known = {asked.text: asked.vector for group in groups.values() for asked in group}
    vectors = dict(zip(new, nm._embedding.world.vectors(random, np.arange(len(new)) % 400).tolist(), strict=True))  # type: ignore[attr-defined]
    figures: dict[str, Any] = {}
    schema, url = nm._db.schema, nm._db._url_in_use
    rows = (
        "select 'users.' || user_id as prefix, memory_id::text as key, content as text, embedding "
        f"from {schema}.embeddings where known_to is null"
    )
    async with (
        filled(url, f"{schema}_peer", nm._db.dims, rows, known | vectors) as peer,
        loading.connect(nm) as connection,
    ):
        for name, group in groups.items():
            search = await measuring.timed(
                lambda n, group=group: peer.asearch(namespace(group[n].user), query=group[n].text, limit=nearest.TOP),
                len(group),
            )
            figures[f"search, {name}"] = search | {"found of exact": await found(nm, peer, group)}
        user = next(iter(groups.values()))[0].user
        figures["put"] = await measuring.timed(
            lambda n: peer.aput(namespace(user), f"new-{n}", {FIELD: new[n]}), len(new), warm=0
        )
        figures["neuromem's add_memory"] = await measuring.timed(
            lambda n: nm.add_memory(user, new[n], origin=_ORIGIN), len(new), warm=0
        )
        await connection.execute(f"delete from {schema}.embeddings where origin = '{_ORIGIN}'")
    return figures


async def found(nm: NeuroMemory, peer: "AsyncPostgresStore", group: Sequence[Query]) -> float:
    """The share of the exact ten nearest memories among its ten."""
    users = list(dict.fromkeys(asked.user for asked in group))[:3]
    shares: list[float] = []
    for user in users:
        exact = await nearest.read(nm, nm._db.tables.embeddings.table, "memory_id", user)
        for asked in [asked for asked in group if asked.user == user][:20]:
            hits = await peer.asearch(namespace(user), query=asked.text, limit=nearest.TOP)
            wanted = exact.nearest(asked.vector, None, nearest.TOP)
            shares.append(len({hit.key for hit in hits}.intersection(wanted)) / len(wanted))
    return round(float(np.mean(shares)), 4)
