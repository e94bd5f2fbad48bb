"""all-MiniLM-L6-v2 as an ONNX graph, built from its weights.

BERT as in "BERT: Pre-training of Deep Bidirectional Transformers" (Devlin et al., 2019) with 6 layers, followed by the
mean over the text's tokens and L2 normalisation, as sentence-transformers runs it. Inputs ``input_ids`` and
``attention_mask``, int64 [batch, tokens], each text with at least one token; output ``embedding``, float32
[batch, 384]. Only this module needs the ``onnx`` package; it is imported while a model is being
installed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

LAYERS = 6
HEADS = 12
HIDDEN = 384
HEAD = HIDDEN // HEADS
INPUTS = ("input_ids", "attention_mask")
OUTPUT = "embedding"

_OPSET = 20  # the first with Gelu; onnxruntime 1.20, the oldest accepted, reads it
_IR_VERSION = 9

type Weights = Mapping[str, npt.NDArray[np.float32]]


class _Graph:
    """Collects nodes and constants; every method returns the name of the tensor it made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: npt.NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def float(self, value: float) -> str:
        return self.constant(np.array(value, dtype=np.float32))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def build(weights: Weights) -> bytes:
    """The serialised graph. ``weights``: the tensors of model.safetensors by name; a missing one is a ``KeyError``."""
    graph = _Graph()
    hidden = _embed_tokens(graph, weights)
    # Added to the attention scores: 0 for the text's tokens, hugely negative for padding. [batch, 1, 1, tokens]
    mask = graph.op("Cast", INPUTS[1], to=TensorProto.FLOAT)
    padding = graph.op("Mul", graph.op("Sub", graph.float(1.0), mask), graph.float(-10_000.0))
    padding = graph.op("Unsqueeze", padding, graph.ints(1, 2))
    for layer in range(LAYERS):
        hidden = _layer(graph, weights, f"encoder.layer.{layer}", hidden, padding)
    vector = _pool(graph, hidden, mask)
    graph.nodes.append(helper.make_node("Identity", [vector], [OUTPUT]))

    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in INPUTS]
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", HIDDEN])]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="memground",
    )
    return model.SerializeToString()


def _embed_tokens(graph: _Graph, weights: Weights) -> str:
    words = graph.op("Gather", graph.constant(weights["embeddings.word_embeddings.weight"]), INPUTS[0])
    # There is one text, never a pair, so the token type is always 0 and its row can be added to every position's.
    table = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    tokens = graph.op("Shape", INPUTS[0], start=1, end=2)
    positions = graph.op("Slice", graph.constant(table), graph.ints(0), tokens, graph.ints(0))
    return _layer_norm(graph, weights, "embeddings.LayerNorm", graph.op("Add", words, positions))


def _layer(graph: _Graph, weights: Weights, layer: str, hidden: str, padding: str) -> str:
    attended = _attention(graph, weights, f"{layer}.attention.self", hidden, padding)
    attended = _dense(graph, weights, f"{layer}.attention.output.dense", attended)
    hidden = _layer_norm(graph, weights, f"{layer}.attention.output.LayerNorm", graph.op("Add", attended, hidden))
    wide = graph.op("Gelu", _dense(graph, weights, f"{layer}.intermediate.dense", hidden))
    narrow = _dense(graph, weights, f"{layer}.output.dense", wide)
    return _layer_norm(graph, weights, f"{layer}.output.LayerNorm", graph.op("Add", narrow, hidden))


def _attention(graph: _Graph, weights: Weights, name: str, hidden: str, padding: str) -> str:
    def heads(part: str, axes: list[int]) -> str:
        split = graph.op("Reshape", _dense(graph, weights, f"{name}.{part}", hidden), graph.ints(0, 0, HEADS, HEAD))
        return graph.op("Transpose", split, perm=axes)

    query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
    scores = graph.op("Mul", graph.op("MatMul", query, key), graph.float(HEAD**-0.5))
    shares = graph.op("Softmax", graph.op("Add", scores, padding), axis=-1)
    joined = graph.op("Transpose", graph.op("MatMul", shares, value), perm=[0, 2, 1, 3])
    return graph.op("Reshape", joined, graph.ints(0, 0, HIDDEN))


def _pool(graph: _Graph, hidden: str, mask: str) -> str:
    mask = graph.op("Unsqueeze", mask, graph.ints(2))
    total = graph.op("ReduceSum", graph.op("Mul", hidden, mask), graph.ints(1), keepdims=0)
    mean = graph.op("Div", total, graph.op("ReduceSum", mask, graph.ints(1), keepdims=0))
    return graph.op("Div", mean, graph.op("ReduceL2", mean, graph.ints(1), keepdims=1))


def _dense(graph: _Graph, weights: Weights, name: str, hidden: str) -> str:
    product = graph.op("MatMul", hidden, graph.constant(weights[f"{name}.weight"].T))
    return graph.op("Add", product, graph.constant(weights[f"{name}.bias"]))


def _layer_norm(graph: _Graph, weights: Weights, name: str, hidden: str) -> str:
    scale, shift = graph.constant(weights[f"{name}.weight"]), graph.constant(weights[f"{name}.bias"])
    return graph.op("LayerNormalization", hidden, scale, shift, axis=-1, epsilon=1e-12)
