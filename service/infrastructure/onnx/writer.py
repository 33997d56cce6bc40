"""Writes a model as an ONNX graph: standardisation, layers and labels."""

from typing import Any, Final, final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.activations import LeakyReLU
from core.arrays import Array
from core.formats import Model
from core.layers import Dense
from core.network import LayerWeights
from core.preprocessing import Standardization

OPERATORS: Final = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softmax": "Softmax",
}
"""The operators of the activations."""

OPSET: Final = 17
IR_VERSION: Final = 10
"""Supported by all current ONNX Runtimes; the defaults of the package are too new for some."""


@final
class Writer:
    """Builds the graph of a model node by node."""

    def __init__(self, model: Model) -> None:
        self._model = model
        network = model.network
        double = network.dtype == np.float64
        self._element_type = TensorProto.DOUBLE if double else TensorProto.FLOAT
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def graph(self) -> onnx.ModelProto:
        """Return the model with ``input`` and ``output``, and with ``label`` if it has labels."""
        network = self._model.network
        current = "input"
        if self._model.preprocessing.inputs is not None:
            current = self._add_standardization(current, self._model.preprocessing.inputs)
        for index, (layer, weights) in enumerate(
            zip(network.layers, network.layer_weights(), strict=True)
        ):
            if isinstance(layer, Dense) and weights is not None:
                current = self._add_layer(current, layer, weights, f"layers.{index}")
        if self._model.preprocessing.targets is not None:
            current = self._add_inverse_standardization(current, self._model.preprocessing.targets)
        self._node("Identity", [current], "output")
        outputs = [self._value_info("output", network.units)]
        if self._model.labels is not None:
            self._add_label(self._model.labels)
            outputs.append(helper.make_tensor_value_info("label", TensorProto.STRING, ["batch"]))
        graph = helper.make_graph(
            self._nodes,
            "neurond",
            [self._value_info("input", network.inputs)],
            outputs,
            self._constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="neurond"
        )
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model

    def _value_info(self, name: str, width: int) -> Any:
        return helper.make_tensor_value_info(name, self._element_type, ["batch", width])

    def _constant(self, name: str, array: Array) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        node = helper.make_node(operator, inputs, [output], name=output, **attributes)
        self._nodes.append(node)
        return output

    def _add_standardization(self, current: str, scaling: Standardization) -> str:
        """Add (x - mean) / scale in float64, as the engine computes it."""
        current = self._node("Cast", [current], "input_exact", to=TensorProto.DOUBLE)
        mean = self._constant("input_mean", scaling.mean)
        current = self._node("Sub", [current, mean], "input_centred")
        scale = self._constant("input_scale", scaling.scale)
        current = self._node("Div", [current, scale], "input_scaled")
        return self._node("Cast", [current], "input_standardized", to=self._element_type)

    def _add_inverse_standardization(self, current: str, scaling: Standardization) -> str:
        """Add y * scale + mean in float64."""
        current = self._node("Cast", [current], "output_exact", to=TensorProto.DOUBLE)
        scale = self._constant("output_scale", scaling.scale)
        current = self._node("Mul", [current, scale], "output_stretched")
        mean = self._constant("output_mean", scaling.mean)
        current = self._node("Add", [current, mean], "output_moved")
        return self._node("Cast", [current], "output_rounded", to=self._element_type)

    def _add_layer(self, current: str, layer: Dense, parameters: LayerWeights, name: str) -> str:
        """Add the activation of x W + b."""
        weights = self._constant(f"{name}.weights", parameters.weights)
        biases = self._constant(f"{name}.biases", parameters.biases)
        current = self._node("Gemm", [current, weights, biases], f"{name}.sums")
        kind = layer.activation.type
        if kind == "linear":
            return current
        attributes: dict[str, Any] = {"axis": -1} if kind == "softmax" else {}
        if isinstance(layer.activation, LeakyReLU):
            attributes["alpha"] = layer.activation.negative_slope
        return self._node(OPERATORS[kind], [current], f"{name}.outputs", **attributes)

    def _add_label(self, labels: tuple[str, ...]) -> None:
        """Add the output ``label``, the name of the most probable class."""
        names = self._constant("label_names", np.array(labels, dtype=object))
        if self._model.network.units == 1:
            half = self._constant("half", np.array(0.5, self._model.network.dtype))
            over = self._node("Greater", ["output", half], "is_second")
            column = self._node("Cast", [over], "class_column", to=TensorProto.INT64)
            flat = self._constant("flat", np.array([-1]))
            best = self._node("Reshape", [column, flat], "class_index")
        else:
            best = self._node("ArgMax", ["output"], "class_index", axis=-1, keepdims=0)
        self._node("Gather", [names, best], "label", axis=0)
