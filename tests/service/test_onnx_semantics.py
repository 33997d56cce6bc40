"""An imported ONNX file computes what ONNX Runtime computes, or is refused with its node."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import FormatError
from core.formats import Model
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing, Standardization

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from service.infrastructure.onnx.format import Onnx  # noqa: E402 - an extra
from service.infrastructure.onnx.reader import read  # noqa: E402

INPUTS = 3
ROWS = np.random.default_rng(4).normal(size=(16, INPUTS)).astype(np.float32)
FLOAT, DOUBLE, INT32, INT64 = 1, 11, 6, 7
ML = "ai.onnx.ml"


class Graph:
    """A graph under construction, whose nodes form a chain unless a step says otherwise."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.outputs = ["y"]
        self.last, self.width, self.opset = "x", INPUTS, 17

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        values = np.asarray(array)
        if values.dtype == np.float64:
            values = values.astype(np.float32)
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, *operands: Any, **attributes: Any) -> str:
        """Add a node; arrays among its operands become constants, None is the chain so far."""
        names = [
            self.last
            if operand is None
            else operand
            if isinstance(operand, str)
            else self.constant(operand)
            for operand in operands
        ]
        output = f"t{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, names, [output], **attributes))
        self.last = output
        return output

    def values(self, *shape: int) -> Any:
        return self.random.normal(size=shape).astype(np.float32)

    def layer(self, units: int = 4) -> None:
        self.add("Gemm", None, self.values(self.width, units), self.values(units))
        self.width = units

    def data(self) -> bytes:
        outputs = [self.last if name == "y" else name for name in self.outputs]
        graph = onnx.helper.make_graph(
            self.nodes,
            "g",
            [onnx.helper.make_tensor_value_info("x", FLOAT, [None, INPUTS])],
            [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(outputs)],
            self.constants,
        )
        opsets = [onnx.helper.make_opsetid("", self.opset), onnx.helper.make_opsetid(ML, 3)]
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        model.ir_version = 8
        data: bytes = model.SerializeToString()
        return data


def reference(data: bytes, rows: Any = ROWS) -> list[Any]:
    """Return the outputs of ONNX Runtime."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(data, options, ["CPUExecutionProvider"])
    results: list[Any] = session.run(None, {session.get_inputs()[0].name: rows})
    return results


def outputs(model: Model, rows: Any = ROWS) -> Any:
    return Forward(model.network, model.preprocessing)(rows.astype(np.float64))


def agrees(model: Model, data: bytes) -> bool:
    """Return True if every numeric output of the file is the network's output."""
    got = outputs(model)
    for expected in reference(data):
        if expected.dtype.kind == "f":
            scale = max(1.0, float(np.abs(expected).max()))
            if expected.shape != got.shape or np.abs(got - expected).max() > 1e-4 * scale:
                return False
    return True


def positive(graph: Graph, *shape: int) -> Any:
    return np.abs(graph.values(*shape)) + np.float32(0.5)


def normalize(graph: Graph) -> None:
    width = graph.width
    statistics = [graph.values(width) for _ in range(3)]
    graph.add("BatchNormalization", None, *statistics, positive(graph, width), epsilon=1e-3)


def without_bias(graph: Graph) -> None:
    weights = graph.constant(graph.values(4, graph.width))
    transposed = f"w{len(graph.nodes)}"
    graph.nodes.append(onnx.helper.make_node("Transpose", [weights], [transposed], perm=[1, 0]))
    graph.add("MatMul", None, transposed)
    graph.width = 4


def with_alpha(graph: Graph) -> None:
    graph.add("Gemm", None, graph.values(2, graph.width), graph.values(2), transB=1, alpha=0.5)
    graph.width = 2


def joined(graph: Graph) -> None:
    graph.add("Concat", None, graph.last, axis=1)
    graph.width *= 2


def skip_connection(graph: Graph) -> None:
    before = graph.last
    graph.add("Relu", None)
    graph.add("Add", None, before)


STEPS: dict[str, Any] = {
    "layer": Graph.layer,
    "layer with alpha": with_alpha,
    "layer without bias": without_bias,
    "bias": lambda g: g.add("Add", None, g.values(1, g.width)),
    "bias first": lambda g: g.add("Add", g.values(g.width), None),
    "minus": lambda g: g.add("Sub", None, g.values(g.width)),
    "from constant": lambda g: g.add("Sub", g.values(g.width), None),
    "times": lambda g: g.add("Mul", None, g.values(g.width)),
    "over": lambda g: g.add("Div", None, positive(g, g.width)),
    "constant over": lambda g: g.add("Div", positive(g, g.width), None),
    "scaler": lambda g: g.add(
        "Scaler", None, domain=ML, offset=[0.5] * g.width, scale=[2.0] * g.width
    ),
    "batch normalization": normalize,
    "relu": lambda g: g.add("Relu", None),
    "leaky": lambda g: g.add("LeakyRelu", None, alpha=0.2),
    "prelu": lambda g: g.add("PRelu", None, np.full(g.width, 0.25, np.float32)),
    "prelu by unit": lambda g: g.add("PRelu", None, positive(g, g.width)),
    "tanh": lambda g: g.add("Tanh", None),
    "sigmoid": lambda g: g.add("Sigmoid", None),
    "elu": lambda g: g.add("Elu", None),
    "softmax": lambda g: g.add("Softmax", None, axis=-1),
    "clip to zero": lambda g: g.add("Clip", None, np.float32(0.0)),
    "clip to six": lambda g: g.add("Clip", None, np.float32(0.0), np.float32(6.0)),
    "clip nothing": lambda g: g.add("Clip", None, np.float32(-np.inf), np.float32(3.4028235e38)),
    "identity": lambda g: g.add("Identity", None),
    "double": lambda g: (g.add("Cast", None, to=DOUBLE), g.add("Cast", None, to=FLOAT)),
    "integer": lambda g: (g.add("Cast", None, to=INT32), g.add("Cast", None, to=FLOAT)),
    "half": lambda g: (g.add("Cast", None, to=10), g.add("Cast", None, to=FLOAT)),
    "flatten": lambda g: g.add("Flatten", None),
    "reshape": lambda g: g.add("Reshape", None, np.array([-1, g.width])),
    "dropout": lambda g: g.add("Dropout", None),
    "normalizer": lambda g: g.add("Normalizer", None, domain=ML, norm="L2"),
    "skip": skip_connection,
    "concat": joined,
    "abs": lambda g: g.add("Abs", None),
    "second output": lambda g: g.outputs.append(g.last),
}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=9), st.integers(0, 2**32 - 1))
def test_a_graph_is_imported_as_the_same_function_or_not_at_all(
    steps: list[str], seed: int
) -> None:
    graph = Graph(seed)
    for step in steps:
        STEPS[step](graph)
    data = graph.data()
    try:
        model = read(data, 100_000)
    except FormatError:
        return

    assert agrees(model, data), steps


@pytest.mark.parametrize(
    "steps",
    [
        ["times", "bias", "layer", "relu", "layer", "softmax"],
        ["scaler", "layer without bias", "bias", "relu", "layer"],
        ["batch normalization", "layer", "batch normalization", "relu", "layer", "sigmoid"],
        ["layer", "relu", "batch normalization", "layer", "tanh"],
        ["layer", "leaky", "layer with alpha", "prelu", "layer"],
        ["layer", "clip to zero", "layer", "clip nothing"],
        ["layer", "times", "bias"],
        ["layer", "minus"],
        ["layer", "from constant"],
        ["double", "over", "layer", "identity", "dropout", "flatten", "reshape", "tanh"],
        ["layer", "layer without bias", "layer"],
    ],
    ids="-".join,
)
def test_graphs_of_common_tools_are_imported(steps: list[str]) -> None:
    graph = Graph(7)
    for step in steps:
        STEPS[step](graph)

    assert agrees(read(graph.data(), 100_000), graph.data())


@pytest.mark.parametrize(
    ("steps", "node"),
    [
        (["layer", "concat", "layer"], "Concat"),
        (["layer", "skip", "layer"], "Add"),
        (["layer", "prelu by unit", "layer"], "PRelu"),
        (["layer", "integer"], "Cast"),
        (["layer", "half"], "Cast"),
        (["layer", "clip to six"], "Clip"),
        (["layer", "elu"], "Elu"),
        (["layer", "relu", "relu"], "Relu"),
        (["layer", "constant over"], "Div"),
        (["layer", "normalizer"], "Normalizer"),
        (["relu", "layer"], "Relu"),
        (["layer", "sigmoid", "times"], "scaled or moved"),
    ],
)
def test_a_graph_that_no_network_computes_is_refused_with_its_node(
    steps: list[str], node: str
) -> None:
    graph = Graph(8)
    for step in steps:
        STEPS[step](graph)

    with pytest.raises(FormatError, match=node):
        read(graph.data(), 100_000)


def squeezed(graph: Graph) -> Graph:
    graph.layer(1)
    graph.add("Squeeze", None, np.array([1]))
    return graph


def sigmoid_list(graph: Graph) -> None:
    graph.layer(1)
    graph.add("Sigmoid", None)
    p = graph.add("Squeeze", None, np.array([1]))
    graph.add("Sub", np.ones(1, np.float32), None)
    graph.add("Concat", None, p, axis=-1)


def logarithm(graph: Graph) -> Graph:
    graph.layer()
    graph.add("LogSoftmax", None, axis=-1)
    return graph


def scaled_probabilities(graph: Graph) -> None:
    graph.layer()
    graph.add("Softmax", None, axis=-1)
    graph.add("Mul", None, np.full(1, 2.0, np.float32))
    graph.add("Normalizer", None, domain=ML, norm="L1")
    graph.layer(2)


def batch_statistics(graph: Graph) -> None:
    graph.opset = 9
    graph.layer()
    names = [graph.constant(graph.values(4)) for _ in range(3)]
    variance = graph.constant(positive(graph, 4))
    operands = [graph.last, *names, variance]
    outputs_ = ["y", "mean", "variance", "saved_mean", "saved_variance"]
    graph.nodes.append(onnx.helper.make_node("BatchNormalization", operands, outputs_))
    graph.last = "y"


def constant_of_three_dimensions(graph: Graph) -> None:
    graph.layer()
    graph.add("Add", None, graph.values(1, 1, 4))
    graph.add("Softmax", None, axis=1)


def wide_slope(graph: Graph) -> None:
    graph.layer(1)
    graph.add("PRelu", None, np.full(4, 0.2, np.float32))


def overflow(graph: Graph) -> None:
    graph.layer()
    for _ in range(9):
        graph.add("Mul", None, np.full(1, 3e38, np.float32))


HIDDEN: dict[str, Any] = {
    "softmax of a list": lambda g: squeezed(g).add("Softmax", None, axis=-1),
    "layer after a list": lambda g: squeezed(g).layer(),
    "pair of lists": sigmoid_list,
    "layer after a logarithm": lambda g: logarithm(g).layer(2),
    "clip after a logarithm": lambda g: logarithm(g).add(
        "Clip", None, np.float32(0.0), np.float32(1.0)
    ),
    "normalizer after a logarithm": lambda g: logarithm(g).add(
        "Normalizer", None, domain=ML, norm="L1"
    ),
    "sum after a logarithm": lambda g: logarithm(g).add("Add", None, g.values(4)),
    "normalizer of scaled probabilities": scaled_probabilities,
    "batch statistics": batch_statistics,
    "wide slope": wide_slope,
    "constant of three dimensions": constant_of_three_dimensions,
    "overflow": overflow,
}


@pytest.mark.parametrize("name", list(HIDDEN))
def test_a_change_of_meaning_is_not_overlooked(name: str) -> None:
    graph = Graph(9)
    HIDDEN[name](graph)

    with pytest.raises(FormatError):
        read(graph.data(), 100_000)


@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        ([None, 6, 1], ["minus"]),
        ([None, 1, 3], ["layer", "softmax rows"]),
        ([1, None, 3], ["layer", "softmax rows"]),
        ([None, None, 3], ["layer", "flatten"]),
        ([None, None, 3], ["layer", "batch normalization"]),
    ],
)
def test_an_input_of_several_dimensions_must_be_flattened_first(
    shape: list[int | None], steps: list[str]
) -> None:
    graph = Graph(3)
    for step in steps:
        if step == "softmax rows":
            graph.add("Softmax", None, axis=1)
        else:
            STEPS[step](graph)
    if steps == ["minus"]:
        graph.add("MatMul", None, graph.values(6, 2))
    model = onnx.load_model_from_string(graph.data())
    value = onnx.helper.make_tensor_value_info("x", FLOAT, shape)
    model.graph.input[0].CopyFrom(value)

    with pytest.raises(FormatError):
        read(model.SerializeToString(), 100_000)


@pytest.mark.parametrize("steps", ["argmax of one column", "index to bool"])
def test_labels_are_those_of_the_file(steps: str) -> None:
    graph = Graph(3)
    graph.layer(1 if steps == "argmax of one column" else 4)
    p = graph.add("Sigmoid" if graph.width == 1 else "Softmax", None)
    graph.add("ArgMax", None, axis=1, keepdims=0)
    if steps == "index to bool":
        graph.add("Cast", None, to=9)
        graph.add("Cast", None, to=INT64)
    names = graph.constant(np.array(["a", "b", "c", "d"][: max(graph.width, 2)], object))
    label = graph.add("Gather", names, None)
    graph.last, graph.outputs = p, ["y", label]

    with pytest.raises(FormatError):
        read(graph.data(), 100_000)


def test_a_second_output_is_refused() -> None:
    graph = Graph()
    graph.layer()
    graph.outputs.append(graph.last)
    graph.layer()

    with pytest.raises(FormatError, match="second output"):
        read(graph.data(), 100_000)


def test_logarithms_of_probabilities_are_read_as_probabilities_with_a_note() -> None:
    graph = Graph()
    graph.layer()
    graph.add("LogSoftmax", None, axis=1)

    model = read(graph.data(), 100_000)

    assert any("LogSoftmax" in note for note in model.notes)
    assert np.allclose(outputs(model), np.exp(reference(graph.data())[0]), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_half_precision_weights_are_read_exactly(dtype: Any) -> None:
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    graph = Graph()
    weights = graph.values(INPUTS, 4).astype(dtype)
    graph.add("MatMul", None, graph.constant(weights))

    model = read(graph.data(), 100_000)

    layer = model.network.layer_weights()[0]
    assert layer is not None
    assert np.array_equal(layer.weights, weights.astype(np.float32))
    assert any("half-precision" in note for note in model.notes)


def binary_model() -> Any:
    """Return a LinearClassifier with its probabilities, as scikit-learn's converter writes it."""
    graph = Graph()
    weights, bias = graph.values(INPUTS).tolist(), 0.3
    attributes = {
        "coefficients": [*(-w for w in weights), *weights],
        "intercepts": [-bias, bias],
        "classlabels_ints": [3, 8],
        "post_transform": "LOGISTIC",
    }
    node = onnx.helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain=ML, **attributes
    )
    graph.nodes.append(node)
    graph.last = "scores"
    graph.add("Normalizer", None, domain=ML, norm="L1")
    graph.outputs.append("label")
    return graph


def test_a_binary_linear_classifier_is_read_with_its_classes() -> None:
    data = binary_model().data()

    model = read(data, 100_000)

    assert model.labels == ("3", "8")
    assert agrees(model, data)
    classes = [int(model.labels[index]) for index in outputs(model).argmax(axis=1)]
    assert classes == reference(data)[1].tolist()


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_a_linear_classifier_of_several_classes_is_read(transform: str) -> None:
    graph = Graph()
    node = onnx.helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        domain=ML,
        coefficients=graph.values(4 * INPUTS).tolist(),
        intercepts=[0.1, 0.2, 0.3, 0.4],
        classlabels_strings=["a", "b", "c", "d"],
        post_transform=transform,
    )
    graph.nodes.append(node)
    graph.last = "scores"
    graph.outputs.append("label")

    model = read(graph.data(), 100_000)

    assert agrees(model, graph.data())
    assert model.labels == (None if transform == "NONE" else ("a", "b", "c", "d"))


def test_a_linear_regressor_is_read() -> None:
    graph = Graph()
    graph.add(
        "LinearRegressor",
        None,
        domain=ML,
        coefficients=graph.values(2 * INPUTS).tolist(),
        intercepts=[1.0, 2.0],
        targets=2,
    )

    assert agrees(read(graph.data(), 100_000), graph.data())


def test_the_two_probabilities_of_a_binary_network_are_read() -> None:
    """scikit-learn's converter writes [1 - p, p] for MLPClassifier with two classes."""
    graph = Graph()
    graph.layer(1)
    p = graph.add("Sigmoid", None)
    graph.add("Sub", np.ones(1, np.float32), None)
    graph.add("Concat", None, p, axis=1)

    assert agrees(read(graph.data(), 100_000), graph.data())


EXTERNAL = {"location": "secret", "offset": "0", "length": "64"}


def external_tensor() -> Any:
    tensor = onnx.TensorProto(name="w", data_type=FLOAT, dims=[INPUTS, 4], data_location=1)
    for key, value in EXTERNAL.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def external_places() -> dict[str, Any]:
    """Return a node or a tensor for each place in which external data can stand."""
    node = onnx.helper.make_node
    inner = onnx.helper.make_graph([], "inner", [], [], [external_tensor()])
    sparse = onnx.SparseTensorProto(values=external_tensor())
    return {
        "constant": node("Constant", [], ["w"], value=external_tensor()),
        "second attribute": node("Constant", [], ["w"], value_int=1, value=external_tensor()),
        "tensors": node("Other", [], ["w"], values=[external_tensor()]),
        "sparse": node("Constant", [], ["w"], sparse_value=sparse),
        "subgraph": node("If", ["x"], ["w"], then_branch=inner),
        "subgraphs": node("Other", ["x"], ["w"], branches=[inner]),
        "initializer": external_tensor(),
        "sparse initializer": sparse,
    }


@pytest.mark.parametrize("place", sorted(external_places()))
def test_external_data_is_refused_wherever_a_tensor_can_stand(
    place: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(np.ones(16, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    graph = Graph()
    graph.add("MatMul", None, "w")
    model = onnx.load_model_from_string(graph.data())
    part = external_places()[place]
    if isinstance(part, onnx.NodeProto):
        model.graph.node.insert(0, part)
    elif isinstance(part, onnx.SparseTensorProto):
        model.graph.sparse_initializer.append(part)
    else:
        model.graph.initializer.append(part)

    with pytest.raises(FormatError, match=r"another file|sparse"):
        read(model.SerializeToString(), 100_000)


def own_model(last: str, dtype: str, *, units: int, slope: float) -> Model:
    config = {
        "input_shape": [INPUTS],
        "layers": [
            {
                "type": "dense",
                "units": 5,
                "activation": {"type": "leaky_relu", "negative_slope": slope},
            },
            {"type": "dense", "units": units, "activation": last},
        ],
        "dtype": dtype,
    }
    network = Network.from_config(config)
    network.initialize(np.random.default_rng(units))
    network.parameters += network.dtype.type(0.01)
    scaling = Standardization(np.array([1.0, 2.0, 3.0]), np.array([0.3, 4.0, 1 / 3]))
    targets = Standardization(np.arange(units) + 0.1, np.arange(units) + 1 / 7)
    labels = None
    if last in {"softmax", "sigmoid"}:
        labels = tuple(f"label {index}" for index in range(2 if units == 1 else units))
    return Model(network, labels, Preprocessing(scaling, targets if last == "linear" else None))


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("last", "units"),
    [("softmax", 4), ("sigmoid", 1), ("sigmoid", 3), ("linear", 1), ("linear", 3), ("tanh", 2),
     ("relu", 2), ("leaky_relu", 2)],
)  # fmt: skip
def test_an_own_export_is_imported_with_equal_outputs(
    last: str, units: int, dtype: str, slope: float
) -> None:
    before = own_model(last, dtype, units=units, slope=slope)

    after = read(Onnx().write(before), 100_000)

    assert after.network.sha256() == before.network.sha256()
    assert after.network.config() == before.network.config()
    assert after.preprocessing.config() == before.preprocessing.config()
    assert after.labels == before.labels
    assert np.array_equal(outputs(after), outputs(before))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [(20_000, "20000 nodes"), (9_000, "9000 layers|more than 1000 layers")],
)
def test_a_long_chain_costs_time_in_proportion_to_its_length(nodes: int, message: str) -> None:
    graph = Graph()
    weights = graph.constant(np.eye(INPUTS, dtype=np.float32))
    for _ in range(nodes):
        graph.add("MatMul", None, weights)

    with pytest.raises(FormatError, match=message):
        read(graph.data(), 1_000_000)
