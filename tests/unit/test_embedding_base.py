"""The provider base class, the checks, and the worker that lets queries overtake."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from memground.embedding import EmbeddingProvider, check_texts, check_vectors
from memground.embedding._worker import PriorityWorker
from memground.errors import InvalidInputError, ProviderError


class LengthEmbedding(EmbeddingProvider):
    """As small as a provider can be."""

    @property
    def dims(self) -> int:
        return 2

    async def embed(self, text: str) -> list[float]:
        return [float(len(text)), 1.0]


async def test_dims_and_embed_make_a_provider():
    provider = LengthEmbedding()
    assert await provider.embed_batch(["a", "bcd"]) == [[1.0, 1.0], [3.0, 1.0]]
    assert await provider.embed_query("ab") == [2.0, 1.0]
    assert provider.model_id == "LengthEmbedding"
    await provider.close()


def test_a_provider_without_dims_or_embed_cannot_be_made():
    class Nothing(EmbeddingProvider):
        pass

    with pytest.raises(TypeError, match="dims"):
        Nothing()  # type: ignore[abstract]


def test_vectors_that_fit_pass_whatever_holds_them():
    assert check_vectors([[1, 2.5]], count=1, dims=2, model_id="m") == [[1.0, 2.5]]
    assert check_vectors(np.ones((2, 2), np.float32), count=2, dims=2, model_id="m") == [[1.0, 1.0], [1.0, 1.0]]
    assert check_vectors([], count=0, dims=2, model_id="m") == []


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        ([[1.0, 2.0]], "1 vectors for 2 texts"),
        ([[1.0, 2.0], [1.0]], "text 1: returned a vector of 1 numbers, expected 2"),
        ([[1.0, float("nan")], [1.0, 2.0]], "text 0: returned a vector containing nan"),
        ([[1.0, 2.0], [float("-inf"), 2.0]], "text 1: returned a vector containing -inf"),
        ([[1.0, 2.0], ["x", 2.0]], "text 1: returned ['x', 2.0] instead of 2 numbers"),
        ([[1.0, 2.0], [10**400, 2.0]], "instead of 2 numbers"),
        ([1.0, 2.0], "text 0: returned 1.0 instead of 2 numbers"),
        (None, "returned None instead of 2 vectors"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(vectors, says):
    with pytest.raises(ProviderError) as caught:
        check_vectors(vectors, count=2, dims=2, model_id="some-model")
    assert says in str(caught.value)
    assert "some-model" in str(caught.value)


@pytest.mark.parametrize(("text", "says"), [(b"bytes", "is bytes, expected str"), ("a\ud800b", "lone surrogate")])
def test_texts_no_model_can_read_are_refused(text, says):
    with pytest.raises(InvalidInputError) as caught:
        check_texts(["fine", text])
    assert "text 1" in str(caught.value)
    assert says in str(caught.value)


def test_importing_the_package_imports_no_vendor():
    program = (
        "import sys, memground.embedding\n"
        "heavy = {'onnx', 'onnxruntime', 'tokenizers', 'safetensors', 'openai', 'torch', 'sentence_transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "use", "extra"),
    [
        ("openai", "OpenAIEmbedding('key')", "openai"),
        ("openai", "SiliconFlowEmbedding('key')", "openai"),
        ("sentence_transformers", "SentenceTransformerEmbedding()", "sentence-transformers"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(package, use, extra):
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"  # python's own way to make an import fail
        "from memground.embedding import *\nfrom memground.errors import ConfigurationError\n"
        f"try: {use}\nexcept ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f'pip install "neuromem-omnimem[{extra}]"' in done.stdout


class TestPriorityWorker:
    def test_urgent_jobs_overtake_and_equals_keep_their_order(self):
        worker, gate, done = PriorityWorker("test"), threading.Event(), []
        futures = [worker.submit(1, gate.wait)]
        for number in range(3):
            futures.append(worker.submit(2, lambda number=number: done.append(f"batch {number}")))
        futures.append(worker.submit(0, lambda: done.append("query")))
        gate.set()
        for future in futures:
            future.result(5)
        worker.close()
        assert done == ["query", "batch 0", "batch 1", "batch 2"]

    def test_an_error_reaches_the_one_who_waits_and_the_worker_goes_on(self):
        worker = PriorityWorker("test")
        with pytest.raises(ZeroDivisionError):
            worker.submit(0, lambda: 1 // 0).result(5)
        assert worker.submit(0, lambda: 1).result(5) == 1
        worker.close()

    def test_a_cancelled_job_is_skipped(self):
        worker, gate, done = PriorityWorker("test"), threading.Event(), []
        worker.submit(0, gate.wait)
        cancelled = worker.submit(0, lambda: done.append("cancelled"))
        last = worker.submit(0, lambda: done.append("last"))
        assert cancelled.cancel()
        gate.set()
        last.result(5)
        worker.close()
        assert done == ["last"]

    def test_closing_finishes_what_was_submitted_and_refuses_more(self):
        worker, done = PriorityWorker("test"), []
        worker.submit(0, lambda: (time.sleep(0.05), done.append(1)))
        worker.submit(0, lambda: done.append(2))
        worker.close()
        assert done == [1, 2]
        with pytest.raises(RuntimeError):
            worker.submit(0, lambda: None)
