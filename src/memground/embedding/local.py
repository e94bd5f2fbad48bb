"""all-MiniLM-L6-v2 on this machine's processor: no key, no network, no PyTorch."""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np

from memground.embedding._worker import PriorityWorker
from memground.embedding.base import EmbeddingProvider, check_texts
from memground.embedding.install import (
    GRAPH_FILE,
    MODEL_NAME,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    build_model,
    default_model_dir,
    is_installed,
)
from memground.errors import ConfigurationError, InvalidInputError, ModelMissingError
from memground.extras import missing_package

DIMS = 384
MAX_TOKENS = 256

# Somebody waits for a query; one text is usually a turn being stored; batches are background work.
_QUERY, _SINGLE, _BATCH = 0, 1, 2
# Padded tokens run at once. Measured on two cores: 256 to 2048 are equally fast (300 texts/s of 33 tokens), but a query
# waits for the run before it (50 ms at 512, 230 ms at 2048) and memory grows with the run (220 MB, 270 MB).
_RUN_TOKENS = 512
_TOKENISE_AT_ONCE = 64
_BATCH_TEXTS = 32
# The tokeniser reads a whole text before it cuts it to MAX_TOKENS. Tokens are about 5 characters long; 64 leave room
# for runs of blanks and unknown words.
_MAX_CHARACTERS = 64 * MAX_TOKENS


class LocalEmbedding(EmbeddingProvider):
    """all-MiniLM-L6-v2 (English, 384 dimensions, vectors of length 1) run by onnxruntime.

    ``model_dir`` holds the installed model (default ``~/.neuromem/models/all-MiniLM-L6-v2``); ``threads`` is how many
    cores one run uses (default: all, at most 4). Reads the first 256 tokens of a text, about 200 words.

    The model is loaded by the first call, in a thread of its own where every later call runs too; queries overtake
    batches there. One instance may serve any number of tasks, threads and event loops.
    """

    def __init__(self, model_dir: Path | None = None, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise InvalidInputError(f"threads is {threads}, expected 1 or more")
        self.model_dir = Path(model_dir) if model_dir is not None else default_model_dir()
        self._threads = threads or min(4, os.cpu_count() or 1)
        self._worker = PriorityWorker("neuromem-embedding")
        self._model: _Model | None = None

    @property
    def dims(self) -> int:
        return DIMS

    @property
    def model_id(self) -> str:
        return MODEL_NAME

    def ensure_installed(self) -> None:
        """Raise ``ModelMissingError`` unless the model's files are there. Cheap: reads nothing."""
        weights_only = (self.model_dir / WEIGHTS_FILE).is_file() and (self.model_dir / TOKENIZER_FILE).is_file()
        if not is_installed(self.model_dir) and not weights_only:
            raise ModelMissingError(
                f"the local embedding model {MODEL_NAME} is not in {self.model_dir}; run `neuromem model install` "
                "(without network: `neuromem model install --from PATH`), or pass the model_dir= that holds it"
            )

    async def embed(self, text: str) -> list[float]:
        return await self._embed_one(text, _SINGLE)

    async def embed_query(self, text: str) -> list[float]:
        return await self._embed_one(text, _QUERY)

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        """The vectors in the order of the texts. Similar lengths run together; queries overtake between runs."""
        check_texts(texts)
        pieces = [
            self._run(_BATCH, partial(_Model.tokenise, texts=piece)) for piece in batched(texts, _TOKENISE_AT_ONCE)
        ]
        tokens = [ids for piece in await asyncio.gather(*pieces) for ids in piece]
        runs = _runs([len(ids) for ids in tokens])
        jobs = [self._run(_BATCH, partial(_Model.vectors, tokens=[tokens[index] for index in run])) for run in runs]
        vectors: list[list[float]] = [[]] * len(texts)
        for run, result in zip(runs, await asyncio.gather(*jobs), strict=True):
            for index, vector in zip(run, result, strict=True):
                vectors[index] = vector
        return vectors

    def batches(self, texts: list[str]) -> Iterable[list[str]]:
        """Runs of about a second."""
        return (list(run) for run in batched(texts, _BATCH_TEXTS))

    async def close(self) -> None:
        """Finish what was begun, then release the thread and the memory. A later call loads the model again."""
        worker, self._worker = self._worker, PriorityWorker("neuromem-embedding")
        await asyncio.to_thread(worker.close)
        self._model = None

    async def _embed_one(self, text: str, priority: int) -> list[float]:
        check_texts([text])
        vectors = await self._run(priority, lambda model: model.vectors(model.tokenise([text])))
        return vectors[0]

    def _run[T](self, priority: int, job: Callable[["_Model"], T]) -> asyncio.Future[T]:
        return asyncio.wrap_future(self._worker.submit(priority, lambda: job(self._loaded())))

    def _loaded(self) -> "_Model":
        # Only the worker's one thread comes here, so nothing is loaded twice.
        if self._model is None:
            self.ensure_installed()
            if not is_installed(self.model_dir):
                build_model(self.model_dir, self.model_dir)
            self._model = _Model(self.model_dir, self._threads)
        return self._model


class _Model:
    """The tokeniser and the graph, for one thread."""

    def __init__(self, directory: Path, threads: int) -> None:
        # Otherwise importing onnxruntime writes a device id into the home folder and reports its use to its vendor.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            onnxruntime: Any = import_module("onnxruntime")  # has no type information
            tokenizers: Any = import_module("tokenizers")  # has too little of it
        except ImportError as error:
            raise missing_package(error.name or "onnxruntime", "onnx") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait for one another within a run spin, which takes a fifth off a query; between runs they would
        # burn a core each.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                str(directory / GRAPH_FILE), options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer = tokenizers.Tokenizer.from_file(str(directory / TOKENIZER_FILE))
        except Exception as error:  # both libraries raise types of their own, down to plain Exception
            raise ConfigurationError(
                f"the model in {directory} cannot be loaded: {error}; delete {GRAPH_FILE} there and install it again"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids per text, 2 to 256 of them."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch([text[:_MAX_CHARACTERS] for text in texts])]

    def vectors(self, tokens: Sequence[list[int]]) -> list[list[float]]:
        """A vector per list of token ids, all run at once."""
        ids = np.zeros((len(tokens), max(map(len, tokens))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        return self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0].tolist()


def _runs(lengths: Sequence[int]) -> list[list[int]]:
    """Positions grouped so that a group padded to its longest text has at most ``_RUN_TOKENS`` tokens."""
    runs: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if runs and (len(runs[-1]) + 1) * lengths[index] <= _RUN_TOKENS:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
