"""Builds ONNX graphs of a language model, node by node, for any batch size and length.

torch's exporter writes the length of its example into the graph, so other lengths fail.

Shapes: N batch, L length, E embedding, H units, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ptblm.model.interop.onnx_layers import OnnxLayer, as_array
from ptblm.model.interop.plain_layers import PlainModel

_OPSET = 18
_IR_VERSION = 9


class _Graph:
    """A graph under construction. Names of tensors are those of the nodes that compute them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any) -> str:
        """Adds a constant and returns its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(
        self, operator: str, inputs: Sequence[str], outputs: str | Sequence[str], **attributes: Any
    ) -> str:
        """Adds a node and returns the name of its first output."""
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        self.nodes.append(helper.make_node(operator, inputs, names, name=names[0], **attributes))
        return names[0]

    def model(self, name: str, inputs: Any, outputs: Any, metadata: Mapping[str, str]) -> Any:
        """Returns the complete and checked model."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(graph, opset_imports=[opset], producer_name="ptblm")
        model.ir_version = _IR_VERSION
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model


def language_model_graph(model: PlainModel[OnnxLayer], metadata: Mapping[str, str]) -> Any:
    """Returns a graph that continues from a state.

    Inputs are `tokens`, [N, L], and for each layer K the state `hK_in` and, for an LSTM, `cK_in`,
    [1, N, H] each. Outputs are `logp`, [N, L, V], log-probabilities in nats, and the states after
    the last token, `hK_out` and `cK_out`.

    Args:
        model: the model.
        metadata: texts to store in the file.
    """
    graph = _Graph()
    names = _state_names(model)
    logp = _log_probs(graph, model, "tokens", names)
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "time"])]
    outputs = [_float(logp, ["batch", "time", len(model.weight)])]
    for layer, parts in zip(model.layers, names, strict=True):
        shape = [1, "batch", layer.hidden_size]
        inputs += [_float(f"{part}_in", shape) for part in parts]
        outputs += [_float(f"{part}_out", shape) for part in parts]
    return graph.model("ptblm", inputs, outputs, metadata)


def scorer_graph(model: PlainModel[OnnxLayer], end_id: int, metadata: Mapping[str, str]) -> Any:
    """Returns a graph that scores sentences, with the interface of sherpa-onnx.

    Inputs are `x`, [N, L], sentences without the token that ends them, padded to the same length,
    and `x_lens`, [N]. The output is `nll`, [N], -log p of each sentence and its end in nats.

    Args:
        model: the model.
        end_id: the id of the token that ends a sentence, and comes before the first one.
        metadata: texts to store in the file.
    """
    graph = _Graph()
    zero, one = graph.constant("zero", np.int64(0)), graph.constant("one", np.int64(1))
    end = graph.constant("end", np.int64(end_id))
    axis = graph.constant("axis_1", np.array([1], np.int64))
    size = graph.node("Gather", [graph.node("Shape", ["x"], "shape"), zero], "batch_size")
    unit = graph.constant("unit", np.array([1], np.int64))
    column_shape = graph.node(
        "Concat",
        [graph.node("Unsqueeze", [size, _zero_axis(graph)], "sizes"), unit],
        "column",
        axis=0,
    )
    column = graph.node("Expand", [end, column_shape], "ends")  # [N, 1]
    tokens = graph.node("Concat", [column, "x"], "tokens", axis=1)  # [N, L + 1]
    padded = graph.node("Concat", ["x", column], "padded", axis=1)
    length = graph.node("Gather", ["shape", one], "length")
    places = graph.node(
        "Range", [zero, graph.node("Add", [length, one], "length_with_end"), one], "places"
    )
    lengths = graph.node("Unsqueeze", ["x_lens", axis], "lengths")  # [N, 1]
    is_end = graph.node("Equal", [places, lengths], "is_end")  # [N, L + 1]
    targets = graph.node("Where", [is_end, end, padded], "targets")
    logp = _log_probs(graph, model, tokens, None)
    last = graph.constant("last_axis", np.array([2], np.int64))
    index = graph.node("Unsqueeze", [targets, last], "index")
    chosen = graph.node(
        "Squeeze",
        [graph.node("GatherElements", [logp, index], "gathered", axis=2), last],
        "chosen",
    )
    counts = graph.node("LessOrEqual", [places, lengths], "counts")
    kept = graph.node("Where", [counts, chosen, graph.constant("none", np.float32(0))], "kept")
    total = graph.node("ReduceSum", [kept, axis], "total", keepdims=0)
    graph.node("Neg", [total], "nll")
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.INT64, ["N", "L"]),
        helper.make_tensor_value_info("x_lens", TensorProto.INT64, ["N"]),
    ]
    return graph.model("ptblm_scorer", inputs, [_float("nll", ["N"])], metadata)


def _zero_axis(graph: _Graph) -> str:
    """Adds the axis 0 as a constant and returns its name."""
    return graph.constant("axis_0", np.array([0], np.int64))


def _log_probs(
    graph: _Graph, model: PlainModel[OnnxLayer], tokens: str, states: list[list[str]] | None
) -> str:
    """Adds the layers, and returns the name of the log-probabilities, [N, L, V].

    Args:
        graph: the graph.
        model: the model.
        tokens: name of the tokens, [N, L].
        states: names of the parts of the state of each layer; None for a state of zeros.
    """
    embedding = graph.constant("embedding", as_array(model.embedding))
    vectors = graph.node("Gather", [embedding, tokens], "vectors")  # [N, L, E]
    x = graph.node("Transpose", [vectors], "by_time", perm=[1, 0, 2])  # [L, N, E]
    directions = graph.constant("directions", np.array([1], np.int64))
    outputs = []
    for number, layer in enumerate(model.layers):
        parts = None if states is None else states[number]
        x = _layer(graph, layer, number + 1, x, directions, parts)
        outputs.append(x)
    if model.sum_layers and len(outputs) > 1:
        x = graph.node("Sum", outputs, "sum_of_layers")
    x = graph.node("Transpose", [x], "features", perm=[1, 0, 2])  # [N, L, H]
    if model.projection is not None:
        projection = graph.constant("projection", as_array(model.projection).T.copy())
        x = graph.node("MatMul", [x, projection], "projected")
    weight = graph.constant("softmax_weight", as_array(model.weight).T.copy())
    bias = graph.constant("softmax_bias", as_array(model.bias))
    product = graph.node("MatMul", [x, weight], "product")
    logits = graph.node("Add", [product, bias], "logits")
    return graph.node("LogSoftmax", [logits], "logp", axis=-1)


def _layer(
    graph: _Graph,
    layer: OnnxLayer,
    number: int,
    x: str,
    directions: str,
    states: list[str] | None,
) -> str:
    """Adds a recurrent layer, and returns the name of its output, [L, N, H]."""
    inputs = [
        x,
        graph.constant(f"weight_ih_{number}", layer.weight_ih),
        graph.constant(f"weight_hh_{number}", layer.weight_hh),
        graph.constant(f"bias_{number}", layer.bias),
        "",  # the lengths, which are those of the whole batch
    ]
    outputs = [f"all_directions_{number}"]
    if states is not None:
        inputs += [f"{part}_in" for part in states]
        outputs += [f"{part}_out" for part in states]
    if layer.peepholes is not None:
        inputs += [""] * (7 - len(inputs))  # the state is optional
        inputs.append(graph.constant(f"peepholes_{number}", layer.peepholes))
    size = layer.hidden_size
    output = graph.node(layer.operator, inputs, outputs, hidden_size=size, **layer.attributes)
    return graph.node("Squeeze", [output, directions], f"output_{number}")  # [L, N, H]


def _state_names(model: PlainModel[OnnxLayer]) -> list[list[str]]:
    return [
        [f"{part}{number}" for part in ("hc" if layer.operator == "LSTM" else "h")]
        for number, layer in enumerate(model.layers, start=1)
    ]


def _float(name: str, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
