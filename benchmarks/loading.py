"""Fills a database with synthetic users in bulk: COPY into tables without indexes, which are built again afterwards.

The rows are those that `add_memories`, `update_memory` and `ingest` with its background work would have written; a test
compares them.
"""

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any

import asyncpg
import numpy as np
from pgvector.asyncpg import register_vector
from sqlalchemy import Table

from benchmarks import measuring
from benchmarks.synthetic import Floats, World
from memground.clock import Stamp
from memground.postgres.versioned import new_row
from memground.words import keys, words
from neuromem import NeuroMemory, NewMemory, NewMessage
from neuromem.models import Tables
from neuromem.services import background, conversations, search
from neuromem.services.graph import node_values
from neuromem.services.indexing import IndexKeeper
from neuromem.types import DEFAULT_ORIGIN

SESSION_TURNS = 40
CHANGED = 20
"""Every 20th memory has an earlier version."""
_AT_ONCE = 5_000
HALF = timedelta(days=182)
"""Ago, half of everything was known."""
_DAYS = 365
THING = "thing"
RELATIONS = ("knows", "works_with", "likes", "met_at")
EDGES, PROFILE = 10_000, 30
"""Relations and entries of the profile of a user whom the system knows well."""

type Row = dict[str, Any]
type Rows = dict[str, list[Row]]
"""Rows by the name of their table."""


@dataclass(frozen=True)
class Shape:
    """What a database holds: `memories` in all, those of `big` users within them, the rest in users of `per_user`.

    Every user has `messages` messages for each memory.
    """

    memories: int
    per_user: int = 1_000
    big: tuple[int, ...] = ()
    messages: float = 1.0
    seed: int = 1

    @property
    def users(self) -> dict[str, int]:
        """How many memories each user has."""
        small = max(1, (self.memories - sum(self.big)) // self.per_user)
        return {f"u{n}": self.per_user for n in range(small)} | {f"big-{size}": size for size in self.big}


async def ensure(nm: NeuroMemory, shape: Shape, *, reload: bool, say: Callable[..., None] = print) -> float | None:
    """Loads the shape unless the schema holds it already; returns the seconds it took."""
    schema = nm._db.schema
    async with connect(nm) as connection:
        stored = await connection.fetchval("select obj_description($1::regnamespace)", schema)
        if stored == _description(shape) and not reload:
            return None
        begun = time.perf_counter()
        await load(connection, nm._db.tables, nm._embedding.world, shape, say)  # type: ignore[attr-defined]
        await connection.execute(f"comment on schema {schema} is '{_description(shape)}'")
        await settle(nm)
        return time.perf_counter() - begun


async def load(
    connection: asyncpg.Connection, tables: Tables, world: World, shape: Shape, say: Callable[..., None]
) -> None:
    """Replaces whatever the tables hold by the shape's users."""
    filled = [tables.conversations.table, tables.conversation_embeddings.table, tables.conversation_sessions]
    filled.append(tables.embeddings.table)
    names = [table.name for table in filled]
    listed = ", ".join(f"{tables.schema}.{name}" for name in [*names, "jobs", "memory_sources"])
    async with connection.transaction():  # copied into tables made in the same transaction: no WAL for what is lost
        await connection.execute(f"truncate {listed}")
        indexes = await _indexes(connection, tables.schema, names)
        for name, _ in indexes:
            await connection.execute(f"drop index {tables.schema}.{name}")
        begun, done = time.perf_counter(), 0
        for user, memories in shape.users.items():
            for rows in user_rows(tables, world, user, memories, round(memories * shape.messages), seed=shape.seed):
                for table in filled:
                    await copy(connection, table, rows.get(table.name, ()))
                done += len(rows.get("embeddings", ())) + len(rows.get("conversations", ()))
            say(f"\r  {done:,} rows, {done / (time.perf_counter() - begun):,.0f} a second", end="", flush=True)
        say()
        for name, definition in indexes:
            begun = time.perf_counter()
            await connection.execute(definition)
            if (taken := time.perf_counter() - begun) > 1:
                say(f"  index {name}: {taken:.0f} s")


def user_rows(
    tables: Tables, world: World, user: str, memories: int, messages: int, *, seed: int = 1, now: datetime | None = None
) -> Iterable[Rows]:
    """One user's rows, some thousand at a time; everything became known in the course of the last year."""
    random = np.random.default_rng([seed, *user.encode()])
    favourites = world.favourites(random)
    stamp = Stamp(now or datetime.now(UTC), DEFAULT_ORIGIN)
    for places in batched(range(memories), _AT_ONCE):
        drawn = world.draw(random, world.topics(random, favourites, len(places)))
        known = [_moment(stamp, place, memories) for place in places]
        yield {"embeddings": memory_rows(tables, user, drawn.texts, drawn.vectors, known, stamp)}
    for places in batched(range(messages), _AT_ONCE // SESSION_TURNS * SESSION_TURNS):
        drawn = world.draw(random, world.topics(random, favourites, len(places), run=8))
        rows: Rows = {}
        for start in range(0, len(places), SESSION_TURNS):
            part = slice(start, start + SESSION_TURNS)
            session = f"s{places[start] // SESSION_TURNS}"
            begun = _moment(stamp, places[start], messages)
            turns = [
                NewMessage(
                    "user" if seq % 2 else "assistant",
                    text,
                    begun + timedelta(seconds=20 * seq),
                    f"{session}:{seq}",
                    user.title() if seq % 2 else "Assistant",
                )
                for seq, text in enumerate(drawn.texts[part], start=1)
            ]
            for name, more in session_rows(user, session, turns, drawn.vectors[part], stamp).items():
                rows.setdefault(name, []).extend(more)
        yield rows


def memory_rows(
    tables: Tables, user: str, texts: Sequence[str], vectors: Floats, known: Sequence[datetime], stamp: Stamp
) -> list[Row]:
    """Memories as `add_memories` writes them; every 20th was first known in other words, then changed."""
    rows: list[Row] = []
    copied = tables.embeddings.copied
    for place, (text, vector, since) in enumerate(zip(texts, vectors, known, strict=True)):
        new = NewMemory(text, metadata={"place": place}, importance=1 + place % 10, known_at=since)
        row = search.memory_row(user, new, stamp) | {"embedding": vector}
        if place % CHANGED == 0:
            changed = since + (stamp.at - since) / 2
            earlier = f"{text} Or so."
            first = row | {"content": earlier, "words": keys(user, words(earlier)), "known_to": changed}
            rows.append(first | {"closed_origin": stamp.origin})
            row = {**new_version(first, copied, stamp), "content": text, "words": row["words"], "known_from": changed}
            row["event_at"] = changed
        rows.append(row)
    return rows


def new_version(row: Mapping[str, Any], copied: Sequence[str], stamp: Stamp) -> Row:
    """The version after a row, as `append` writes it in the same moment."""
    return {
        **{name: row[name] for name in copied},
        "id": uuid.uuid4(),
        "version": row["version"] + 1,
        "known_to": None,
        "recorded_at": stamp.at,
        "origin": stamp.origin,
        "closed_origin": None,
    }


def session_rows(user: str, session: str, turns: Sequence[NewMessage], vectors: Floats, stamp: Stamp) -> Rows:
    """A session as `add_messages_batch` and the background work write it."""
    messages = [
        conversations._draft(user, turn, stamp) | {"user_id": user, "session_id": session, "seq": seq}
        for seq, turn in enumerate(turns, start=1)
    ]
    mirrored = [
        {"id": uuid.uuid4(), **{name: row[name] for name in background._MIRRORED}, "embedding": vector}
        for row, vector in zip(messages, vectors, strict=True)
    ]
    counter = {
        "id": uuid.uuid4(),
        "user_id": user,
        "session_id": session,
        "message_count": len(messages),
        "last_message_at": max(row["event_at"] for row in messages),
        "created_at": stamp.at,
        "updated_at": stamp.at,
    }
    return {"conversations": messages, "conversation_embeddings": mirrored, "conversation_sessions": [counter]}


def graph_rows(
    tables: Tables, user: str, triples: Sequence[tuple[str, str, str]], known: Sequence[datetime], stamp: Stamp
) -> Rows:
    """Relations between things, (source, relation, target), as `create_edge` writes them, and when each was known."""
    nodes: list[Row] = []
    for name in sorted({name for source, _, target in triples for name in (source, target)}):
        values = {"node_key": uuid.uuid4(), **node_values(user, THING, name, {"name": name})}
        nodes.append(new_row(stamp, values, known_from=min(known)))
    edges: list[Row] = []
    for place, ((source, relation, target), since) in enumerate(zip(triples, known, strict=True)):
        values = {"edge_id": uuid.uuid4(), "user_id": user, "source_type": THING, "source_id": source}
        values |= {"edge_type": relation, "target_type": THING, "target_id": target}
        values |= {"properties": {"confidence": 0.9}, "valid_from": None, "valid_to": None}
        edges.append(new_row(stamp, values, known_from=since, version=stamp.version + place))
    return {tables.graph_nodes.table.name: nodes, tables.graph_edges.table.name: edges}


async def ensure_acquainted(nm: NeuroMemory, user: str, edges: int = EDGES) -> None:
    """Gives a user relations between what their texts speak of, and a profile, unless they have them."""
    tables, now = nm._db.tables, datetime.now(UTC)
    async with connect(nm) as connection:
        query = f"select exists (select from {tables.graph_edges.table.fullname} where user_id = $1)"
        if await connection.fetchval(query, user):
            return
        random = np.random.default_rng(29)
        world: World = nm._embedding.world  # type: ignore[attr-defined]
        things = world.things(np.random.default_rng([1, *user.encode()]))
        pairs = [random.choice(things, 2, replace=False).tolist() for _ in range(edges)]
        triples = [(source, RELATIONS[place % len(RELATIONS)], target) for place, (source, target) in enumerate(pairs)]
        known = [now - timedelta(days=_DAYS) * (1 - place / edges) for place in range(edges)]
        for name, rows in graph_rows(tables, user, triples, known, Stamp(now, DEFAULT_ORIGIN)).items():
            await copy(connection, tables.metadata.tables[f"{tables.schema}.{name}"], rows)
    for number, thing in enumerate(things[:PROFILE]):
        await nm.kv.set("profile", user, f"trait {number}", f"speaks of {thing}")
    await settle(nm)


async def settle(nm: NeuroMemory) -> None:
    """The state a database reaches when nobody writes."""
    await measuring.settle(nm._db._url_in_use, nm._db.tables.metadata, IndexKeeper(nm._db).tend)


@asynccontextmanager
async def connect(nm: NeuroMemory) -> AsyncIterator[asyncpg.Connection]:
    """A connection of our own on the mind's server, for what the mind has no call for."""
    connection = await asyncpg.connect(nm._db._url_in_use)
    try:
        await register_vector(connection)
        await connection.set_type_codec(
            "jsonb",
            schema="pg_catalog",
            encoder=lambda value: b"\x01" + json.dumps(value).encode(),
            decoder=lambda value: json.loads(value[1:]),
            format="binary",
        )
        await connection.execute("set maintenance_work_mem = '2GB'; set max_parallel_maintenance_workers = 2")
        yield connection
    finally:
        await connection.close()


async def copy(connection: asyncpg.Connection, table: Table, rows: Sequence[Row]) -> None:
    """Rows of one table, each with the same columns; what PostgreSQL computes is left out."""
    if not rows:
        return
    columns = [column.name for column in table.c if column.computed is None and column.name in rows[0]]
    records = ([row[name] for name in columns] for row in rows)
    await connection.copy_records_to_table(table.name, schema_name=table.schema, columns=columns, records=records)


async def _indexes(connection: asyncpg.Connection, schema: str, tables: Sequence[str]) -> list[tuple[str, str]]:
    """(name, definition) of the tables' indexes but those of constraints."""
    rows = await connection.fetch(
        "select indexname, indexdef from pg_indexes where schemaname = $1 and tablename = any($2) "
        "and indexname not in (select conname from pg_constraint where connamespace = $1::regnamespace) order by 1",
        schema,
        list(tables),
    )
    return [(row["indexname"], row["indexdef"]) for row in rows]


def _moment(stamp: Stamp, place: int, count: int) -> datetime:
    return stamp.at - timedelta(days=_DAYS) * (1 - place / count)


def _description(shape: Shape) -> str:
    return json.dumps(asdict(shape))
