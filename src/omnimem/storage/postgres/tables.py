"""The tables of one opened database, as one value."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from memground.postgres.arms import HalfVector, KeywordArm, VectorArm
from memground.postgres.queue import jobs_table
from omnimem.models.scope import DIMENSIONS

SCOPE_COLUMNS = (*(f"scope_{dimension}" for dimension in DIMENSIONS), "scope_tags")
INDEXES = ("vector", "keyword")
"""The two indexes by name."""
VIEW = "memory_keyword_all"
WORD_COLUMNS = ("words", "tenant_words", "user_words")
"""The words of a text three times: numbered for everybody, for the tenant and for the user. A search reads those of
the narrowest it names, so that it costs what their rows cost."""


@dataclass(frozen=True, eq=False)  # compared by identity: `build_tables` gives one per database
class Tables:
    """The tables in `schema`, for vectors of `dims` numbers. `truth`: the records are here, in `memories`.

    `generation`: counts the embedding models, from 1 on; the tables of vectors have names of their own in each.
    """

    metadata: MetaData
    schema: str
    dims: int
    truth: bool
    generation: int
    memories: Table
    tombstones: Table
    vectors: Table
    vector_history: Table
    keywords: Table
    keyword_history: Table
    keywords_ever: Table
    """A view: `keywords` and `keyword_history` as one."""
    documents: Table
    """What filters may name of each record in the indexes, where the truth is elsewhere."""
    states: Table
    jobs: Table
    meta: Table

    @property
    def filtered(self) -> Table:
        """By what of a record an index filters: the truth, or what it keeps of it."""
        return self.memories if self.truth else self.documents

    @property
    def vector_index(self) -> str:
        """The name of the vector index among the states."""
        return f"vector{_suffix(self.generation)}"

    def vector_arm(self, table: Table) -> VectorArm:
        return VectorArm(table.c.embedding, table.c.scope_tenant_id, self.dims)


@lru_cache(maxsize=32)
def build_tables(dims: int, schema: str, *, truth: bool = True, generation: int = 1) -> Tables:
    """The tables of one database. The same arguments give the same objects, so that compiled SQL is shared."""
    metadata, suffix = MetaData(schema=schema), _suffix(generation)
    keywords, keyword_history, keywords_ever = _keyword_tables(metadata, schema)
    tables = Tables(
        metadata=metadata,
        schema=schema,
        dims=dims,
        truth=truth,
        generation=generation,
        memories=_memories(metadata),
        tombstones=Table(
            "memory_tombstones",
            metadata,
            Column("memory_id", Text, primary_key=True),
            Column("deleted_time", DateTime(timezone=True), nullable=False),
        ),
        vectors=Table(f"memory_vector_index{suffix}", metadata, *_vector_columns(dims)),
        vector_history=Table(f"memory_vector_history{suffix}", metadata, *_vector_columns(dims), _superseded()),
        keywords=keywords,
        keyword_history=keyword_history,
        keywords_ever=keywords_ever,
        documents=_documents(metadata),
        states=Table(
            "memory_index_states",
            metadata,
            Column("index_name", String(50), primary_key=True),
            Column("memory_id", Text, primary_key=True),
            Column("version", BigInteger, nullable=False),
            Column("is_deleted", Boolean, nullable=False),
        ),
        jobs=jobs_table(metadata),
        meta=Table(
            "meta", metadata, Column("key", String(50), primary_key=True), Column("value", JSONB, nullable=False)
        ),
    )
    _vector_indexes(tables)
    return tables


def scope_columns() -> list[Column[Any]]:
    return [*(Column(f"scope_{d}", Text) for d in DIMENSIONS), Column("scope_tags", ARRAY(Text), nullable=False)]


def _memories(metadata: MetaData) -> Table:
    time = DateTime(timezone=True)
    table = Table(
        "memories",
        metadata,
        Column("record_id", Text, primary_key=True),
        Column("memory_id", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("is_latest", Boolean, nullable=False),
        *scope_columns(),
        Column("text", Text),
        Column("data", JSONB(none_as_null=True)),
        Column("content_schema", JSONB(none_as_null=True)),
        Column("metadata", JSONB, nullable=False),
        Column("type", String(50), nullable=False),
        Column("sources", JSONB, nullable=False),
        Column("index_hint", JSONB, nullable=False),
        Column("created_time", time, nullable=False),
        Column("superseded_time", time),
        Column("event_time", time),
        Column("valid_time_from", time),
        Column("valid_time_to", time),
    )
    latest = table.c.is_latest
    Index("uq_memories_latest", table.c.memory_id, unique=True, postgresql_where=latest)
    Index("uq_memories_version", table.c.memory_id, table.c.version, unique=True)
    Index("ix_memories_latest_version", table.c.version, table.c.memory_id, postgresql_where=latest)
    for dimension in DIMENSIONS:
        column = table.c[f"scope_{dimension}"]
        Index(f"ix_memories_{dimension}", column, table.c.version, postgresql_where=column.is_not(None))
    Index("ix_memories_tags", table.c.scope_tags, postgresql_using="gin", postgresql_where=latest)
    return table


def _documents(metadata: MetaData) -> Table:
    time = DateTime(timezone=True)
    table = Table(
        "memory_filter_documents",
        metadata,
        Column("record_id", Text, primary_key=True),
        Column("memory_id", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        *scope_columns(),
        Column("text", Text),
        Column("data", JSONB(none_as_null=True)),
        Column("metadata", JSONB, nullable=False),
        Column("type", String(50), nullable=False),
        Column("sources", JSONB, nullable=False),
        Column("created_time", time, nullable=False),
        Column("event_time", time),
        Column("valid_time_from", time),
        Column("valid_time_to", time),
        *(Column(f"in_{index}_index", Boolean, nullable=False) for index in INDEXES),
    )
    Index("ix_memory_filter_documents_memory", table.c.memory_id)
    _scope_indexes(table)
    return table


def _superseded() -> Column[Any]:
    return Column("superseded_time", DateTime(timezone=True), nullable=False)


def _vector_columns(dims: int) -> list[Column[Any]]:
    return [
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("memory_id", Text, nullable=False),
        Column("field_name", Text, nullable=False),
        Column("model_id", String(255), nullable=False),
        Column("record_id", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        *scope_columns(),
        Column("content_hash", String(32), nullable=False),
        Column("created_time", DateTime(timezone=True), nullable=False),
        Column("embedding", HalfVector(dims), nullable=False),
    ]


def _suffix(generation: int) -> str:
    return "" if generation == 1 else f"_{generation}"


def _vector_indexes(tables: Tables) -> None:
    current, history, suffix = tables.vectors, tables.vector_history, _suffix(tables.generation)
    Index(f"uq_memory_vector{suffix}", current.c.memory_id, current.c.field_name, current.c.model_id, unique=True)
    Index(
        f"uq_memory_vector_history{suffix}", history.c.record_id, history.c.field_name, history.c.model_id, unique=True
    )
    Index(f"ix_memory_vector_history{suffix}_memory", history.c.memory_id, history.c.version)
    for table in (current, history):
        tables.vector_arm(table).index(f"idx_{table.name}_embedding")
        _scope_indexes(table)


def _keyword_tables(metadata: MetaData, schema: str) -> tuple[Table, Table, Table]:
    def columns() -> list[Column[Any]]:
        return [
            Column("memory_id", Text, nullable=False),
            Column("record_id", Text, nullable=False),
            Column("version", BigInteger, nullable=False),
            *scope_columns(),
            Column("content_hash", String(32), nullable=False),
            Column("created_time", DateTime(timezone=True), nullable=False),
            *(Column(name, ARRAY(BigInteger), nullable=False) for name in WORD_COLUMNS),
        ]

    current = Table("memory_keyword_index", metadata, *columns())
    history = Table("memory_keyword_history", metadata, *columns(), _superseded())
    ever = Table(VIEW, MetaData(schema=schema), *columns(), Column("superseded_time", DateTime(timezone=True)))
    Index("uq_memory_keyword", current.c.memory_id, unique=True)
    Index("uq_memory_keyword_history", history.c.record_id, unique=True)
    Index("ix_memory_keyword_history_memory", history.c.memory_id, history.c.version)
    for table in (current, history):
        for name in WORD_COLUMNS:
            KeywordArm(table.c[name]).index(f"idx_{table.name}_{name}")
        _scope_indexes(table)
    return current, history, ever


def _scope_indexes(table: Table) -> None:
    for dimension in DIMENSIONS:
        column = table.c[f"scope_{dimension}"]
        Index(f"ix_{table.name}_{dimension}", column, postgresql_where=column.is_not(None))
