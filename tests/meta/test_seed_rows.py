"""Every row of the architecture document's checklists has a test that names it.

A test carries `@pytest.mark.seed("6.1", "merged is sorted by score")` when it shows that row. A row is a line of a
table, of a class or of a call tree of the document, in our own words. Where the design departs from the document, the
comment says how. The tests are read, not imported.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]

ROWS: dict[str, tuple[str, ...]] = {
    "2": (
        # From 3.12 on: 3.10 is past its end, and the embedded server begins there.
        "Python: async and await all the way",
        "PostgreSQL 16 or newer is the one store",
        "pgvector 0.7 or newer finds vectors",
        "the graph is kept in tables",
        "SQLAlchemy 2 over asyncpg",
        "embeddings by SiliconFlow or OpenAI",
        "memories are extracted by OpenAI or DeepSeek",
        "files are stored by boto3, through the interface of S3",
    ),
    "3.1": (
        "the class takes database_url, embedding, llm and storage",
        "kv, conversations, files and graph are facades",
        "each call of a facade has a session of its own",
    ),
    "3.2": (
        "providers are given to the constructor, none is global",
        "llm and storage may be left out",
    ),
    "3.3": (
        "Database(url, pool_size=10)",
        "session() commits at the end of the block",
        "session() rolls back on an error and raises it",
        "init() creates the extension vector and all tables",
        "close() gives the connections back",
    ),
    # The document keeps it in a module's variable: here it belongs to the opened database, so that several can be open.
    "3.4": ("the dimension of vectors is the provider's, known when the program runs",),
    "4": ("everything is kept apart by user_id, without tenants",),
    "4.1": (
        "embeddings: its columns and their types",
        "embeddings: memory_type is general by default",
        "idx_emb_vector: HNSW over cosine distance",
        "ix_emb_user",
    ),
    "4.2": ("key_values: its columns and their types", "namespace, scope_id and key are unique together"),
    "4.3": (
        "conversations: its columns and their types",
        "conversation_sessions: its columns and their types",
        "extracted is false and message_count 0 by default",
        # Per user: two users may both have "s1".
        "session_id is unique",
    ),
    "4.4": (
        "documents: id and user_id",
        "documents: filename, file_type, mime_type and file_size",
        "documents: object_key",
        "documents: extracted_text",
        "documents: embedding_id names a memory",
        "documents: category and tags",
        "documents: category is general by default",
        "documents: metadata_",
        "documents: source_type",
        "documents: created_at and updated_at",
    ),
    "4.5": (
        "graph_nodes: id and user_id",
        "graph_nodes: node_type and node_id",
        "graph_nodes: properties",
        "graph_nodes: created_at and updated_at",
        "graph_edges: id and user_id",
        "graph_edges: source_type and source_id",
        "graph_edges: edge_type",
        "graph_edges: target_type and target_id",
        "graph_edges: properties",
        "graph_edges: created_at and updated_at",
        "the graph is walked by SQL over these tables, without Apache AGE or Cypher",
    ),
    "5.1": (
        "EmbeddingProvider.embed(text) is abstract and gives a list of floats",
        "EmbeddingProvider.embed_batch(texts) need not be written",
        "EmbeddingProvider.dims is an abstract property",
        "SiliconFlowEmbedding: BAAI/bge-m3, 1024 numbers",
        "SiliconFlowEmbedding takes Chinese and English",
        "OpenAIEmbedding: text-embedding-3-small, 1536 numbers",
    ),
    "5.2": (
        "LLMProvider.chat(messages, temperature=0.7, max_tokens=1024) is abstract and gives a text",
        "OpenAILLM speaks OpenAI's protocol",
        "OpenAILLM speaks to DeepSeek",
        "MemoryExtractionService classifies conversations by it",
    ),
    "5.3": (
        "ObjectStorage.init()",
        "ObjectStorage.upload(prefix, filename, data, content_type) gives a key",
        "ObjectStorage.download(object_key) gives bytes",
        "ObjectStorage.delete(object_key)",
        "ObjectStorage.get_presigned_url(object_key, expires_in=3600) gives an address",
        "S3Storage by boto3: MinIO, AWS S3, Huawei OBS",
    ),
    "5.4": (
        "an embedding of one's own: a subclass with dims and embed",
        "a language model of one's own: a subclass with chat",
        "a storage of one's own: a subclass of ObjectStorage",
    ),
    "6": (
        "SearchService takes a session and an embedding",
        "SearchService searches by vector",
        "SearchService adds memories",
        "SearchService ranks both arms by RRF",
        "KVService takes a session",
        "KVService creates, reads, updates and deletes",
        "KVService sets several at once",
        "ConversationService takes a session",
        "ConversationService keeps the messages of sessions",
        "MemoryService takes a session",
        # Both stand in TemporalService, beside what else is asked along time; MemoryService reads and versions.
        "MemoryService: memories of a range of time",
        "MemoryService: a timeline",
        "FileService takes a session, an embedding and a storage",
        "FileService uploads files",
        "FileService extracts their text",
        "GraphService takes a session",
        "GraphService creates, reads, updates and deletes nodes",
        "GraphService creates, reads and deletes edges",
        "GraphMemoryService takes a session",
        "GraphMemoryService stores triples",
        "GraphMemoryService detects contradictions",
        "GraphMemoryService finds facts of entities",
        "MemoryExtractionService takes a session, an embedding and a language model",
        "MemoryExtractionService extracts memories with the language model",
        "ReflectionService takes a session, an embedding and a language model",
        "ReflectionService generates insights",
        "ReflectionService updates the emotion profile",
        "TemporalService takes a session",
        "TemporalService: memories along time",
        "TemporalService: filtering by ranges of time",
    ),
    "6.1": (
        # The design reads on one connection and one snapshot; parallel is the model's call, which takes longest.
        "what needs no vector is read while the query is embedded",
        "_fetch_vector_memories asks SearchService.scored_search",
        "memories are fused in SQL: RRF of both arms, recency, importance",
        "_fetch_user_profile reads the profile's key-values",
        "_search_conversations finds turns by vector",
        "conversations are optional",
        "_fetch_graph_memories asks GraphMemoryService.find_entity_facts",
        "the triples form a set",
        "a memory that holds both ends of a triple gets 0.5",
        "a memory that holds one end of a triple gets 0.2",
        "what triples give is capped at 2.0",
        'triples come into merged, source="graph"',
        'turns come into merged, source="conversation"',
        "merged is sorted by score",
        "recall answers vector_results",
        "recall answers graph_results",
        "recall answers graph_context",
        "recall answers user_profile",
        "recall answers merged",
    ),
    "7.1": (
        "a call of the language model is told of with the tokens it read and wrote",
        "a call of the embedding model is told of with the tokens it read",
    ),
    "7.2": (
        "the message is stored in conversations",
        "the message is embedded in the background",
        "its vector is stored in conversation_embeddings",
        "with auto_extract=True memories are extracted",
        "_classify_messages gives the model instructions and the conversation",
        "the model's answer is facts, episodes, triples and profile updates",
        # The design embeds facts and episodes together: one batch.
        "facts are embedded in a batch",
        'facts are stored in embeddings, memory_type="fact"',
        "episodes are embedded in a batch",
        'episodes are stored in embeddings, memory_type="episodic"',
        "triples are stored in graph_nodes and graph_edges",
        "the profile is updated in key_values",
        # 1 + N texts; in calls: the message, and the batch of the rest.
        "one message costs one call of the language model and embeds 1 + N texts",
    ),
    "7.3": (
        "the query is embedded",
        "memories are found by vector and by word: vector_results",
        "the profile is read from key_values: user_profile",
        "turns are found by vector: conversation_results",
        "relations of entities are found: graph_results",
        "all of these are read from the database, with no further call",
        "merged is computed from what was read",
        "recall costs one embedding and no call of the language model",
    ),
    "7.4": (
        "recent memories are read, 50 unless asked otherwise",
        "the insights there are are read, so that none comes twice",
        "_generate_insights gives the model instructions and the recent memories",
        "the model's answer is insights: patterns and summaries",
        "each insight is embedded",
        'insights are stored in embeddings, memory_type="insight"',
        "_update_emotion_profile gives the model instructions and the emotions of recent memories",
        "emotion_profiles is updated",
        # In calls: two, the second only where the news tells of emotions, and one batch.
        "a digest costs two calls of the language model and embeds N texts",
    ),
    "7.5": (
        "ingest: 1 + N texts embedded, one call of the language model",
        "recall: one embedding, no call of the language model",
        "digest: N embeddings, two calls of the language model, when the program calls it",
        # As few calls as the model allows, for a file of more text than it takes at once.
        "files.upload() costs one call of the embedding model and none of the language model",
        "auto_extract=False spares the call of the language model",
        "query_embedding spares the embedding",
        # `SentenceTransformerEmbedding` is another; `LocalEmbedding` needs no PyTorch.
        "a model on one's own machine costs no call",
    ),
    "8.1": (
        "docker compose gives PostgreSQL with pgvector and pg_search on port 5432",
        "docker compose gives MinIO on port 9000, and its console on 9001",
    ),
    "8.2": (
        # Keyword search needs no pg_search, so a rented PostgreSQL need not have it.
        "a rented PostgreSQL with pgvector is all that is deployed",
        "files lie in S3, for who uses files",
    ),
    "9.1": ("vectors, graph, key-values and all other rows lie in one PostgreSQL",),
    "9.2": (
        "vectors, graph, conversations and key-values change in one transaction",
        "backup: one pg_dump holds vectors, graph, conversations, key-values and profiles",
        "monitoring: one PostgreSQL tells everything",
        "migration: one step makes all tables",
        "delete_user_data() deletes across all tables atomically",
        "recall ranks memories, turns and relations together",
        "export_user_data() is one snapshot",
        "entity_profile() joins memories, graph and conversations in one statement",
        "stats() counts all types of memories",
    ),
    "9.3": (
        "docker compose up -d db starts PostgreSQL alone",
        "a rented PostgreSQL and the package are the whole system",
    ),
    "10.1": (
        "micro: metadata.emotion of a memory has valence, arousal and a label, noted by extraction",
        "meso: the recent state, of one to two weeks, in emotion_profiles.latest_state",
        "latest_state is updated by digest()",
        "macro: long-term, valence_avg and dominant_emotions among emotion_profiles",
    ),
    "10.2": (
        "recency = e^(-t / (decay_rate × (1 + arousal × 0.5)))",
        "what was felt strongly fades more slowly",
    ),
    "10.3": (
        "personality (Big Five) is not inferred",
        "values are not inferred",
        "the profile records only emotions that were expressed",
    ),
}

type Row = tuple[str, str]


def rows(listed: dict[str, tuple[str, ...]]) -> set[Row]:
    return {(section, row) for section, named in listed.items() for row in named}


@cache
def claims() -> dict[Row, list[str]]:
    """The tests that name each row."""
    found: dict[Row, list[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                for row in named_by(node):
                    found.setdefault(row, []).append(f"{file.relative_to(TESTS)}::{node.name}")
    return found


def named_by(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[Row]:
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Attribute(attr="seed"), args=[section, *named], keywords=[]):
                assert named, f"{node.name} names no row"
                for row in named:
                    yield ast.literal_eval(section), ast.literal_eval(row)
            case _:
                pass


def test_every_row_is_named_by_a_test() -> None:
    assert rows(ROWS) - claims().keys() == set()


def test_no_test_names_a_row_there_is_not() -> None:
    assert {row: tests for row, tests in claims().items() if row not in rows(ROWS)} == {}


def test_who_names_a_row_is_a_test() -> None:
    named = [test for tests in claims().values() for test in tests]
    assert [test for test in named if not test.partition("::")[2].startswith("test_")] == []
