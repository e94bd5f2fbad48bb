"""The local model itself: what its vectors mean, and that it can be shared. Needs ``neuromem model install``."""

import asyncio
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from memground.embedding import LocalEmbedding
from memground.embedding.install import GRAPH_FILE, TOKENIZER_FILE, default_model_dir, is_installed
from memground.errors import ConfigurationError, InvalidInputError, ModelMissingError

needs_model = pytest.mark.skipif(
    not is_installed(default_model_dir()), reason="the local model is not installed: run `neuromem model install`"
)


@pytest.fixture(scope="module")
async def model():
    provider = LocalEmbedding()
    yield provider
    await provider.close()


@needs_model
class TestModel:
    @pytest.mark.seed("7.5", "a model on one's own machine costs no call")
    async def test_vectors_have_384_numbers_and_length_1(self, model):
        vector = await model.embed("Ada plays the cello.")
        assert (model.dims, len(vector), model.model_id) == (384, 384, "all-MiniLM-L6-v2")
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)

    @pytest.mark.parametrize(
        ("text", "similarity"),  # as published for this model by sentence-transformers
        [("That is a very happy person", 0.943), ("That is a happy dog", 0.695), ("Today is a sunny day", 0.257)],
    )
    async def test_similarities_are_those_of_the_reference(self, model, text, similarity):
        vectors = await model.embed_batch(["That is a happy person", text])
        assert np.dot(*vectors) == pytest.approx(similarity, abs=1e-3)

    async def test_the_closest_text_is_the_one_that_means_the_same(self, model):
        texts = ["She adopted a puppy in May.", "The server crashed at night.", "He bakes bread every Sunday."]
        vectors = np.array(await model.embed_batch(texts))
        for question, answer in [("When did she get a dog?", 0), ("Was there an outage?", 1), ("Who bakes?", 2)]:
            assert int(np.argmax(vectors @ await model.embed_query(question))) == answer

    async def test_a_batch_equals_its_texts_one_by_one_in_order(self, model):
        texts = [f"{'word ' * (number * 7 % 90)}number {number}" for number in range(70)]
        batch = np.array(await model.embed_batch(texts))
        single = np.array([await model.embed(text) for text in texts])
        np.testing.assert_allclose(batch, single, atol=1e-5)

    async def test_nothing_to_embed(self, model):
        assert await model.embed_batch([]) == []

    async def test_any_text_has_a_vector(self, model):
        texts = ["", " \n\t", "北京欢迎你", "🧠🔥", "naïve café", "a\x00b", "é" * 500, "العربية", "x" * 100_000]
        vectors = np.array(await model.embed_batch(texts))
        assert vectors.shape == (len(texts), 384)
        assert np.isfinite(vectors).all()

    async def test_a_very_long_text_counts_by_its_beginning(self, model):
        begun = time.monotonic()
        huge, cut = await model.embed_batch(["dog " * 2_500_000, "dog " * 300])
        np.testing.assert_allclose(huge, cut, atol=1e-5)
        assert time.monotonic() - begun < 10

    async def test_case_does_not_matter_and_words_do(self, model):
        lower, upper, other = await model.embed_batch(["the cat sat", "THE CAT SAT", "interest rates rose"])
        np.testing.assert_allclose(lower, upper, atol=1e-6)
        assert np.dot(lower, other) < 0.3

    async def test_what_is_not_text_is_refused(self, model):
        for call in (model.embed("\ud800"), model.embed_query("\ud800"), model.embed_batch(["a", "\ud800"])):
            with pytest.raises(InvalidInputError, match="lone surrogate"):
                await call

    async def test_the_event_loop_stays_free(self, model):
        longest, last = 0.0, time.monotonic()
        batch = asyncio.ensure_future(model.embed_batch([f"text {number} " * 20 for number in range(200)]))
        while not batch.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert longest < 0.5

    async def test_a_query_overtakes_a_batch(self, model):
        batch = asyncio.ensure_future(model.embed_batch([f"text {number} " * 20 for number in range(300)]))
        await asyncio.sleep(0.1)
        await model.embed_query("a question")
        assert not batch.done()
        await batch

    async def test_a_cancelled_batch_stops(self, model):
        batch = asyncio.ensure_future(model.embed_batch([f"text {number} " * 50 for number in range(2000)]))
        await asyncio.sleep(0.3)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
        async with asyncio.timeout(5):  # the whole batch takes more than ten seconds
            await model.embed_batch(["another"])

    async def test_tasks_threads_and_event_loops_share_it(self, model):
        expected = await model.embed("shared")
        results: list[list[float]] = []

        def elsewhere() -> None:
            results.append(asyncio.run(model.embed("shared")))

        threads = [threading.Thread(target=elsewhere) for _ in range(4)]
        for thread in threads:
            thread.start()
        results += await asyncio.gather(*(model.embed("shared") for _ in range(8)))
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])
        assert len(results) == 12
        np.testing.assert_allclose(results, [expected] * 12, atol=1e-6)

    async def test_it_can_be_closed_and_used_again(self):
        provider = LocalEmbedding(threads=1)
        await provider.close()
        first = await provider.embed("again")
        await provider.close()
        await provider.close()
        assert await provider.embed("again") == first
        await provider.close()

    async def test_running_needs_neither_onnx_nor_safetensors(self):
        program = (
            "import asyncio, sys\nfrom memground.embedding import LocalEmbedding\n"
            "asyncio.run(LocalEmbedding().embed('x'))\nprint({'onnx', 'safetensors'} & set(sys.modules))"
        )
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "set()"


class TestWithoutModel:
    async def test_missing_files_say_how_to_install_them(self, tmp_path):
        provider = LocalEmbedding(tmp_path / "nothing")
        with pytest.raises(ModelMissingError) as caught:
            provider.ensure_installed()
        for part in (str(tmp_path / "nothing"), "neuromem model install", "--from PATH", "model_dir="):
            assert part in str(caught.value)
        with pytest.raises(ModelMissingError):
            await provider.embed("x")
        with pytest.raises(ModelMissingError):
            await provider.embed_batch(["x", "y"])
        await provider.close()

    async def test_damaged_files_are_named(self, tmp_path):
        (tmp_path / GRAPH_FILE).write_bytes(b"half a file")
        (tmp_path / TOKENIZER_FILE).write_text("{}")
        provider = LocalEmbedding(tmp_path)
        provider.ensure_installed()
        with pytest.raises(ConfigurationError, match=str(tmp_path)):
            await provider.embed("x")
        await provider.close()

    def test_threads_below_one_are_refused(self):
        with pytest.raises(InvalidInputError, match="threads is 0"):
            LocalEmbedding(threads=0)

    def test_a_missing_runtime_is_named_with_its_extra(self, tmp_path):
        (tmp_path / GRAPH_FILE).touch()
        (tmp_path / TOKENIZER_FILE).touch()
        program = (
            "import asyncio, sys; sys.modules['onnxruntime'] = None\n"
            "from pathlib import Path\nfrom memground.embedding import LocalEmbedding\n"
            "from memground.errors import ConfigurationError\n"
            f"try: asyncio.run(LocalEmbedding(Path({str(tmp_path)!r})).embed('x'))\n"
            "except ConfigurationError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert 'pip install "neuromem-omnimem[onnx]"' in done.stdout
