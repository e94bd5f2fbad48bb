"""Embeddings from SiliconFlow, which serves bge-m3 and other multilingual models."""

from typing import ClassVar

from memground.embedding.openai import OpenAIEmbedding


class SiliconFlowEmbedding(OpenAIEmbedding):
    """A model on SiliconFlow; by default BAAI/bge-m3, good at Chinese, 1,024 dimensions.

    Options as ``OpenAIEmbedding``. Qwen3-Embedding models are asked to produce ``dims`` numbers, others have no choice.
    """

    _resizable: ClassVar[str] = "Qwen3-Embedding"

    def __init__(
        self,
        api_key: str,
        *,
        model: str = "BAAI/bge-m3",
        dims: int = 1024,
        base_url: str = "https://api.siliconflow.cn/v1",
        timeout: float = 30,
        max_retries: int = 3,
        batch_size: int = 32,
    ) -> None:
        super().__init__(
            api_key,
            model=model,
            dims=dims,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            batch_size=batch_size,
        )
