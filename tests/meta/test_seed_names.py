"""Names, signatures and defaults that the architecture document gives are a contract: each is held here.

Where the design departs from the document, the line says how.
"""

import inspect
from abc import ABC
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.dialects import postgresql

import neuromem
from neuromem import MemoryType, NeuroMemory, RecallResult
from neuromem.db import Database
from neuromem.extraction.items import Extraction
from neuromem.facades import ConversationsFacade, FilesFacade, GraphFacade, KVFacade
from neuromem.models import build_tables
from neuromem.providers.embedding import (
    EmbeddingProvider,
    OpenAIEmbedding,
    SentenceTransformerEmbedding,
    SiliconFlowEmbedding,
)
from neuromem.providers.llm import LLMProvider, OpenAILLM
from neuromem.providers.s3_storage import S3Storage
from neuromem.providers.storage import ObjectStorage
from neuromem.services.conversations import ConversationService
from neuromem.services.extraction import MemoryExtractionService
from neuromem.services.file_processor import FileProcessor
from neuromem.services.files import FileService
from neuromem.services.graph import GraphService
from neuromem.services.graph_memory import GraphMemoryService
from neuromem.services.kv import KVService
from neuromem.services.memories import MemoryService
from neuromem.services.recall import RecallService
from neuromem.services.reflection import ReflectionService
from neuromem.services.search import SearchService
from neuromem.services.temporal import TemporalService

# Table: {column: (type, NOT NULL, default)}. The document writes no NOT NULL for columns that are filled anyway.
TABLES: dict[str, dict[str, tuple[str, bool, str | None]]] = {
    "embeddings": {
        "id": ("UUID", True, None),
        "user_id": ("VARCHAR(255)", True, None),
        "content": ("TEXT", True, None),
        "embedding": ("halfvec(1024) STORAGE MAIN", False, None),  # VECTOR(1024), in half precision: ADR 10
        "memory_type": ("VARCHAR(50)", True, "general"),
        "metadata_": ("JSONB", True, None),
        "created_at": ("TIMESTAMP WITH TIME ZONE", True, None),
        "updated_at": ("TIMESTAMP WITH TIME ZONE", False, None),
    },
    "key_values": {
        "id": ("UUID", True, None),
        "namespace": ("VARCHAR(255)", True, None),
        "scope_id": ("VARCHAR(255)", True, None),
        "key": ("VARCHAR(255)", True, None),
        "value": ("JSONB", True, None),
        "created_at": ("TIMESTAMP WITH TIME ZONE", True, None),
        "updated_at": ("TIMESTAMP WITH TIME ZONE", False, None),
    },
    "conversations": {
        "id": ("UUID", True, None),
        "user_id": ("VARCHAR(255)", True, None),
        "session_id": ("VARCHAR(255)", True, None),
        "role": ("VARCHAR(50)", True, None),
        "content": ("TEXT", True, None),
        "extracted": ("BOOLEAN", True, "false"),
        "metadata_": ("JSONB", True, None),
        "created_at": ("TIMESTAMP WITH TIME ZONE", True, None),
    },
    "conversation_sessions": {
        "id": ("UUID", True, None),
        "user_id": ("VARCHAR(255)", True, None),
        "session_id": ("VARCHAR(255)", True, None),
        "message_count": ("INTEGER", True, "0"),
        "last_message_at": ("TIMESTAMP WITH TIME ZONE", False, None),
        "created_at": ("TIMESTAMP WITH TIME ZONE", True, None),
        "updated_at": ("TIMESTAMP WITH TIME ZONE", True, None),
    },
    "documents": {
        "id": ("UUID", True, None),
        "user_id": ("VARCHAR(255)", True, None),
        "filename": ("VARCHAR(500)", True, None),
        "file_type": ("VARCHAR(50)", False, None),
        "mime_type": ("VARCHAR(100)", False, None),
        "file_size": ("INTEGER", False, None),
        "object_key": ("VARCHAR(500)", False, None),
        "extracted_text": ("TEXT", False, None),
        "embedding_id": ("UUID", False, None),  # names the logical id of a memory, so it is no foreign key
        "category": ("VARCHAR(100)", True, "general"),
        "tags": ("JSONB", False, None),
        "metadata_": ("JSONB", True, None),
        "source_type": ("VARCHAR(50)", False, None),
        "created_at": ("TIMESTAMP WITH TIME ZONE", True, None),
        "updated_at": ("TIMESTAMP WITH TIME ZONE", False, None),
    },
    "graph_nodes": {
        "id": ("UUID", True, None),
        "user_id": ("VARCHAR(255)", True, None),
        "node_type": ("VARCHAR(100)", True, None),
        "node_id": ("VARCHAR(255)", True, None),
        "properties": ("JSONB", True, None),
        "created_at": ("TIMESTAMP WITH TIME ZONE", True, None),
        "updated_at": ("TIMESTAMP WITH TIME ZONE", False, None),
    },
    "graph_edges": {
        "id": ("UUID", True, None),
        "user_id": ("VARCHAR(255)", True, None),
        "source_type": ("VARCHAR(100)", True, None),
        "source_id": ("VARCHAR(255)", True, None),
        "edge_type": ("VARCHAR(100)", True, None),
        "target_type": ("VARCHAR(100)", True, None),
        "target_id": ("VARCHAR(255)", True, None),
        "properties": ("JSONB", True, None),
        "created_at": ("TIMESTAMP WITH TIME ZONE", True, None),
        "updated_at": ("TIMESTAMP WITH TIME ZONE", False, None),
    },
    # Named in sections 7 and 10, without columns beyond these.
    "conversation_embeddings": {"embedding": ("halfvec(1024) STORAGE MAIN", True, None)},
    "emotion_profiles": {
        "latest_state": ("TEXT", False, None),
        "valence_avg": ("FLOAT", False, None),
        "dominant_emotions": ("JSONB", False, None),
    },
}

TAKES: dict[Callable[..., Any], str] = {
    NeuroMemory.__init__: "database_url embedding llm storage",
    NeuroMemory.ingest: "user_id role content",
    NeuroMemory.recall: "user_id query",
    NeuroMemory.delete_user_data: "user_id",
    NeuroMemory.export_user_data: "user_id",
    NeuroMemory.import_user_data: "user_id records",
    NeuroMemory.entity_profile: "user_id entity",
    NeuroMemory.stats: "user_id",
    KVFacade.set: "namespace scope_id key value",
    KVService.set: "namespace scope_id key value",
    KVService.__init__: "session",
    SearchService.__init__: "session embedding",
    ConversationService.__init__: "session",
    MemoryService.__init__: "session",
    TemporalService.__init__: "session",
    MemoryExtractionService.__init__: "session embedding llm",
    ReflectionService.__init__: "session embedding llm",
    NeuroMemory.digest: "user_id",
    FileService.__init__: "session embedding storage",
    FileProcessor.process: "filename data",
    FilesFacade.upload: "user_id filename data",
    GraphService.__init__: "session",
    GraphMemoryService.__init__: "session",
    GraphFacade.create_node: "user_id node_type node_id properties",
    GraphFacade.create_edge: "user_id source_type source_id edge_type target_type target_id properties",
    GraphFacade.get_neighbors: "user_id node_type node_id",
    GraphFacade.find_path: "user_id source_type source_id target_type target_id max_depth",
    Database.__init__: "url",  # and by name what an opened database knows: dims and model_id
    EmbeddingProvider.embed: "text",
    EmbeddingProvider.embed_batch: "texts",
    LLMProvider.chat: "messages temperature max_tokens",
    ObjectStorage.upload: "prefix filename data content_type",
    ObjectStorage.download: "object_key",
    ObjectStorage.delete: "object_key",
    ObjectStorage.get_presigned_url: "object_key expires_in",
}

METHODS: dict[type, str] = {
    NeuroMemory: "add_memory search ingest recall digest emotion_profile delete_user_data "
    "export_user_data import_user_data entity_profile stats",
    KVFacade: "set get list delete batch_set",
    ConversationsFacade: "ingest",
    GraphFacade: "create_node get_node update_node delete_node create_edge delete_edge get_neighbors find_path",
    GraphService: "create_node get_node update_node delete_node create_edge delete_edge get_neighbors find_path",
    GraphMemoryService: "store_triples find_entity_facts",
    FilesFacade: "upload create_from_text list search get download_url delete",
    FileService: "upload",
    FileProcessor: "process",
    KVService: "set get list delete batch_set",
    SearchService: "scored_search",
    MemoryExtractionService: "_classify_messages",
    ReflectionService: "_generate_insights _update_emotion_profile",
    RecallService: "_fetch_vector_memories _fetch_user_profile _search_conversations",
    Database: "session init close",
    EmbeddingProvider: "embed embed_batch",
    LLMProvider: "chat",
    ObjectStorage: "init upload download delete get_presigned_url",
}

METADATA = build_tables(1024, "neuromem").metadata


def positional(function: Callable[..., Any]) -> list[str]:
    """The parameters a caller may give by place, without self."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]


def test_the_class_goes_by_both_names() -> None:
    assert neuromem.neuromem is neuromem.NeuroMemory
    defaults = inspect.signature(NeuroMemory).parameters
    assert defaults["database_url"].default is None  # the embedded PostgreSQL
    assert defaults["pool_size"].default == 10


@pytest.mark.seed("3.1", "the class takes database_url, embedding, llm and storage")
@pytest.mark.parametrize("function", TAKES, ids=lambda function: function.__qualname__)
def test_parameters_come_in_the_seed_s_order(function: Callable[..., Any]) -> None:
    expected = TAKES[function].split()
    assert positional(function)[: len(expected)] == expected


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_methods_have_the_seed_s_names(cls: type) -> None:
    for name in METHODS[cls].split():
        assert callable(getattr(cls, name)), name


@pytest.mark.seed("3.1", "kv, conversations, files and graph are facades")
@pytest.mark.seed("3.3", "Database(url, pool_size=10)")
def test_a_mind_has_the_seed_s_rooms() -> None:
    mind = NeuroMemory("postgresql://localhost/x", OpenAIEmbedding(api_key="k"))
    assert type(mind.kv) is KVFacade
    assert type(mind.conversations) is ConversationsFacade
    assert type(mind.graph) is GraphFacade
    assert type(mind.files) is FilesFacade
    assert type(mind._db) is Database
    assert isinstance(mind._embedding, OpenAIEmbedding)
    assert inspect.signature(Database).parameters["pool_size"].default == 10
    assert isinstance(Database.engine, property)


def test_recall_answers_in_the_seed_s_parts() -> None:
    parts = {"vector_results", "graph_results", "graph_context", "user_profile", "merged"}
    assert parts <= RecallResult.__dataclass_fields__.keys()
    assert inspect.signature(NeuroMemory.recall).parameters["query_embedding"].default is None


def test_extraction_is_on_where_there_is_a_model() -> None:
    parameters = inspect.signature(NeuroMemory).parameters
    assert parameters["auto_extract"].default is True
    assert parameters["graph_enabled"].default is True
    assert {"facts", "episodes", "triples", "profile_updates"} <= set(Extraction.__dataclass_fields__)


@pytest.mark.seed("4.1", "embeddings: memory_type is general by default")
def test_memory_types() -> None:
    assert {"general", "fact", "episodic", "insight"} <= set(MemoryType)
    assert inspect.signature(NeuroMemory.add_memory).parameters["memory_type"].default == "general"


@pytest.mark.seed("5.1", "EmbeddingProvider.embed(text) is abstract and gives a list of floats")
@pytest.mark.seed("5.1", "EmbeddingProvider.embed_batch(texts) need not be written")
@pytest.mark.seed("5.1", "EmbeddingProvider.dims is an abstract property")
def test_an_embedding_provider_needs_dims_and_embed() -> None:
    assert issubclass(EmbeddingProvider, ABC)
    assert EmbeddingProvider.__abstractmethods__ == {"dims", "embed"}
    assert isinstance(EmbeddingProvider.dims, property)
    assert inspect.signature(EmbeddingProvider.embed).return_annotation == list[float]
    assert inspect.signature(EmbeddingProvider.embed_batch).return_annotation == list[list[float]]


@pytest.mark.seed("2", "embeddings by SiliconFlow or OpenAI")
def test_built_in_providers_and_their_models() -> None:
    assert issubclass(SentenceTransformerEmbedding, EmbeddingProvider)
    for cls, model, dims in (
        (SiliconFlowEmbedding, "BAAI/bge-m3", 1024),
        (OpenAIEmbedding, "text-embedding-3-small", 1536),
    ):
        provider = cls(api_key="k")
        assert (provider.model_id, provider.dims) == (model, dims)


async def test_a_provider_of_one_s_own_as_the_seed_writes_it() -> None:
    class MyEmbedding(EmbeddingProvider):
        @property
        def dims(self) -> int:
            return 768

        async def embed(self, text: str) -> list[float]:
            return [float(len(text))] * 768

    provider = MyEmbedding()
    assert await provider.embed_batch(["a", "bc"]) == [[1.0] * 768, [2.0] * 768]
    NeuroMemory(database_url="postgresql://localhost/x", embedding=provider)


@pytest.mark.seed("2", "memories are extracted by OpenAI or DeepSeek")
@pytest.mark.seed("5.2", "LLMProvider.chat(messages, temperature=0.7, max_tokens=1024) is abstract and gives a text")
def test_a_language_model_needs_chat() -> None:
    assert issubclass(LLMProvider, ABC)
    assert LLMProvider.__abstractmethods__ == {"chat"}
    assert inspect.iscoroutinefunction(LLMProvider.chat)
    assert positional(LLMProvider.chat) == ["messages", "temperature", "max_tokens"]
    chat = inspect.signature(LLMProvider.chat)
    assert (chat.parameters["temperature"].default, chat.parameters["max_tokens"].default) == (0.7, 1024)
    assert chat.return_annotation is str
    assert isinstance(OpenAILLM(api_key="k"), LLMProvider)
    assert isinstance(OpenAILLM(api_key="k", base_url="https://api.deepseek.com", model="deepseek-chat"), LLMProvider)


@pytest.mark.seed("5.3", "ObjectStorage.init()", "ObjectStorage.delete(object_key)")
@pytest.mark.seed("5.3", "ObjectStorage.upload(prefix, filename, data, content_type) gives a key")
@pytest.mark.seed("5.3", "ObjectStorage.download(object_key) gives bytes")
@pytest.mark.seed("5.3", "ObjectStorage.get_presigned_url(object_key, expires_in=3600) gives an address")
def test_an_object_storage_has_the_seed_s_calls() -> None:
    assert issubclass(ObjectStorage, ABC)
    assert {"init", "upload", "download", "delete", "get_presigned_url"} == ObjectStorage.__abstractmethods__
    taken = {name: positional(getattr(ObjectStorage, name)) for name in ObjectStorage.__abstractmethods__}
    assert taken == {
        "init": [],
        "upload": ["prefix", "filename", "data", "content_type"],
        "download": ["object_key"],
        "delete": ["object_key"],
        "get_presigned_url": ["object_key", "expires_in"],
    }
    assert inspect.signature(ObjectStorage.get_presigned_url).parameters["expires_in"].default == 3600
    answers = {name: inspect.signature(getattr(ObjectStorage, name)).return_annotation for name in taken}
    assert answers == {"init": None, "upload": str, "download": bytes, "delete": None, "get_presigned_url": str}
    assert all(inspect.iscoroutinefunction(getattr(ObjectStorage, name)) for name in taken)
    assert isinstance(S3Storage(endpoint="http://localhost:9000"), ObjectStorage)


async def test_a_language_model_of_one_s_own_as_the_seed_writes_it() -> None:
    class MyLLM(LLMProvider):
        async def chat(self, messages: list[dict], temperature=0.7, max_tokens=1024) -> str:
            return "{}"

    NeuroMemory("postgresql://localhost/x", OpenAIEmbedding(api_key="k"), MyLLM(), None)
    assert await MyLLM().chat_json([{"role": "user", "content": "x"}], schema={}) == "{}"


@pytest.mark.seed("4.1", "embeddings: its columns and their types")
@pytest.mark.seed("4.2", "key_values: its columns and their types")
@pytest.mark.seed(
    "4.3", "conversations: its columns and their types", "conversation_sessions: its columns and their types"
)
@pytest.mark.seed("4.3", "extracted is false and message_count 0 by default")
@pytest.mark.seed("4.4", "documents: category is general by default")
@pytest.mark.seed("2", "the graph is kept in tables")
@pytest.mark.seed("4.5", "graph_nodes: id and user_id", "graph_edges: id and user_id")
@pytest.mark.seed("4.5", "graph_nodes: node_type and node_id", "graph_edges: source_type and source_id")
@pytest.mark.seed("4.5", "graph_edges: edge_type", "graph_edges: target_type and target_id")
@pytest.mark.seed("4.5", "graph_nodes: properties", "graph_edges: properties")
@pytest.mark.seed("4.5", "graph_nodes: created_at and updated_at", "graph_edges: created_at and updated_at")
@pytest.mark.parametrize("name", TABLES)
def test_tables_have_the_seed_s_columns(name: str) -> None:
    table = METADATA.tables[f"neuromem.{name}"]
    assert [column.name for column in table.primary_key] == ["id"]
    for column, expected in TABLES[name].items():
        found = table.c[column]
        default = None if found.server_default is None or found.computed is not None else str(found.server_default.arg)
        assert (found.type.compile(postgresql.dialect()), not found.nullable, default) == expected, column


@pytest.mark.seed("4.1", "idx_emb_vector: HNSW over cosine distance", "ix_emb_user")
def test_indexes_have_the_seed_s_names() -> None:
    indexes = {index.name: index for index in METADATA.tables["neuromem.embeddings"].indexes}
    vector = indexes["idx_emb_vector"]
    assert [column.name for column in vector.columns] == ["embedding"]
    options = vector.dialect_options["postgresql"]
    assert (options["using"], options["ops"]) == ("hnsw", {"embedding": "halfvec_cosine_ops"})
    assert [column.name for column in indexes["ix_emb_user"].columns] == ["user_id"]


@pytest.mark.seed("4.2", "namespace, scope_id and key are unique together")
@pytest.mark.seed("4.3", "session_id is unique")
def test_unique_names_are_unique_among_what_is_current() -> None:
    """The seed's UNIQUE (namespace, scope_id, key); a session's name is its user's own, not the whole database's."""
    for table, index, columns in (
        ("key_values", "uq_kv_name", ["namespace", "scope_id", "key"]),
        ("conversation_sessions", "uq_session", ["user_id", "session_id"]),
    ):
        found = {index.name: index for index in METADATA.tables[f"neuromem.{table}"].indexes}[index]
        assert found.unique
        assert [column.name for column in found.columns] == columns
