"""All tables of one opened database, as one value."""

from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Column, MetaData, String, Table
from sqlalchemy.dialects.postgresql import JSONB

from memground.postgres.arms import KeywordArm, VectorArm
from memground.postgres.queue import jobs_table
from memground.postgres.versioned import VersionedTable
from neuromem.models import conversation, document, emotion, graph, history, kv, memory
from neuromem.models.columns import generation_name


@dataclass(frozen=True, eq=False)  # compared by identity: `build_tables` gives one per database
class Tables:
    """The tables in `schema` for vectors of `dims` numbers, with their search arms.

    `generation`: 1, and one more each time the schema's model was changed; `vector_column` is named after it.
    """

    metadata: MetaData
    schema: str
    dims: int
    generation: int
    embeddings: VersionedTable
    memory_sources: VersionedTable
    key_values: VersionedTable
    conversations: VersionedTable
    conversation_sessions: Table
    conversation_embeddings: VersionedTable
    documents: VersionedTable
    graph_nodes: VersionedTable
    graph_edges: VersionedTable
    emotion_profiles: VersionedTable
    jobs: Table
    meta: Table
    memory_vectors: VectorArm
    memory_words: KeywordArm
    message_vectors: VectorArm
    message_words: KeywordArm
    history_horizons: Table

    @property
    def vector_column(self) -> str:
        return generation_name("embedding", self.generation)


@lru_cache(maxsize=32)
def build_tables(dims: int, schema: str, generation: int = 1) -> Tables:
    """The tables for one database. The same arguments give the same objects, so that compiled SQL is shared."""
    metadata = MetaData(schema=schema)
    embeddings, memory_vectors, memory_words = memory.embeddings(metadata, dims, generation)
    conversations, message_words = conversation.conversations(metadata)
    conversation_embeddings, message_vectors = conversation.conversation_embeddings(metadata, dims, generation)
    return Tables(
        metadata=metadata,
        schema=schema,
        dims=dims,
        generation=generation,
        embeddings=embeddings,
        memory_sources=memory.memory_sources(metadata),
        key_values=kv.key_values(metadata),
        conversations=conversations,
        conversation_sessions=conversation.conversation_sessions(metadata),
        conversation_embeddings=conversation_embeddings,
        documents=document.documents(metadata),
        graph_nodes=graph.graph_nodes(metadata),
        graph_edges=graph.graph_edges(metadata),
        emotion_profiles=emotion.emotion_profiles(metadata),
        jobs=jobs_table(metadata),
        meta=Table(
            "meta", metadata, Column("key", String(50), primary_key=True), Column("value", JSONB, nullable=False)
        ),
        memory_vectors=memory_vectors,
        memory_words=memory_words,
        message_vectors=message_vectors,
        message_words=message_words,
        history_horizons=history.history_horizons(metadata),
    )
