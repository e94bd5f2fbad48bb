"""Changing the embedding model of a schema: new vectors beside the old ones, then one switch.

The new vectors go into a column of their own, batch by batch, each committed; other programs work on meanwhile with the
old one. When none is missing, one short transaction drops the old column and records the new model. Killed anywhere, it
goes on where it was. See docs/adr/0010-changing-the-model.md.
"""

import uuid
from array import array
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import blake2b
from itertools import count
from typing import Any

from sqlalchemy import ColumnElement, Table, bindparam, delete, exists, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex

from memground.embedding import EmbeddingProvider, check_vectors
from memground.errors import ConfigurationError, ConflictError
from memground.postgres.alone import alone, locking, quoted_name
from memground.postgres.arms import HalfVector
from memground.postgres.engine import Executor
from memground.postgres.schema import build_index
from neuromem import checks
from neuromem.db import MAX_DIMS, Database
from neuromem.models import Tables, build_tables
from neuromem.queries import messages as message_queries
from neuromem.types import Reembedded

type Progress = Callable[[int, int], None]
"""Told how many vectors there are and how many there will be."""

_BATCH = 256
_REMEMBERED_BYTES = 32_000_000
_PATIENT_ATTEMPTS = 3
_PLAN = "reembedding"
_quote = asyncpg.dialect().identifier_preparer.quote


class Reembedding:
    """One change of model. `database` is open with the model it records, `embedding` is the new one."""

    def __init__(self, database: Database, embedding: EmbeddingProvider, progress: Progress | None = None) -> None:
        self._database = database
        self._embedding = embedding
        self._progress = progress or _silent
        self._old = database.tables
        self._dims = checks.whole(embedding.dims, "dims", 1, MAX_DIMS)
        self._model = checks.name(embedding.model_id, "model_id")
        self._new = build_tables(self._dims, self._old.schema, self._old.generation + 1)
        self._known = _Remembered(_REMEMBERED_BYTES // (4 * self._dims))
        self._done = self._total = 0
        self._holding: AsyncConnection | None = None
        self._made = {"memories": 0, "messages": 0}

    async def run(self) -> Reembedded:
        """Makes the missing vectors and switches. Raises ConflictError while another program does the same."""
        before = self._database.model_id
        if (before, self._database.dims) != (self._model, self._dims):
            async with self._alone():
                await self._begin()
                await self._count()
                for attempt in count(1):
                    await self._fill()
                    await self._build_indexes()
                    await self._fill()  # what was written while the indexes were built
                    if await self._switched(finish=attempt > _PATIENT_ATTEMPTS):
                        break
        return Reembedded(before, self._model, self._dims, **self._made)

    async def abandon(self) -> bool:
        """Gives up a change that was begun, and drops its vectors; whether there was one."""
        async with self._alone():
            column = self._new.vector_column

            async def drop(connection: AsyncConnection) -> bool:
                plan = await self._recorded(connection, _PLAN)
                for name in map(quoted_name, _vector_tables(self._new)):
                    await connection.execute(text(f"ALTER TABLE {name} DROP COLUMN IF EXISTS {column}"))
                await connection.execute(delete(self._old.meta).where(self._old.meta.c.key == _PLAN))
                return plan is not None

            return await locking(self._database.engine, [], drop)

    # ------------------------------------------------------------ beginning

    def _alone(self) -> AbstractAsyncContextManager[None]:
        """Keeps other programs from doing the same."""
        schema = self._old.schema
        taken = f"another program is changing the model of schema {schema!r}; wait for it"
        return alone(self._database.engine, self._database.location, f"{schema}/reembed", taken)

    async def _begin(self) -> None:
        """Records what is being done and adds the columns, or finds that it was begun before."""

        async def begin(connection: AsyncConnection) -> None:
            if (await self._recorded(connection, "generation") or 1) != self._old.generation:
                raise ConflictError(f"the model of schema {self._old.schema!r} was changed a moment ago")
            mine = {"model": self._model, "dims": self._dims}
            if (plan := await self._recorded(connection, _PLAN)) is not None:
                if plan != mine:
                    raise ConfigurationError(
                        f"a change of schema {self._old.schema!r} to {plan['model']} ({plan['dims']} dimensions) is "
                        "half done; finish it with that model, or give it up: neuromem reembed --abandon"
                    )
                return
            column = f"{self._new.vector_column} {HalfVector(self._dims).get_col_spec()}"
            for table in _vector_tables(self._new):
                await connection.execute(text(f"ALTER TABLE {quoted_name(table)} ADD COLUMN {column}"))
            await connection.execute(upsert(self._old.meta).values(key=_PLAN, value=mine))

        await locking(self._database.engine, [], begin)
        for table, key in _keys(self._new).items():
            columns = ", ".join(column.name for column in key)
            index = self._missing_index(table)
            missing = f"({columns}) WHERE {self._new.vector_column} IS NULL"
            create = f"CREATE INDEX {_quote(index)} ON {quoted_name(table)} {missing}"
            await build_index(self._database.engine, create, f"{_quote(self._old.schema)}.{_quote(index)}")

    async def _recorded(self, connection: AsyncConnection, key: str) -> Any:
        meta = self._old.meta
        return await connection.scalar(select(meta.c.value).where(meta.c.key == key))

    async def _count(self) -> None:
        async with self._database.read() as session:
            for table in _vector_tables(self._new):
                made = func.count(self._vector(table))
                row = (await session.execute(select(func.count().label("total"), made.label("made")))).one()
                self._total += row.total
                self._done += row.made
        self._progress(self._done, self._total)

    # ------------------------------------------------------------ vectors

    async def _fill(self) -> None:
        """Makes vectors until hardly any is missing: others write meanwhile, so that none would take for ever."""
        while await self._fill_memories() + await self._fill_messages() >= _BATCH:
            pass

    async def _fill_memories(self) -> int:
        """One pass over the version rows of memories; those of one memory together: their texts are often equal."""
        table = self._new.embeddings.table
        made, place = 0, None
        while True:
            statement = select(table.c.id, table.c.user_id, table.c.memory_id, table.c.version, table.c.content).where(
                self._vector(table).is_(None)
            )
            order = (table.c.memory_id, table.c.version)
            if place is not None:
                statement = statement.where(tuple_(*order) > tuple_(*place))
            async with self._reading() as session:
                rows = (await session.execute(statement.order_by(*order).limit(_BATCH))).all()
            if not rows:
                return made
            vectors = await self._vectors([row.content for row in rows])
            await self._store(table, table.c.id, {row.user_id for row in rows}, [row.id for row in rows], vectors)
            made += len(rows)
            self._made["memories"] += len(rows)
            place = (rows[-1].memory_id, rows[-1].version)

    async def _fill_messages(self) -> int:
        """One pass over the messages that have vectors; all versions of a message share one."""
        table = self._new.conversation_embeddings.table
        made, place = 0, uuid.UUID(int=0)
        while True:
            key = table.c.message_id
            missing = (
                select(key).where(self._vector(table).is_(None), key > place).distinct().order_by(key).limit(_BATCH)
            )
            async with self._reading() as session:
                ids = (await session.execute(missing)).scalars().all()
                if not ids:
                    return made
                rows = (await session.execute(message_queries.to_embed(self._old, ids))).all()
            vectors = await self._vectors([message_queries.text_to_embed(row) for row in rows])
            await self._store(table, key, {row.user_id for row in rows}, [row.message_id for row in rows], vectors)
            made += len(rows)
            self._made["messages"] += len(rows)
            place = ids[-1]

    async def _vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """The new vectors of texts; equal texts are embedded once."""
        digests = [blake2b(item.encode(), digest_size=16).digest() for item in texts]
        missing = {digest: item for digest, item in zip(digests, texts, strict=True) if digest not in self._known}
        fresh: dict[bytes, list[float]] = {}
        if missing:
            answer = await self._embedding.embed_batch(list(missing.values()))
            checked = check_vectors(answer, count=len(missing), dims=self._dims, model_id=self._model)
            fresh = dict(zip(missing, checked, strict=True))
        vectors = [fresh[digest] if digest in fresh else self._known.get(digest) for digest in digests]
        self._known.add(fresh)
        return vectors

    async def _store(
        self,
        table: Table,
        key: ColumnElement[Any],
        owners: Iterable[str],
        ids: Sequence[uuid.UUID],
        vectors: list[list[float]],
    ) -> None:
        vector = self._vector(table)
        statement = (
            update(table)
            .where(key == bindparam("row_key"), vector.is_(None))
            .values({vector.name: bindparam("vector")})
        )
        async with self._writing(owners) as session:
            pairs = [{"row_key": one, "vector": new} for one, new in zip(ids, vectors, strict=True)]
            await session.execute(statement, pairs)
        self._done += len(ids)
        self._total = max(self._total, self._done)
        self._progress(self._done, self._total)

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[Executor]:
        if self._holding is not None:
            yield self._holding
            return
        async with self._database.read() as session:
            yield session

    @asynccontextmanager
    async def _writing(self, owners: Iterable[str]) -> AsyncGenerator[Executor]:
        if self._holding is not None:
            yield self._holding
            return
        async with self._database.session() as session:
            for owner in sorted(owners):
                await session.hold(owner)
            yield session

    # ------------------------------------------------------------ switching

    async def _build_indexes(self) -> None:
        for table in _vector_tables(self._new):
            for index in table.indexes:
                if _is_hnsw(index):
                    create = str(CreateIndex(index).compile(dialect=asyncpg.dialect()))
                    name = f"{_quote(self._old.schema)}.{_quote(str(index.name))}"
                    await build_index(self._database.engine, create, name)

    async def _switched(self, *, finish: bool) -> bool:
        """Drops the old vectors and records the new model, unless a vector is still missing.

        `finish`: make the last few here, while all others wait: they write too much to be caught up with.
        """

        async def switch(connection: AsyncConnection) -> bool:
            missing = or_(*(exists().where(self._vector(table).is_(None)) for table in _vector_tables(self._new)))
            if await connection.scalar(select(missing)):
                if not finish:
                    return False
                self._holding = connection
                try:
                    await self._fill()
                finally:
                    self._holding = None
            memories, messages = (quoted_name(table) for table in _vector_tables(self._new))
            schema, old, new = _quote(self._old.schema), self._old.vector_column, self._new.vector_column
            for statement in (
                f"ALTER TABLE {memories} DROP COLUMN {old}",
                f"ALTER TABLE {messages} DROP COLUMN {old}, ALTER COLUMN {new} SET NOT NULL",
                *(f"DROP INDEX {schema}.{_quote(self._missing_index(table))}" for table in _vector_tables(self._new)),
            ):
                await connection.execute(text(statement))
            meta = self._old.meta
            recorded = {"embedding_model": self._model, "dims": self._dims, "generation": self._new.generation}
            insertion = upsert(meta)
            await connection.execute(
                insertion.on_conflict_do_update(index_elements=["key"], set_={"value": insertion.excluded.value}),
                [{"key": key, "value": value} for key, value in recorded.items()],
            )
            await connection.execute(delete(meta).where(meta.c.key == _PLAN))
            return True

        return await locking(self._database.engine, [self._old.meta, *_vector_tables(self._new)], switch)

    def _vector(self, table: Table) -> ColumnElement[Any]:
        return table.c[self._new.vector_column]

    def _missing_index(self, table: Table) -> str:
        return f"ix_{table.name}_missing_{self._new.generation}"


def _silent(done: int, total: int) -> None:
    """Tells nobody."""


class _Remembered:
    """The vectors of the last texts, in single precision as the database keeps them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._vectors: OrderedDict[bytes, array[float]] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._vectors

    def get(self, digest: bytes) -> list[float]:
        self._vectors.move_to_end(digest)
        return self._vectors[digest].tolist()

    def add(self, vectors: dict[bytes, list[float]]) -> None:
        for digest, vector in vectors.items():
            self._vectors[digest] = array("f", vector)
        while len(self._vectors) > self._most:
            self._vectors.popitem(last=False)


def _vector_tables(tables: Tables) -> tuple[Table, Table]:
    return tables.embeddings.table, tables.conversation_embeddings.table


def _keys(tables: Tables) -> dict[Table, tuple[ColumnElement[Any], ...]]:
    memories, messages = _vector_tables(tables)
    return {memories: (memories.c.memory_id, memories.c.version), messages: (messages.c.message_id,)}


def _is_hnsw(index: Any) -> bool:
    return index.dialect_options["postgresql"]["using"] == "hnsw"
