"""Which models the options name. Keys and addresses come from the environment."""

import os
from typing import TYPE_CHECKING

from memground.errors import InvalidInputError

if TYPE_CHECKING:
    from memground.embedding import EmbeddingProvider
    from neuromem.providers.llm import LLMProvider

_OPENAI = "https://api.openai.com/v1"
DEFAULT_LLM = "gpt-4o-mini"
_ACCEPTED = "local, openai:MODEL, siliconflow:MODEL or sentence-transformers:MODEL"
# What the models produce; others say it as in openai:MODEL@768.
_DIMS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
    "BAAI/bge-m3": 1024,
    "Pro/BAAI/bge-m3": 1024,
    "BAAI/bge-large-zh-v1.5": 1024,
    "BAAI/bge-large-en-v1.5": 1024,
    "netease-youdao/bce-embedding-base_v1": 768,
    "Qwen/Qwen3-Embedding-0.6B": 1024,
    "Qwen/Qwen3-Embedding-4B": 2560,
    "Qwen/Qwen3-Embedding-8B": 4096,
}


def open_embedding(name: str) -> "EmbeddingProvider":
    """The provider that `name` means; raises InvalidInputError for a name that means none, ConfigurationError for a
    missing key or package."""
    from memground.embedding import (
        LocalEmbedding,
        OpenAIEmbedding,
        SentenceTransformerEmbedding,
        SiliconFlowEmbedding,
    )

    kind, _, rest = name.partition(":")
    model, _, size = rest.partition("@")
    match kind:
        case "local" if not rest:
            return LocalEmbedding()
        case "sentence-transformers" if model and not size:
            return SentenceTransformerEmbedding(model)
        case "openai":
            model = model or "text-embedding-3-small"
            return OpenAIEmbedding(
                _key("OPENAI_API_KEY", name),
                model=model,
                dims=_dims(name, model, size),
                base_url=os.environ.get("OPENAI_BASE_URL") or None,
            )
        case "siliconflow":
            model = model or "BAAI/bge-m3"
            base_url = os.environ.get("SILICONFLOW_BASE_URL") or "https://api.siliconflow.cn/v1"
            return SiliconFlowEmbedding(
                _key("SILICONFLOW_API_KEY", name), model=model, dims=_dims(name, model, size), base_url=base_url
            )
        case _:
            raise InvalidInputError(f"--embedding {name!r} names no model; accepted: {_ACCEPTED}")


def open_llm(model: str, base_url: str | None, *, option: str = "--base-url") -> "LLMProvider":
    """A language model behind OpenAI's protocol. A server of one's own needs no key; raises ConfigurationError where
    OpenAI's is meant and there is none. `option` names where `base_url` comes from."""
    from memground.errors import ConfigurationError
    from neuromem.providers.llm import OpenAILLM

    if llm_address(base_url) is None:
        raise ConfigurationError(
            f"a language model needs a key or an address: set OPENAI_API_KEY, or pass {option} "
            "(such as http://localhost:11434/v1 for Ollama)"
        )
    key = os.environ.get("OPENAI_API_KEY") or "none"
    return OpenAILLM(key, model=model, base_url=llm_address(base_url))


def llm_address(base_url: str | None) -> str | None:
    """Where the language model is: the address given, else that of the environment; None where there is none."""
    openai = _OPENAI if os.environ.get("OPENAI_API_KEY") else None
    return base_url or os.environ.get("OPENAI_BASE_URL") or openai


def _key(variable: str, name: str) -> str:
    if key := os.environ.get(variable):
        return key
    from memground.errors import ConfigurationError

    raise ConfigurationError(f"--embedding {name} needs a key; set {variable}")


def _dims(name: str, model: str, size: str) -> int:
    if not size:
        if (known := _DIMS.get(model)) is not None:
            return known
        raise InvalidInputError(
            f"how many numbers a vector of {model!r} has is not known here; say it behind @: --embedding {name}@768"
        )
    if not size.isascii() or not size.isdigit() or not 1 <= int(size) <= 16_000:
        raise InvalidInputError(f"--embedding {name!r}: {size!r} is no number of dimensions; pass 1 to 16,000 behind @")
    return int(size)
