"""A model as a graph: standardisation, layers, probabilities and label names."""

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
from service.infrastructure.onnx.operators import OPERATORS

OPSET: Final = 17
IR_VERSION: Final = 10
"""What every ONNX Runtime of today loads; the package's own defaults are newer than some do."""


@final
class Writer:
    """Adds nodes and constants, one after the other."""

    def __init__(self, model: Model) -> None:
        self._model = model
        network = model.network
        double = network.dtype == np.float64
        self._kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def graph(self) -> onnx.ModelProto:
        """Return the graph: input -> output, and label where there are classes."""
        network = self._model.network
        here = "input"
        if self._model.preprocessing.inputs is not None:
            here = self._standardized(here, self._model.preprocessing.inputs)
        for index, (layer, part) in enumerate(
            zip(network.layers, network.layer_weights(), strict=True)
        ):
            if isinstance(layer, Dense) and part is not None:
                here = self._dense(here, layer, part, f"layers.{index}")
        if self._model.preprocessing.targets is not None:
            here = self._turned_back(here, self._model.preprocessing.targets)
        self._node("Identity", [here], "output")
        outputs = [self._told("output", network.units)]
        if self._model.labels is not None:
            self._label(self._model.labels)
            outputs.append(helper.make_tensor_value_info("label", TensorProto.STRING, ["batch"]))
        graph = helper.make_graph(
            self._nodes, "neurond", [self._told("input", network.inputs)], outputs, self._constants
        )
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="neurond"
        )
        made.ir_version = IR_VERSION
        onnx.checker.check_model(made)
        return made

    def _told(self, name: str, width: int) -> Any:
        return helper.make_tensor_value_info(name, self._kind, ["batch", width])

    def _constant(self, name: str, array: Array) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        made = helper.make_node(operator, inputs, [output], name=output, **attributes)
        self._nodes.append(made)
        return output

    def _standardized(self, here: str, scaling: Standardization) -> str:
        """Add (x - mean) / scale, in float64 as the engine has it."""
        here = self._node("Cast", [here], "input_exact", to=TensorProto.DOUBLE)
        mean = self._constant("input_mean", scaling.mean)
        here = self._node("Sub", [here, mean], "input_centred")
        scale = self._constant("input_scale", scaling.scale)
        here = self._node("Div", [here, scale], "input_scaled")
        return self._node("Cast", [here], "input_standardized", to=self._kind)

    def _turned_back(self, here: str, scaling: Standardization) -> str:
        """Add y * scale + mean."""
        here = self._node("Cast", [here], "output_exact", to=TensorProto.DOUBLE)
        scale = self._constant("output_scale", scaling.scale)
        here = self._node("Mul", [here, scale], "output_stretched")
        mean = self._constant("output_mean", scaling.mean)
        here = self._node("Add", [here, mean], "output_moved")
        return self._node("Cast", [here], "output_rounded", to=self._kind)

    def _dense(self, here: str, layer: Dense, part: LayerWeights, name: str) -> str:
        """Add x W + b and the activation."""
        weights = self._constant(f"{name}.weights", part.weights)
        biases = self._constant(f"{name}.biases", part.biases)
        here = self._node("Gemm", [here, weights, biases], f"{name}.sums")
        kind = layer.activation.type
        if kind == "linear":
            return here
        attributes: dict[str, Any] = {"axis": -1} if kind == "softmax" else {}
        if isinstance(layer.activation, LeakyReLU):
            attributes["alpha"] = layer.activation.negative_slope
        return self._node(OPERATORS[kind], [here], f"{name}.outputs", **attributes)

    def _label(self, labels: tuple[str, ...]) -> None:
        """Add the name of the most probable class."""
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
