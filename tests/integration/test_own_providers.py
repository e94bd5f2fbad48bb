"""Providers of one's own, written as the seed writes them, do all that the built-in ones do."""

import json

import pytest

from conftest import OpenMind
from memground.postgres.queue import JobPolicy
from neuromem import ExtractionPolicy
from neuromem.providers.embedding import EmbeddingProvider
from neuromem.providers.llm import LLMProvider
from neuromem.providers.storage import ObjectStorage


class MyEmbedding(EmbeddingProvider):
    """Counts letters."""

    @property
    def dims(self) -> int:
        return 768

    async def embed(self, text: str) -> list[float]:
        return [1.0 + text.count(chr(97 + place % 26)) for place in range(768)]


class MyLLM(LLMProvider):
    """Learns one thing from everything."""

    async def chat(self, messages: list[dict], temperature=0.7, max_tokens=1024) -> str:  # type: ignore[type-arg]
        return json.dumps({"facts": [{"content": "Anna likes tea"}]})


class MyStorage(ObjectStorage):
    """Keeps files in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def init(self) -> None:
        self.files.clear()

    async def upload(self, prefix: str, filename: str, data: bytes, content_type: str) -> str:
        key = f"{prefix}/{len(self.files)}-{filename}"
        self.files[key] = data
        return key

    async def download(self, object_key: str) -> bytes:
        return self.files[object_key]

    async def delete(self, object_key: str) -> None:
        self.files.pop(object_key, None)

    async def get_presigned_url(self, object_key: str, expires_in: int = 3600) -> str:
        return f"memory:{object_key}?for={expires_in}"


@pytest.mark.seed("5.4", "an embedding of one's own: a subclass with dims and embed")
@pytest.mark.seed("5.1", "EmbeddingProvider.embed_batch(texts) need not be written")
async def test_an_embedding_of_one_s_own(open_mind: OpenMind) -> None:
    mind = await open_mind(embedding=MyEmbedding())
    await mind.add_memories("anna", ["zzz", "aaa", "mmm"])
    await mind.ingest("anna", "user", "a banana")
    await mind.wait_idle(timeout=20)
    found = await mind.recall("anna", "aaaa", explain=True)
    assert found.vector_results[0].memory.content == "aaa"
    assert [hit.explanation.vector_rank for hit in found.conversation_results if hit.explanation] == [1]
    assert mind._db.dims == 768


@pytest.mark.seed("5.4", "a language model of one's own: a subclass with chat")
async def test_a_language_model_of_one_s_own(open_mind: OpenMind) -> None:
    mind = await open_mind(
        embedding=MyEmbedding(), llm=MyLLM(), extraction=ExtractionPolicy.per_message(), background=JobPolicy(poll=0.02)
    )
    await mind.ingest("anna", "user", "Do you know what? I like tea.")
    await mind.wait_idle(timeout=20)
    assert [(m.content, m.memory_type) for m in (await mind.list_memories("anna")).items] == [
        ("Anna likes tea", "fact")
    ]


@pytest.mark.seed("5.4", "a storage of one's own: a subclass of ObjectStorage")
async def test_a_storage_of_one_s_own(open_mind: OpenMind) -> None:
    storage = MyStorage()
    await open_mind(embedding=MyEmbedding(), storage=storage)
    await storage.init()
    key = await storage.upload("anna", "notes.txt", b"tea", "text/plain")
    assert await storage.download(key) == b"tea"
    assert await storage.get_presigned_url(key) == "memory:anna/0-notes.txt?for=3600"
    await storage.delete(key)
    assert storage.files == {}
    missing = type("Missing", (ObjectStorage,), {"init": MyStorage.init})
    with pytest.raises(TypeError, match="abstract"):
        missing()
