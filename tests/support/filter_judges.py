"""Backends that judge documents by a compiled filter: :class:`support.filters.Judge` for each."""

import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from elasticsearch import AsyncElasticsearch
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.write_concern import WriteConcern
from sqlalchemy import (
    REAL,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from memground.filters import FieldKind, Filter, check, matches
from memground.postgres.filter_sql import FilterColumn, compile_sql
from omnimem.storage.elasticsearch.conditions import DECIDED, condition
from omnimem.storage.elasticsearch.documents import describe, encoded
from omnimem.storage.elasticsearch.mapping import index_settings, mappings
from omnimem.storage.mongodb.coding import write_time, write_value
from omnimem.storage.mongodb.filter_query import compile_query
from omnimem.storage.settings.elasticsearch import ElasticsearchSettings
from support.filters import FIELDS
from support.toys import toy_tables

table = Table(
    "filtered",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("metadata", JSONB(none_as_null=True)),
    Column("data", JSONB(none_as_null=True)),
    Column("importance", SmallInteger),
    Column("score", Double),
    Column("ratio", REAL),
    Column("price", Numeric),
    Column("title", Text),
    Column("at", DateTime(timezone=True)),
    Column("done", Boolean),
)
COLUMNS = {name: FilterColumn(kind, table.c[name]) for name, kind in FIELDS.items()}


class PostgresJudge:
    """One row a document, one column a filter."""

    fields: Mapping[str, FieldKind] = FIELDS
    more_scalars: Sequence[Any] = (10**30,)

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def verdicts(
        self, documents: Sequence[Mapping[str, Any]], filters: Sequence[Filter]
    ) -> list[tuple[bool, ...]]:
        async with self.connection.begin_nested() as savepoint:
            await self.connection.execute(
                insert(table), [{"id": i, **document} for i, document in enumerate(documents)]
            )
            conditions = [compile_sql(filter, COLUMNS).label(f"f{i}") for i, filter in enumerate(filters)]
            judged = (await self.connection.execute(select(*conditions).order_by(table.c.id))).all()
            await savepoint.rollback()
        return [tuple(row) for row in judged]


class MongoJudge:
    """One document each, one query a filter; the predicate finishes only what the compiler left to it."""

    fields: Mapping[str, FieldKind] = {
        name: kind for name, kind in FIELDS.items() if name not in ("score", "ratio", "price")
    }
    more_scalars: Sequence[Any] = ()

    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self._collection = database.get_collection("filtered", write_concern=WriteConcern(w=1, j=False))

    async def verdicts(
        self, documents: Sequence[Mapping[str, Any]], filters: Sequence[Filter]
    ) -> list[tuple[bool, ...]]:
        compiled = [compile_query(filter, self.fields) for filter in filters]
        await self._collection.delete_many({})
        await self._collection.insert_many(
            [{"_id": i, **{key: _written(value) for key, value in each.items()}} for i, each in enumerate(documents)]
        )
        found: list[set[int]] = []
        for start in range(0, len(compiled), 20):
            # As lookups of one aggregation: a round trip for each would take longer than all of them.
            part = compiled[start : start + 20]
            facets = {f"f{i}": [{"$match": each.query}, {"$project": {"_id": 1}}] for i, each in enumerate(part)}
            (row,) = await (await self._collection.aggregate([{"$facet": facets}])).to_list()
            found += [{document["_id"] for document in row[f"f{i}"]} for i in range(len(part))]
        return [
            tuple(
                i in passing and (each.exact or matches(filter, document))
                for passing, each, filter in zip(found, compiled, filters, strict=True)
            )
            for i, document in enumerate(documents)
        ]


class ElasticsearchJudge:
    """One document each, one query a filter; the predicate finishes only what the index says it did not decide."""

    fields: Mapping[str, FieldKind] = MongoJudge.fields
    more_scalars: Sequence[Any] = (10**30, "x" * 240, "x" * 9_000)

    def __init__(self, client: AsyncElasticsearch, index: str) -> None:
        self._client = client
        self._index = index

    async def verdicts(
        self, documents: Sequence[Mapping[str, Any]], filters: Sequence[Filter]
    ) -> list[tuple[bool, ...]]:
        lines: Any = [
            line
            for i, each in enumerate(documents)
            for line in (encoded({"index": {"_id": str(i)}}), encoded(describe(each)))
        ]
        written = await self._client.bulk(index=self._index, operations=lines, refresh=True)
        assert not written["errors"]
        these = {"ids": {"values": [str(i) for i in range(len(documents))]}}
        searches: list[Mapping[str, Any]] = []
        for filter in filters:
            query = {"bool": {"filter": [these, condition(check(filter, self.fields))]}}
            searches += [{}, {"query": query, "size": len(documents), "_source": False}]
        answer = await self._client.msearch(index=self._index, searches=searches)
        found = [
            {int(hit["_id"]): hit.get("matched_queries", []) for hit in each["hits"]["hits"]}
            for each in answer["responses"]
        ]
        return [
            tuple(
                i in hits and (DECIDED in hits[i] or matches(filter, document))
                for hits, filter in zip(found, filters, strict=True)
            )
            for i, document in enumerate(documents)
        ]


def _written(value: Any) -> Any:
    return write_time(value) if isinstance(value, datetime) else write_value(value)


@asynccontextmanager
async def postgres_judge(pg_url: str, mongo_url: str, search_url: str) -> AsyncGenerator[PostgresJudge]:
    async with toy_tables(pg_url, table.metadata) as engine, engine.connect() as connection:
        yield PostgresJudge(connection)
        await connection.rollback()


@asynccontextmanager
async def mongo_judge(pg_url: str, mongo_url: str, search_url: str) -> AsyncGenerator[MongoJudge]:
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        name = f"filters_{uuid.uuid4().hex[:8]}"
        yield MongoJudge(client[name])
        await client.drop_database(name)


@asynccontextmanager
async def elasticsearch_judge(pg_url: str, mongo_url: str, search_url: str) -> AsyncGenerator[ElasticsearchJudge]:
    async with AsyncElasticsearch(search_url, request_timeout=60) as client:
        index = f"filters-{uuid.uuid4().hex[:8]}"
        made = index_settings(ElasticsearchSettings(replicas=0, refresh_interval="-1"))
        await client.indices.create(index=index, settings=made, mappings=mappings())
        yield ElasticsearchJudge(client, index)
        await client.indices.delete(index=index)
