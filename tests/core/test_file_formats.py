"""File formats restore weights bit by bit, read files of other tools, and never execute code."""

import io
import json
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import safetensors as tensors
from core.errors import EngineError, FormatError
from core.formats import FILE_FORMATS, WRITTEN_FORMATS, Model, ModelReader, read_document
from core.formats.code import JavaScriptCode, PythonCode
from core.formats.npz_format import Npz
from core.formats.safetensors_format import Safetensors
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing, Standardization

ACTIVATIONS = ["sigmoid", "relu", "leaky_relu", "tanh", "softmax", "linear"]
MAX_PARAMETERS = 10_000
"""Maximum number of parameters of a file."""

ROWS = np.random.default_rng(9).normal(size=(20, 3))


def build_model(last: str = "softmax", dtype: str = "float32", units: int = 4) -> Model:
    config = {
        "input_shape": [3],
        "layers": [
            {"type": "dense", "units": 5, "activation": "relu"},
            {"type": "dropout", "rate": 0.2},
            {"type": "dense", "units": units, "activation": last},
        ],
        "dtype": dtype,
    }
    network = Network.from_config(config)
    network.initialize(np.random.default_rng(1))
    network.parameters += network.dtype.type(0.01)  # non-zero biases
    scaling = Standardization(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 8.0]))
    target_scaling = Standardization(np.arange(units) + 0.5, np.arange(units) + 1.0)
    labels = None
    if last in {"softmax", "sigmoid"}:
        count = 2 if units == 1 else units
        labels = tuple(f'l"{index}"</é\\' for index in range(count))
    preprocessing = Preprocessing(scaling, target_scaling if last == "linear" else None)
    return Model(network, labels, preprocessing)


@pytest.mark.parametrize("part", FILE_FORMATS, ids=lambda part: part.type)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last", ACTIVATIONS)
def test_a_file_restores_every_bit(part: Any, dtype: str, last: str) -> None:
    before = build_model(last, dtype)

    data = part.write(before)
    after = part.read(data, MAX_PARAMETERS)

    assert after.network.config() == before.network.config()
    assert after.network.sha256() == before.network.sha256()
    assert after.labels == before.labels
    assert after.preprocessing.config() == before.preprocessing.config()
    assert part.write(after) == data


def run_export(part: Any, model: Model, folder: Path) -> list[Any]:
    """Run an exported file on the rows, and return its results."""
    file = folder / f"network{part.suffix}"
    file.write_bytes(part.write(model))
    if part.type == "python":
        output = subprocess.run(  # noqa: S603 - the file under test
            [sys.executable, str(file), json.dumps(ROWS.tolist())],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        return [json.loads(line) for line in output.splitlines()]
    node = shutil.which("node")
    if node is None:
        pytest.skip("requires Node.js")
    verb = "predict" if model.labels is None else "classify"
    script = (
        f"import {{ {verb} }} from {json.dumps(file.as_uri())};"
        f"console.log(JSON.stringify({json.dumps(ROWS.tolist())}.map({verb})));"
    )
    output = subprocess.run(  # noqa: S603 - the file under test
        [node, "--input-type=module", "-e", script], capture_output=True, check=True, text=True
    ).stdout
    results: list[Any] = json.loads(output)
    return results


@pytest.mark.parametrize("part", [PythonCode(), JavaScriptCode()], ids=lambda part: part.type)
@pytest.mark.parametrize(("last", "units"), [*((last, 4) for last in ACTIVATIONS), ("sigmoid", 1)])
def test_exported_code_agrees_with_the_engine(
    part: Any, last: str, units: int, tmp_path: Path
) -> None:
    model = build_model(last, units=units)
    outputs = Forward(model.network, model.preprocessing)(ROWS).astype(np.float64)

    results = run_export(part, model, tmp_path)

    if model.labels is None:
        assert np.allclose(results, outputs, atol=1e-6, rtol=1e-6)
        return
    if units == 1:
        outputs = np.hstack([1 - outputs, outputs])
    probabilities = [result["probabilities"] for result in results]
    assert np.allclose(probabilities, outputs, atol=1e-6)
    assert [result["label"] for result in results] == [
        model.labels[index] for index in outputs.argmax(axis=1)
    ]


@pytest.mark.parametrize("part", WRITTEN_FORMATS, ids=lambda part: part.type)
def test_writing_is_deterministic(part: Any) -> None:
    assert part.write(build_model()) == part.write(build_model())


def test_a_pytorch_state_dictionary_is_transposed() -> None:
    generator = np.random.default_rng(1)
    arrays = {
        "0.weight": generator.normal(size=(5, 3)).astype("f4"),
        "0.bias": generator.normal(size=5).astype("f4"),
        "10.weight": generator.normal(size=(2, 5)).astype("f4"),
        "10.bias": generator.normal(size=2).astype("f4"),
    }

    loaded = Safetensors().read(tensors.encode(arrays, {}), MAX_PARAMETERS)

    x = ROWS.astype("f4")
    expected = np.maximum(x @ arrays["0.weight"].T + arrays["0.bias"], 0)
    expected = expected @ arrays["10.weight"].T + arrays["10.bias"]
    assert np.allclose(loaded.network.forward(x), expected, atol=1e-5)
    assert any("PyTorch" in note for note in loaded.notes)
    assert any("no activations" in note for note in loaded.notes)


def saved(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_lists_of_arrays_are_read_in_order() -> None:
    kernel, bias = np.ones((3, 2)), np.array([1.0, 2.0])

    data = saved(arr_0=kernel, arr_1=bias, arr_2=np.ones((2, 1)), arr_3=np.zeros(1))
    loaded = Npz().read(data, MAX_PARAMETERS)

    assert loaded.network.widths == [3, 2, 1]
    assert loaded.network.dtype == np.float64


def test_scikit_learn_attributes_are_read() -> None:
    document: dict[str, Any] = {
        "coefs_": [[[1.0, -1.0], [0.5, 2.0]], [[1.0], [1.0]]],
        "intercepts_": [[0.0, 0.5], [-1.0]],
        "activation": "tanh",
        "out_activation_": "logistic",
        "classes_": [0, 1],
    }

    name, loaded = read_document(document)

    assert name == "sklearn-json"
    assert loaded.labels == ("0", "1")
    assert loaded.network.output_activation == "sigmoid"
    x = np.array([[0.3, 0.7]])
    hidden = np.tanh(x @ np.array(document["coefs_"][0]) + [0.0, 0.5])
    expected = 1 / (1 + np.exp(-(hidden @ np.array(document["coefs_"][1]) - 1.0)))
    assert np.allclose(loaded.network.forward(x), expected)


def zip_bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}\n"
        magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        archive.writestr("layers.0.weights.npy", magic + header)
    return stream.getvalue()


def objects() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, weights=np.array([{"a": 1}], dtype=object))
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04junk",
        zip_bomb(),
        objects(),
        saved(a=np.ones(3)),
        saved(a=np.ones((3, 2)), b=np.ones(3)),
        saved(a=np.ones((3, 2)), b=np.array([1.0, np.nan])),
        saved(a=np.ones((3, 2)), b=np.ones(2), c=np.ones((3, 2)), d=np.ones(2)),
        saved(description=np.frombuffer(b"\xff\xfe", np.uint8)),
        saved(description=np.frombuffer(b"{}", np.uint8)),
    ],
)
def test_invalid_npz_files_are_rejected(data: bytes) -> None:
    with pytest.raises(EngineError):
        Npz().read(data, MAX_PARAMETERS)


def test_truncated_files_are_rejected_at_every_length() -> None:
    for part in FILE_FORMATS:
        data = part.write(build_model())  # type: ignore[attr-defined]
        for end in range(0, len(data) - 1, max(1, len(data) // 97)):
            with pytest.raises(EngineError):
                part.read(data[:end], MAX_PARAMETERS)


def description(units: Any, *, inputs: Any = 2) -> str:
    layers = [{"type": "dense", "units": units, "activation": "linear"}]
    network = {"input_shape": [inputs], "layers": layers, "dtype": "float32"}
    return json.dumps({"format": "neurond-weights", "format_version": 1, "network": network})


@pytest.mark.parametrize(
    ("description", "weights"),
    [
        (description(1), np.zeros((2_000_000, 1))),
        (description(10**9, inputs=10**9), np.zeros((2, 1))),
        (description(10**12), np.zeros((2, 1))),
        (description(4000), np.zeros((2, 1))),
        (description(1), np.zeros((1, 2))),
    ],
    ids=["arrays", "both", "units", "small", "transposed"],
)
def test_oversized_descriptions_are_rejected_before_allocation(
    description: str, weights: Any
) -> None:
    arrays = {"layers.0.weights": weights, "layers.0.biases": np.zeros(1)}
    stream = io.BytesIO()
    text = np.frombuffer(description.encode(), np.uint8)
    np.savez_compressed(stream, description=text, **arrays)
    files: list[tuple[ModelReader, bytes]] = [
        (Npz(), stream.getvalue()),
        (Safetensors(), tensors.encode(arrays, {"neurond": description})),
    ]

    for part, data in files:
        tracemalloc.start()
        with pytest.raises(EngineError):
            part.read(data, MAX_PARAMETERS)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4_000_000


@pytest.mark.parametrize(
    "layers", [[0] * 400_000, [{"type": "dropout", "rate": 0.1}] * 2000], ids=["zeros", "dropout"]
)
def test_long_descriptions_are_rejected_before_allocation(layers: list[Any]) -> None:
    network = {"input_shape": [2], "layers": layers, "dtype": "float32"}
    text = json.dumps({"format": "neurond-weights", "format_version": 1, "network": network})

    for padding in (0, 2 << 20):
        array = np.frombuffer((text + " " * padding).encode(), np.uint8)
        stream = io.BytesIO()
        np.savez_compressed(stream, description=array)
        tracemalloc.start()
        with pytest.raises(FormatError):
            Npz().read(stream.getvalue(), 2_000_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 30_000_000


def layer(name: str, inputs: int, units: int, *, bias: bool = True) -> dict[str, Any]:
    """Return the arrays of a layer as PyTorch saves them."""
    arrays = {f"{name}.weight": np.full((units, inputs), inputs + units, np.float32)}
    return arrays | ({f"{name}.bias": np.zeros(units, np.float32)} if bias else {})


def test_layers_with_numbers_are_read_in_their_order() -> None:
    arrays = {**layer("layer10", 4, 2), **layer("layer9", 3, 4)}

    assert Safetensors().read(tensors.encode(arrays, {}), MAX_PARAMETERS).network.widths == [
        3,
        4,
        2,
    ]


def test_the_only_order_that_fits_is_used_with_a_note() -> None:
    arrays = {**layer("hidden", 5, 6), **layer("output", 6, 2), **layer("start", 3, 5)}

    model = Safetensors().read(tensors.encode(arrays, {}), MAX_PARAMETERS)

    assert model.network.widths == [3, 5, 6, 2]
    assert any("start, hidden, output" in note for note in model.notes)


@pytest.mark.parametrize(
    "arrays",
    [
        {**layer("decoder", 4, 8), **layer("encoder", 8, 4)},
        {**layer("hidden_layer", 4, 4), **layer("input_layer", 4, 4)},
        {**layer("encoder.0", 4, 8), **layer("decoder.0", 8, 4)},
        {name: array for k in "abcdefghi" for name, array in layer(k, 3, 3).items()},
        {**layer("a", 4, 8), **layer("b", 3, 7)},
    ],
    ids=["both orders", "equal widths", "numbers of parts", "nine layers", "no order"],
)
def test_an_unknown_order_is_refused(arrays: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="order"):
        Safetensors().read(tensors.encode(arrays, {}), MAX_PARAMETERS)


def test_an_npz_without_numbers_keeps_its_order_whatever_its_names() -> None:
    first, second = np.full((4, 4), 2.0), np.full((4, 4), 3.0)
    stream = io.BytesIO()
    np.savez(stream, zeta_w=first, zeta_b=np.zeros(4), alpha_w=second, alpha_b=np.zeros(4))

    layers = Npz().read(stream.getvalue(), MAX_PARAMETERS).network.layer_weights()

    assert [float(part.weights[0, 0]) for part in layers if part is not None] == [2.0, 3.0]


@pytest.mark.parametrize(
    "arrays",
    [
        {**layer("fc64_2", 4, 4), **layer("fc32_3", 4, 4)},
        {**layer("fc1", 4, 4), "fc2.kernel": np.ones((4, 4)), "fc2.bias": np.zeros(4)},
        {"zeta": np.ones((4, 4)), "z": np.zeros(4), "alpha": np.ones((4, 4)), "a": np.zeros(4)},
    ],
    ids=["two numbers", "two conventions", "no numbers"],
)
def test_an_ambiguous_state_dictionary_is_refused(arrays: dict[str, Any]) -> None:
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    with pytest.raises(FormatError):
        Safetensors().read(tensors.encode(floats, {}), MAX_PARAMETERS)


def test_an_npz_keeps_its_order() -> None:
    stream = io.BytesIO()
    np.savez(stream, **layer("encoder", 8, 4), **layer("decoder", 4, 8))

    model = Npz().read(stream.getvalue(), MAX_PARAMETERS)

    assert model.network.widths == [8, 4, 8]
    assert any("order of the file" in note for note in model.notes)


@pytest.mark.parametrize(
    "part",
    [
        {"1.weight": np.full(4, 0.25, np.float32)},  # PReLU, LayerNorm
        {"1.running_mean": np.zeros(4, np.float32)},
        {"1.weight": np.zeros((4, 4, 3), np.float32)},
        {"count": np.array(3, np.int64)},
        {"1.bias": np.zeros(4, np.float32)},
        {"0/weight": np.zeros((4, 4), np.float32)},
    ],
    ids=["vector of weights", "statistics", "convolution", "number", "bias alone", "twice"],
)
@pytest.mark.parametrize("file_format", FILE_FORMATS, ids=lambda part: part.type)
def test_an_array_that_is_no_part_of_a_dense_layer_is_refused(
    file_format: ModelReader, part: dict[str, Any]
) -> None:
    arrays = {**layer("0", 3, 4), **part, **layer("2", 4, 2)}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    data = tensors.encode(arrays, {}) if file_format.type == "safetensors" else stream.getvalue()

    with pytest.raises(FormatError, match=next(iter(part))):
        file_format.read(data, MAX_PARAMETERS)


def test_a_layer_without_biases_gets_zeros_with_a_note() -> None:
    arrays = {**layer("0", 3, 4, bias=False), **layer("1", 4, 2)}

    model = Safetensors().read(tensors.encode(arrays, {}), MAX_PARAMETERS)

    assert model.network.widths == [3, 4, 2]
    assert "layers without biases were given biases of 0" in model.notes


def half_precision(code: str, weights: Any) -> bytes:
    header = {"0.weight": {"dtype": code, "shape": [2, 3], "data_offsets": [0, 12]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(weights.tobytes())


def test_half_precision_tensors_are_read_exactly() -> None:
    values = np.array([[1.5, -2.25, 0.0], [0.125, 3.0, -1.0]], np.float32)
    short = (values.view(np.uint32) >> 16).astype(np.uint16)
    for code, stored in (("F16", values.astype(np.float16)), ("BF16", short)):
        arrays, _ = tensors.decode(half_precision(code, stored))

        assert arrays["0.weight"].dtype == np.float32
        assert np.array_equal(arrays["0.weight"], values)


def test_array_names_may_contain_any_characters() -> None:
    arrays = {"²weight": np.ones((1, 1)), "²bias": np.zeros(1)}

    assert Safetensors().read(tensors.encode(arrays, {}), MAX_PARAMETERS).network.widths == [1, 1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"coefs_": []}, "intercepts_"),
        ({"coefs_": [[["1"]]]}, "coefs_"),
        ({"intercepts_": [[float("inf")]]}, "intercepts_"),
        ({"activation": "swish"}, "activation"),
        ({"extra": 1}, "extra"),
        ({"classes_": 3}, "classes_"),
    ],
)
def test_invalid_scikit_learn_documents_are_rejected(change: dict[str, Any], field: str) -> None:
    document = {"coefs_": [[[1.0]]], "intercepts_": [[1.0]], **change}

    with pytest.raises(EngineError) as caught:
        read_document(document)

    assert caught.value.path[0] == field


def test_a_description_without_its_arrays_is_rejected() -> None:
    data = Safetensors().write(build_model())
    arrays, metadata = tensors.decode(data)
    del arrays["layers.0.biases"]

    with pytest.raises(FormatError, match="missing"):
        Safetensors().read(tensors.encode(arrays, metadata), MAX_PARAMETERS)
