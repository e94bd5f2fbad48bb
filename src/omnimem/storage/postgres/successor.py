"""Another embedding model: tables of its vectors beside those in use, filled while others work, then one switch.

The tables in use are dropped by the switch, and their names never used again: every statement of a program that still
has the old model open fails, and becomes a ModelMismatchError. See docs/adr/0036-another-model-for-records.md.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Executable, Select, String, Text, and_, bindparam, delete, func, literal, or_, select
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable

from memground.errors import ConfigurationError, ConflictError
from memground.postgres.alone import alone, locking
from memground.postgres.engine import reporting
from memground.postgres.schema import build_index
from omnimem.models.base import name, whole
from omnimem.storage.base import VectorIndex
from omnimem.storage.postgres.database import MAX_DIMS, Database
from omnimem.storage.postgres.tables import Tables, build_tables
from omnimem.storage.successor import VectorSuccessor

_PLAN = "reembedding"
_AFTER = bindparam("after", type_=Text)


class PostgresSuccessor(VectorSuccessor):
    """Tables of the next generation."""

    def __init__(self, database: Database, index: VectorIndex, tables: Tables) -> None:
        self._database = database
        self._index = index
        self._new = tables
        self._mine = database.tables.states.alias("mine")

    @property
    def index(self) -> VectorIndex:
        return self._index

    async def progress(self) -> tuple[int, int]:
        s = self._database.tables.states
        there = select(func.count()).where(
            s.c.index_name == self._database.tables.vector_index, ~s.c.is_deleted, s.c.version >= 0
        )
        there_too = self._behind().where(~self._mine.c.is_deleted)
        async with self._database.reading() as work:
            total = (await work.execute(there)).scalar_one()
            missing = select(func.count()).select_from(there_too.subquery("behind"))
            return total - (await work.execute(missing)).scalar_one(), total

    async def behind(self, *, after: str, limit: int) -> list[str]:
        query = self._behind().where(self._mine.c.memory_id > _AFTER).order_by(self._mine.c.memory_id).limit(limit)
        async with self._database.reading() as work:
            return list((await work.execute(query, {"after": after})).scalars())

    async def switch(self, last: Callable[[], Awaitable[None]] | None = None) -> bool:
        """The approximate index is built first, at once for all rows: that takes a fraction of one row at a time."""
        database, old, new = self._database, self._database.tables, self._new
        with reporting(database.location):
            for table in (new.vectors, new.vector_history):
                for index in filter(_is_approximate, table.indexes):
                    quote = asyncpg.dialect().identifier_preparer.quote
                    label = f"{quote(new.schema)}.{quote(str(index.name))}"
                    await build_index(
                        database.engine, str(CreateIndex(index).compile(dialect=asyncpg.dialect())), label
                    )

            async def act(connection: AsyncConnection) -> bool:
                one = self._behind().limit(1)
                if (await connection.execute(one)).first() is not None:
                    if last is None:
                        return False
                    await last()
                for table in (old.vectors, old.vector_history):
                    await connection.execute(DropTable(table))
                meta = old.meta
                await connection.execute(_tombstones(old, new))
                recorded = {"embedding_model": self._index.model_id, "dims": new.dims, "generation": new.generation}
                insertion = upsert(meta)
                await connection.execute(
                    insertion.on_conflict_do_update(index_elements=["key"], set_={"value": insertion.excluded.value}),
                    [{"key": key, "value": value} for key, value in recorded.items()],
                )
                await connection.execute(delete(meta).where(meta.c.key == _PLAN))
                return True

            switched = await locking(database.engine, [old.vectors, old.vector_history], act)
        if switched:
            await _forget_states(database, new.vector_index)
        return switched

    def _behind(self) -> Select[tuple[str]]:
        """Memories whose newest record, or removal, the index in use has and this one has not.

        What this one has of a memory it took from the truth, all records up to some moment; so the newest tells.
        """
        mine, its = self._mine, self._database.tables.states.alias("its")
        same = and_(its.c.memory_id == mine.c.memory_id, its.c.index_name == self._new.vector_index)
        newer = or_(its.c.version < mine.c.version, mine.c.is_deleted)
        missing = and_(its.c.memory_id.is_(None), mine.c.version >= 0, ~mine.c.is_deleted)  # below 0: forgotten
        return (
            select(mine.c.memory_id)
            .select_from(mine.outerjoin(its, same))
            .where(
                mine.c.index_name == self._database.tables.vector_index, or_(missing, and_(~its.c.is_deleted, newer))
            )
        )


@asynccontextmanager
async def opened_successor(
    database: Database, index_of: Callable[[Tables, str], VectorIndex], dims: int, model_id: str
) -> AsyncGenerator[PostgresSuccessor]:
    """The successor of the database's vectors, its tables made unless they are there."""
    plan: dict[str, Any] = {"model": name(model_id, "model_id"), "dims": whole(dims, "dims", 1, MAX_DIMS)}
    if (plan["model"], plan["dims"]) == (database.model_id, database.dims):
        raise ConfigurationError(f"schema {database.schema!r} has vectors of {model_id} ({dims} dimensions) already")
    new = _next_tables(database, dims)

    async def begin(connection: AsyncConnection) -> None:
        if (await _recorded(connection, database, "generation") or 1) != database.tables.generation:
            raise ConflictError(f"the model of schema {database.schema!r} was changed a moment ago")
        if (begun := await _recorded(connection, database, _PLAN)) is not None:
            if begun != plan:
                raise ConfigurationError(
                    f"a change of schema {database.schema!r} to {begun['model']} ({begun['dims']} dimensions) is half "
                    "done; finish it with that model, or give it up: omnimem reembed --abandon"
                )
            return
        for table in (new.vectors, new.vector_history):
            await connection.execute(CreateTable(table))
            for index in table.indexes:
                if not _is_approximate(index):
                    await connection.execute(CreateIndex(index))
        await connection.execute(upsert(new.meta).values(key=_PLAN, value=plan))

    async with _alone(database):
        await locking(database.engine, [], begin)
        await _forget_states(database, database.tables.vector_index, new.vector_index)
        yield PostgresSuccessor(database, index_of(new, model_id), new)


async def abandon_successor(database: Database) -> bool:
    """Drops the tables of a successor that was begun, and what is known of it; whether there was one."""
    async with _alone(database):

        async def drop(connection: AsyncConnection) -> bool:
            plan = await _recorded(connection, database, _PLAN)
            if plan is None:
                return False
            new = _next_tables(database, plan["dims"])
            for table in (new.vectors, new.vector_history):
                await connection.execute(DropTable(table, if_exists=True))
            await connection.execute(delete(new.states).where(new.states.c.index_name == new.vector_index))
            await connection.execute(delete(new.meta).where(new.meta.c.key == _PLAN))
            return True

        return await locking(database.engine, [], drop)


async def _forget_states(database: Database, *used: str) -> None:
    """Drops the states of vectors that were dropped. Apart from the switch: whoever waits for the tables holds rows of
    them."""
    s = database.tables.states
    old = (s.c.index_name.startswith("vector"), s.c.index_name.not_in(used))
    async with database.writing() as work:
        await work.execute(delete(s).where(*old))


def _tombstones(old: Tables, new: Tables) -> Executable:
    """What was removed stays removed."""
    s = old.states
    removed = select(literal(new.vector_index, String), s.c.memory_id, s.c.version, s.c.is_deleted)
    removed = removed.where(s.c.index_name == old.vector_index, s.c.is_deleted)
    new_rows = upsert(s).from_select(["index_name", "memory_id", "version", "is_deleted"], removed)
    return new_rows.on_conflict_do_nothing()


def _next_tables(database: Database, dims: int) -> Tables:
    now = database.tables
    return build_tables(dims, now.schema, truth=now.truth, generation=now.generation + 1)


def _alone(database: Database) -> Any:
    taken = f"another program is changing the model of schema {database.schema!r}; wait for it"
    return alone(database.engine, database.location, f"{database.schema}/reembed", taken)


async def _recorded(connection: AsyncConnection, database: Database, key: str) -> Any:
    meta = database.tables.meta
    return await connection.scalar(select(meta.c.value).where(meta.c.key == key))


def _is_approximate(index: Any) -> bool:
    return index.dialect_options["postgresql"]["using"] == "hnsw"
