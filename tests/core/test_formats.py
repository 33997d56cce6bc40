"""Document formats restore weights bit by bit, and errors contain the path."""

import contextlib
import json
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from core import safetensors as tensors
from core.errors import EngineError, FormatError
from core.formats import Model, json_format, read_document
from core.network import Network
from core.preprocessing import Preprocessing, Standardization


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_native_document_restores_every_bit(dtype: str, data: st.DataObject) -> None:
    layers = [
        {"type": "dense", "units": 3, "activation": {"type": "leaky_relu", "negative_slope": 0.3}},
        {"type": "dropout", "rate": 0.1},
        {"type": "dense", "units": 2, "activation": "softmax"},
    ]
    network = Network.from_config({"input_shape": [4], "layers": layers, "dtype": dtype})
    finite = st.floats(
        allow_nan=False, allow_infinity=False, width=32 if dtype == "float32" else 64
    )
    network.parameters[:] = data.draw(hnp.arrays(dtype, network.parameters.shape, elements=finite))
    scaling = Standardization(np.arange(4.0), np.full(4, 0.1))
    model = Model(network, ("a", "ß"), Preprocessing(inputs=scaling))

    written = json_format.write(model)
    name, decoded = read_document(json.loads(written))

    assert name == "neurond-weights"
    assert decoded.network.parameters.tobytes() == network.parameters.tobytes()
    assert decoded.labels == model.labels
    assert json_format.write(decoded) == written


def native() -> dict[str, Any]:
    config = {
        "input_shape": [2],
        "layers": [{"type": "dense", "units": 1}, {"type": "dense", "units": 1}],
    }
    network = Network.from_config(config)
    document: dict[str, Any] = json.loads(json_format.write(Model(network)))
    return document


def changed(*path: str | int, to: object) -> dict[str, Any]:
    document: Any = native()
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = to
    return document  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (changed("format", to="onnx"), ("format",)),
        (changed("format_version", to=2), ("format_version",)),
        (changed("format_version", to=True), ("format_version",)),
        (changed("unknown", to=1), ("unknown",)),
        (changed("network", to=None), ("network",)),
        (changed("network", "unknown", to=1), ("network", "unknown")),
        (changed("network", "input_shape", to=2), ("network", "input_shape")),
        (changed("network", "labels", to=[1]), ("network", "labels")),
        (changed("network", "layers", 0, "activation", to="magic"),
         ("network", "layers", 0, "activation")),
        (changed("preprocessing", to={"x": 1}), ("preprocessing",)),
        (changed("layers", to=[]), ("layers",)),
        (changed("layers", 0, to={"type": "dropout"}), ("layers", 0)),
        (changed("layers", 0, "extra", to=1), ("layers", 0, "extra")),
        (changed("layers", 1, "weights", to=[[1.0], [2.0]]), ("layers", 1, "weights")),
        (changed("layers", 0, "weights", 1, to=[1.0, 2.0]), ("layers", 0, "weights", 1)),
        (changed("layers", 0, "weights", 1, 0, to="1"), ("layers", 0, "weights", 1, 0)),
        (changed("layers", 0, "biases", 0, to=True), ("layers", 0, "biases", 0)),
        (changed("layers", 0, "biases", 0, to=1e39), ("layers", 0, "biases", 0)),
        (changed("layers", 0, "biases", 0, to=10**400), ("layers", 0, "biases")),
        (changed("layers", 0, "biases", 0, to=1.5), ("sha256",)),
    ],
)  # fmt: skip
def test_an_invalid_native_document_is_rejected_with_the_path(
    document: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    with pytest.raises(EngineError) as caught:
        read_document(document)

    assert caught.value.path == path


def variant_a(**changes: object) -> dict[str, Any]:
    dense = {
        "type": "Dense",
        "weights": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        "biases": [[0.5, -0.5]],
        "inputSize": 3,
        "outputSize": 2,
        "activation": "relu",
    }
    return {"layers": [dense | changes], "loss": "mse"}


def variant_b(**changes: object) -> dict[str, Any]:
    dense = {
        "type": "Dense",
        "weights": {"rows": 3, "cols": 2, "data": [1, 2, 3, 4, 5, 6]},
        "biases": {"rows": 1, "cols": 2, "data": [0.5, -0.5]},
        "inputSize": 3,
        "outputSize": 2,
        "activation": {"name": "relu"},
    }
    return {"version": 1, "layers": [dense | changes, {"type": "Dropout", "rate": 0.5}, {
        "type": "Dense", "weights": {"rows": 2, "cols": 1, "data": [[1], [1]]},
        "biases": {"rows": 1, "cols": 1, "data": {"0": 0}}, "activation": {"name": "tanh"},
    }]}  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        variant_a(),
        variant_a(biases=[0.5, -0.5]),
        variant_a(biases=[[0.5], [-0.5]]),
        variant_a(weights=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        variant_b(),
        variant_b(biases={"rows": 2, "cols": 1, "data": [0.5, -0.5]}),
    ],
)
def test_both_variants_of_the_original_are_read(document: dict[str, Any]) -> None:
    name, model = read_document(document)

    first = model.network.layer_weights()[0]
    assert name == "seed-json"
    assert first is not None
    assert first.weights.tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert first.biases.tolist() == [0.5, -0.5]
    assert model.network.dtype == np.float64
    assert model.notes


def test_a_dropout_without_a_rate_is_read_with_a_note() -> None:
    document = variant_b()
    del document["layers"][1]["rate"]

    _, model = read_document(document)

    assert model.network.config()["layers"][1] == {"type": "dropout", "rate": 0.5}
    assert "layer 1: the document has no dropout rate; 0.5 was assumed" in model.notes


def test_the_slope_of_the_original_is_read() -> None:
    _, model = read_document(variant_b(activation={"name": "leaky_relu", "alpha": 0.2}))

    layer = model.network.config()["layers"][0]
    assert (layer["activation"], layer["negative_slope"]) == ("leaky_relu", 0.2)


def test_an_unknown_field_of_a_layer_is_ignored_with_a_note() -> None:
    _, model = read_document(variant_a(trainable=True))

    assert "layer 0: 'trainable' was ignored" in model.notes


def test_the_loss_of_the_original_is_ignored() -> None:
    _, model = read_document(variant_a())

    assert any("mse" in note for note in model.notes)


def test_a_column_of_biases_is_read_as_a_row_with_a_note() -> None:
    _, model = read_document(variant_a(biases=[[0.5], [-0.5]]))

    assert any("read as a row" in note for note in model.notes)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (variant_a(activation="swish"), ("layers", 0, "activation")),
        (variant_a(activation=None), ("layers", 0, "activation")),
        (variant_b(activation={"name": "gelu"}), ("layers", 0, "activation")),
        (variant_a(type="Conv2D"), ("layers", 0, "type")),
        (variant_a(inputSize=0), ("layers", 0, "inputSize")),
        (variant_a(outputSize=3), ("layers", 0, "weights", 0)),
        (variant_a(biases=[[0.5, -0.5, 1.0]]), ("layers", 0, "biases", 0)),
        (variant_b(weights={"rows": 2, "cols": 2, "data": []}), ("layers", 0, "weights")),
        (variant_b(weights={"rows": 3, "cols": 2, "data": [1]}), ("layers", 0, "weights", "data")),
        ({"layers": []}, ("layers",)),
        ({"layers": [{"type": "Dropout", "rate": 0.5}]}, ("layers",)),
        ({"layers": [{"type": "Dropout"}]}, ("layers",)),
        (variant_a(weights=[0.5]), ("layers", 0, "weights")),
        (variant_b(activation={"name": "relu", "max": 6}), ("layers", 0, "activation", "max")),
        (
            variant_b(activation={"name": "leaky_relu", "alpha": 2}),
            ("layers", 0, "activation", "negative_slope"),
        ),
        ({"layers": ["Dense"]}, ("layers", 0)),
        ({**variant_b(), "version": 2}, ("version",)),
        ({}, ()),
    ],
)
def test_an_invalid_document_of_the_original_is_rejected(
    document: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    with pytest.raises(EngineError) as caught:
        read_document(document)

    assert caught.value.path == path


def test_layers_of_incompatible_shapes_are_rejected() -> None:
    document = variant_b()
    document["layers"][2]["weights"] = {"rows": 5, "cols": 1, "data": [1, 1, 1, 1, 1]}

    with pytest.raises(EngineError) as caught:
        read_document(document)

    assert caught.value.path == ("layers", 2, "weights")


def test_tensors_round_trip() -> None:
    arrays = {
        "a": np.arange(6, dtype="<f4").reshape(2, 3),
        "empty": np.zeros((0, 4), "<f8"),
        "whole": np.array([1, -1], "<i8"),
    }

    data = tensors.encode(arrays, {"note": "emoji 🙂"})
    decoded, metadata = tensors.decode(data)

    assert metadata == {"note": "emoji 🙂"}
    assert data == tensors.encode(arrays, {"note": "emoji 🙂"})
    for name, array in arrays.items():
        np.testing.assert_array_equal(decoded[name], array)


def header(entry: object) -> bytes:
    text = json.dumps({"x": entry}).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * 16


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        b"\x05\0\0\0\0\0\0\0{",
        b"\x02\0\0\0\0\0\0\0[]",
        header({"dtype": "F32", "shape": [4], "data_offsets": [0, 15]}),
        header({"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}),
        header({"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}),
        header({"dtype": "F32", "shape": [2**60], "data_offsets": [0, 16]}),
        header({"dtype": "O", "shape": [4], "data_offsets": [0, 16]}),
        header(7),
    ],
)
def test_invalid_safetensors_are_rejected(data: bytes) -> None:
    with pytest.raises(FormatError):
        tensors.decode(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_format_errors(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        tensors.decode(data)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_are_written_as_shortest_round_trip_decimals(dtype: str) -> None:
    words = np.random.default_rng(0).integers(0, 2**63, 5000, np.uint64)
    numbers = words.view(dtype)
    numbers = np.append(
        numbers[np.isfinite(numbers)], np.array([0.0, -0.0, 1e-5, 1e16, 0.1], dtype)
    )

    text = json_format._decimals(numbers)

    assert text == "[" + ",".join(numbers.astype(str)) + "]"
    assert np.array(json.loads(text), dtype).tobytes() == numbers.tobytes()
