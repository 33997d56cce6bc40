"""Weights as files: ours come back bit by bit, others' as what they are, nothing runs."""

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
from core.formats import FILE_FORMATS, WRITTEN_FORMATS, Model, Reads, read_document
from core.formats.code import JavaScriptCode, PythonCode
from core.formats.npz_format import Npz
from core.formats.safetensors_format import Safetensors
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing, Standardization

ACTIVATIONS = ["sigmoid", "relu", "leaky_relu", "tanh", "softmax", "linear"]
MOST = 10_000
"""Parameters that a file may hold."""

ROWS = np.random.default_rng(9).normal(size=(20, 3))


def model(last: str = "softmax", dtype: str = "float32", units: int = 4) -> Model:
    spec = {
        "input_shape": [3],
        "layers": [
            {"type": "dense", "units": 5, "activation": "relu"},
            {"type": "dropout", "rate": 0.2},
            {"type": "dense", "units": units, "activation": last},
        ],
        "dtype": dtype,
    }
    made = Network.from_spec(spec)
    made.initialize(np.random.default_rng(1))
    made.parameters += made.dtype.type(0.01)  # biases too
    scaling = Standardization(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 8.0]))
    back = Standardization(np.arange(units) + 0.5, np.arange(units) + 1.0)
    labels = None
    if last in {"softmax", "sigmoid"}:
        count = 2 if units == 1 else units
        labels = tuple(f'l"{index}"</é\\' for index in range(count))
    preprocessing = Preprocessing(scaling, back if last == "linear" else None)
    return Model(made, labels, preprocessing)


@pytest.mark.parametrize("part", FILE_FORMATS, ids=lambda part: part.type)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last", ACTIVATIONS)
def test_a_file_gives_every_bit_back(part: Any, dtype: str, last: str) -> None:
    before = model(last, dtype)

    data = part.write(before)
    after = part.read(data, MOST)

    assert after.network.spec() == before.network.spec()
    assert after.network.sha256() == before.network.sha256()
    assert after.labels == before.labels
    assert after.preprocessing.to_document() == before.preprocessing.to_document()
    assert part.write(after) == data


def executed(part: Any, made: Model, folder: Path) -> list[Any]:
    """Run an exported file on the rows, and return what it says."""
    file = folder / f"network{part.suffix}"
    file.write_bytes(part.write(made))
    if part.type == "python":
        told = subprocess.run(  # noqa: S603 - the file under test
            [sys.executable, str(file), json.dumps(ROWS.tolist())],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        return [json.loads(line) for line in told.splitlines()]
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js on this machine")
    verb = "predict" if made.labels is None else "classify"
    script = (
        f"import {{ {verb} }} from {json.dumps(file.as_uri())};"
        f"console.log(JSON.stringify({json.dumps(ROWS.tolist())}.map({verb})));"
    )
    told = subprocess.run(  # noqa: S603 - the file under test
        [node, "--input-type=module", "-e", script], capture_output=True, check=True, text=True
    ).stdout
    found: list[Any] = json.loads(told)
    return found


@pytest.mark.parametrize("part", [PythonCode(), JavaScriptCode()], ids=lambda part: part.type)
@pytest.mark.parametrize(("last", "units"), [*((last, 4) for last in ACTIVATIONS), ("sigmoid", 1)])
def test_exported_code_says_what_the_engine_says(
    part: Any, last: str, units: int, tmp_path: Path
) -> None:
    made = model(last, units=units)
    outputs = Forward(made.network, made.preprocessing)(ROWS).astype(np.float64)

    told = executed(part, made, tmp_path)

    if made.labels is None:
        assert np.allclose(told, outputs, atol=1e-6, rtol=1e-6)
        return
    if units == 1:
        outputs = np.hstack([1 - outputs, outputs])
    probabilities = [answer["probabilities"] for answer in told]
    assert np.allclose(probabilities, outputs, atol=1e-6)
    assert [answer["label"] for answer in told] == [
        made.labels[at] for at in outputs.argmax(axis=1)
    ]


@pytest.mark.parametrize("part", WRITTEN_FORMATS, ids=lambda part: part.type)
def test_writing_is_deterministic(part: Any) -> None:
    assert part.write(model()) == part.write(model())


def test_a_state_dictionary_of_pytorch_is_turned() -> None:
    generator = np.random.default_rng(1)
    arrays = {
        "0.weight": generator.normal(size=(5, 3)).astype("f4"),
        "0.bias": generator.normal(size=5).astype("f4"),
        "10.weight": generator.normal(size=(2, 5)).astype("f4"),
        "10.bias": generator.normal(size=2).astype("f4"),
    }

    read = Safetensors().read(tensors.encode(arrays, {}), MOST)

    x = ROWS.astype("f4")
    by_hand = np.maximum(x @ arrays["0.weight"].T + arrays["0.bias"], 0)
    by_hand = by_hand @ arrays["10.weight"].T + arrays["10.bias"]
    assert np.allclose(read.network.forward(x), by_hand, atol=1e-5)
    assert any("PyTorch" in note for note in read.notes)
    assert any("no activations" in note for note in read.notes)


def saved(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_lists_of_arrays_are_taken_in_their_order() -> None:
    kernel, bias = np.ones((3, 2)), np.array([1.0, 2.0])

    data = saved(arr_0=kernel, arr_1=bias, arr_2=np.ones((2, 1)), arr_3=np.zeros(1))
    read = Npz().read(data, MOST)

    assert read.network.widths == [3, 2, 1]
    assert read.network.dtype == np.float64


def test_scikit_learns_numbers_are_taken() -> None:
    document: dict[str, Any] = {
        "coefs_": [[[1.0, -1.0], [0.5, 2.0]], [[1.0], [1.0]]],
        "intercepts_": [[0.0, 0.5], [-1.0]],
        "activation": "tanh",
        "out_activation_": "logistic",
        "classes_": [0, 1],
    }

    name, read = read_document(document)

    assert name == "sklearn-json"
    assert read.labels == ("0", "1")
    assert read.network.output_activation == "sigmoid"
    x = np.array([[0.3, 0.7]])
    hidden = np.tanh(x @ np.array(document["coefs_"][0]) + [0.0, 0.5])
    by_hand = 1 / (1 + np.exp(-(hidden @ np.array(document["coefs_"][1]) - 1.0)))
    assert np.allclose(read.network.forward(x), by_hand)


def bomb() -> bytes:
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
        bomb(),
        objects(),
        saved(a=np.ones(3)),
        saved(a=np.ones((3, 2)), b=np.ones(3)),
        saved(a=np.ones((3, 2)), b=np.array([1.0, np.nan])),
        saved(a=np.ones((3, 2)), b=np.ones(2), c=np.ones((3, 2)), d=np.ones(2)),
        saved(description=np.frombuffer(b"\xff\xfe", np.uint8)),
        saved(description=np.frombuffer(b"{}", np.uint8)),
    ],
)
def test_files_that_are_no_models_are_refused(data: bytes) -> None:
    with pytest.raises(EngineError):
        Npz().read(data, MOST)


def test_a_file_that_is_cut_is_refused_wherever_it_is_cut() -> None:
    for part in FILE_FORMATS:
        data = part.write(model())  # type: ignore[attr-defined]
        for end in range(0, len(data) - 1, max(1, len(data) // 97)):
            with pytest.raises(EngineError):
                part.read(data[:end], MOST)


def described(units: Any, *, inputs: Any = 2) -> str:
    layers = [{"type": "dense", "units": units, "activation": "linear"}]
    network = {"input_shape": [inputs], "layers": layers, "dtype": "float32"}
    return json.dumps({"format": "neurond-weights", "format_version": 1, "network": network})


@pytest.mark.parametrize(
    ("description", "weights"),
    [
        (described(1), np.zeros((2_000_000, 1))),
        (described(10**9, inputs=10**9), np.zeros((2, 1))),
        (described(10**12), np.zeros((2, 1))),
        (described(4000), np.zeros((2, 1))),
        (described(1), np.zeros((1, 2))),
    ],
    ids=["arrays", "both", "one", "little", "turned"],
)
def test_what_describes_more_than_it_holds_is_refused_before_it_takes_memory(
    description: str, weights: Any
) -> None:
    arrays = {"layers.0.weights": weights, "layers.0.biases": np.zeros(1)}
    compress = io.BytesIO()
    text = np.frombuffer(description.encode(), np.uint8)
    np.savez_compressed(compress, description=text, **arrays)
    files: list[tuple[Reads, bytes]] = [
        (Npz(), compress.getvalue()),
        (Safetensors(), tensors.encode(arrays, {"neurond": description})),
    ]

    for part, data in files:
        tracemalloc.start()
        with pytest.raises(EngineError):
            part.read(data, MOST)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4_000_000


@pytest.mark.parametrize(
    "layers", [[0] * 400_000, [{"type": "dropout", "rate": 0.1}] * 2000], ids=["zeros", "dropout"]
)
def test_a_long_description_is_refused_before_it_takes_memory(layers: list[Any]) -> None:
    network = {"input_shape": [2], "layers": layers, "dtype": "float32"}
    text = json.dumps({"format": "neurond-weights", "format_version": 1, "network": network})

    for padding in (0, 2 << 20):
        array = np.frombuffer((text + " " * padding).encode(), np.uint8)
        compress = io.BytesIO()
        np.savez_compressed(compress, description=array)
        tracemalloc.start()
        with pytest.raises(FormatError):
            Npz().read(compress.getvalue(), 2_000_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 30_000_000


def test_names_of_arrays_can_be_anything() -> None:
    arrays = {"²weight": np.ones((1, 1)), "٣": np.zeros(1)}

    assert Safetensors().read(tensors.encode(arrays, {}), MOST).network.widths == [1, 1]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"coefs_": []}, "intercepts_"),
        ({"coefs_": [[["1"]]]}, "coefs_"),
        ({"intercepts_": [[float("inf")]]}, "intercepts_"),
        ({"activation": "swish"}, "activation"),
        ({"extra": 1}, "extra"),
        ({"classes_": 3}, "classes_"),
    ],
)
def test_what_scikit_learn_would_not_write_is_refused(change: dict[str, Any], place: str) -> None:
    document = {"coefs_": [[[1.0]]], "intercepts_": [[1.0]], **change}

    with pytest.raises(EngineError) as caught:
        read_document(document)

    assert caught.value.path[0] == place


def test_a_description_without_its_arrays_is_refused() -> None:
    data = Safetensors().write(model())
    arrays, metadata = tensors.decode(data)
    del arrays["layers.0.biases"]

    with pytest.raises(FormatError, match="missing"):
        Safetensors().read(tensors.encode(arrays, metadata), MOST)
