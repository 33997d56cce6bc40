"""Bodies that are expensive to parse are rejected with bounded memory.

The bound applies to the peak memory of the server during the request.
"""

import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.server import Server

MEGABYTE = 1 << 20
JSON = "application/json"
BodyFactory = Callable[[], bytes]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile") / "data"
    environment = {"NEUROND_DEFAULT_NETWORK": "net", "AIP_PREDICT_ROUTE": "/predict"}
    server = Server(folder, workers=1, environment=environment).start()
    layers = [{"type": "dense", "units": 2, "activation": "softmax"}]
    body = {"name": "net", "input_shape": [2], "layers": layers}
    server.client.post("/v1/networks", json=body).raise_for_status()
    yield server
    server.client.close()
    server.stop()


def peak_megabytes(server: Server) -> float:
    """Return the peak resident memory of the server in MiB."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


def rows(cell: str, width: int, count: int) -> str:
    """Return JSON rows."""
    row = "[" + ",".join([cell] * width) + "]"
    return "[" + ",".join([row] * count) + "]"


def zip_with_many_members() -> bytes:
    """Return a zip with 600,000 members."""
    name = b"a"
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 9, 1, *[0] * 6) + name
    count, directory = 600_000, len(entry) * 600_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, directory, 0, 0)
    big = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, directory, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, directory, 1)
    return entry * count + big + locator + end


def zip_with_false_sizes() -> bytes:
    """Return an archive whose members declare a compressed size of 400 MB each."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in (("inputs", (3_000_000, 12)), ("targets", (3_000_000,))):
            array = io.BytesIO()
            np.lib.format.write_array(array, np.zeros(shape, np.uint8))
            archive.writestr(f"{name}.npy", array.getvalue())
    data = bytearray(file.getvalue())
    for match in re.finditer(rb"PK\x01\x02", bytes(data)):
        struct.pack_into("<L", data, match.start() + 20, 400_000_000)
    return bytes(data)


def varint(number: int) -> bytes:
    """Return a length as protobuf writes it."""
    parts = []
    while number >= 128:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes([*parts, number])


def onnx_graph(content: bytes) -> bytes:
    """Return an ONNX file whose graph has this content."""
    return b"\x08\x08\x3a" + varint(len(content)) + content


def safetensors_header(header: bytes) -> bytes:
    """Return a safetensors file with this header and no data."""
    return len(header).to_bytes(8, "little") + header


def npy_with_many_minus_characters() -> bytes:
    """Return an npy file whose shape starts with thousands of minus signs."""
    head = b"{'descr':'<f8','fortran_order':False,'shape':" + b"-" * 3900 + b"1,}\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


CASES: dict[str, tuple[str, str, BodyFactory, int]] = {
    "targets that are objects": (
        "/v1/jobs",
        JSON,
        lambda: b'{"network":"net","inputs":[[1,2]],"targets":[' + b"{}," * 2_000_000 + b"{}]}",
        422,
    ),
    "targets that are lists of strings": (
        "/v1/jobs",
        JSON,
        lambda: (
            b'{"network":"net","inputs":[[1,2]],"targets":' + rows('""', 2, 600_000).encode() + b"}"
        ),
        422,
    ),
    "rows of strings": (
        "/v1/datasets",
        JSON,
        lambda: f'{{"inputs":{rows(chr(34) * 2, 20, 90_000)},"targets":[1,2]}}'.encode(),
        422,
    ),
    "rows of strings to classify": (
        "/v1/networks/net/classify",
        JSON,
        lambda: f'{{"inputs":{rows(chr(34) * 2, 20, 90_000)}}}'.encode(),
        422,
    ),
    "labels that are numbers": (
        "/v1/networks",
        JSON,
        lambda: b'{"input_shape":[2],"layers":[],"labels":[' + b"1," * 3_000_000 + b"1]}",
        422,
    ),
    "unknown members": (
        "/v1/networks",
        JSON,
        lambda: json.dumps({f"k{n}": 0 for n in range(500_000)}).encode(),
        422,
    ),
    "a duplicate member among many": (
        "/v1/networks",
        JSON,
        lambda: b'{"metadata":{' + b"".join(b'"k%d":"",' % n for n in range(900)) + b'"k0":""}}',
        422,
    ),
    "empty rows, KServe V1": (
        "/v1/models/net:predict",
        JSON,
        lambda: b'{"instances":[' + b"[]," * 10_000_000 + b"[]]}",
        400,
    ),
    "empty rows, invocations": (
        "/invocations",
        JSON,
        lambda: b"[" + b"[]," * 9_000_000 + b"[]]",
        400,
    ),
    "many short lines": ("/invocations", "text/csv", lambda: b"1,2\n" * 7_000_000, 400),
    "a line of 30 MB": ("/invocations", "text/csv", lambda: b"1," * 15_000_000 + b"1", 400),
    "empty rows, Open Inference Protocol": (
        "/v2/models/net/infer",
        JSON,
        lambda: (
            b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","data":['
            + b"[]," * 9_000_000
            + b"[]]}]}"
        ),
        400,
    ),
    "layers that are empty lists": (
        "/v1/networks/import",
        JSON,
        lambda: b'{"layers":[' + b"[]," * 20_000_000 + b"[]]}",
        422,
    ),
    "a line of 50 MB": (
        "/v1/datasets",
        "text/csv",
        lambda: b"a," * (25 * MEGABYTE) + b"t\n1,2\n",
        400,
    ),
    "a row of many short lines": (
        "/v1/datasets",
        "text/csv",
        lambda: b"a,t\n1,2\n" + b'1,"\n",' * (5 * MEGABYTE),
        400,
    ),
    "a label for each row": (
        "/v1/datasets?task=classification",
        "text/csv",
        lambda: b"a,t\n" + b"".join(b"1,w%d\n" % n for n in range(1_000_000)),
        422,
    ),
    "an archive with many members": (
        "/v1/datasets",
        "application/x-npz",
        zip_with_many_members,
        400,
    ),
    "an archive with false sizes": ("/v1/datasets", "application/x-npz", zip_with_false_sizes, 422),
    "a shape of minus signs": (
        "/invocations",
        "application/x-npy",
        npy_with_many_minus_characters,
        400,
    ),
    "a generated dataset of gigabytes": (
        "/v1/datasets",
        JSON,
        lambda: b'{"builtin":"digits","samples":5000000}',
        422,
    ),
    "a model of empty nodes": (
        "/v1/networks/import",
        "application/onnx",
        lambda: onnx_graph(b"\x0a\x00" * (2 * MEGABYTE)),
        422,
    ),
    "a model of empty tensors": (
        "/v1/networks/import",
        "application/onnx",
        lambda: onnx_graph(b"\x2a\x00" * (2 * MEGABYTE)),
        422,
    ),
    "a tensor of millions of dimensions": (
        "/v1/networks/import",
        "application/vnd.safetensors",
        lambda: safetensors_header(
            b'{"a":{"dtype":"F32","data_offsets":[0,0],"shape":[' + b"9," * (2 * MEGABYTE) + b"9]}}"
        ),
        422,
    ),
    "a header of many tensors": (
        "/v1/networks/import",
        "application/vnd.safetensors",
        lambda: safetensors_header(
            b"{%s}"
            % b",".join(
                b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(70_000)
            )
        ),
        422,
    ),
    "compressed zeros": (
        "/v1/models/net:predict",
        JSON,
        lambda: zlib.compress(bytes(300 * MEGABYTE)),
        413,
    ),
}


LONG_ROW = b"0," * (15 * MEGABYTE) + b"0"
ROW, INSTANCES = b"[" + LONG_ROW + b"]", b'{"instances":[[' + LONG_ROW + b"]]}"
NATIVE = "/v1/networks/net"
KSERVE = "/v1/models/net"
SAGEMAKER = "/models/net/invoke"
BOMBS: dict[str, tuple[str, str, bytes]] = {
    "native, row": (f"{NATIVE}/classify", JSON, b'{"inputs":[[' + LONG_ROW[:8_000_001] + b"]]}"),
    "native, rows": (f"{NATIVE}/predict", JSON, b'{"inputs":[' + b"[0]," * 2_000_000 + b"[0]]}"),
    "KServe V1, rows": (f"{KSERVE}:predict", JSON, INSTANCES),
    "KServe V1, columns": (f"{KSERVE}:predict", JSON, b'{"inputs":[' + ROW + b"]}"),
    "KServe V1, classify": (f"{KSERVE}:classify", JSON, b'{"examples":[{"input":' + ROW + b"}]}"),
    "Open Inference Protocol": (
        "/v2/models/net/infer",
        JSON,
        b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","data":' + ROW + b"}]}",
    ),
    "SageMaker, JSON": (SAGEMAKER, JSON, INSTANCES),
    "SageMaker, CSV": (SAGEMAKER, "text/csv", LONG_ROW),
    "SageMaker, lines": (SAGEMAKER, "application/jsonlines", ROW),
    "invocations": ("/invocations", JSON, INSTANCES),
    "MLflow": ("/invocations", JSON, b'{"dataframe_split":{"data":[' + ROW + b"]}}"),
    "Vertex AI": ("/predict", JSON, INSTANCES),
    "Azure ML": ("/score", JSON, b'{"input_data":[' + ROW + b"]}"),
    "fit": ("/v1/fit", JSON, b'{"inputs":[' + b"[]," * 2_700_000 + b'[]],"targets":[1]}'),
    "fit, fewer": ("/v1/fit", JSON, b'{"inputs":[' + b"[]," * 79_000 + b'[]],"targets":[1]}'),
    "dataset": ("/v1/datasets", JSON, b'{"inputs":[' + b"[0]," * 79_000 + b'[0]],"targets":[1]}'),
    "job": (
        "/v1/jobs",
        JSON,
        b'{"network":"net","inputs":[' + b"[]," * 79_000 + b'[]],"targets":[1]}',
    ),
    "weights": (f"{NATIVE}/weights", JSON, b'{"layers":[' + b"[]," * 20_000_000 + b"[]]}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BOMBS))
def test_eight_parallel_bombs_are_bounded_together(server: Server, name: str) -> None:
    """A few kilobytes decompress to one row of millions of numbers, or to millions of rows."""
    path, kind, body = BOMBS[name]
    bomb, method = gzip.compress(body), "PUT" if name == "weights" else "POST"
    headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
    assert server.process is not None
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    before = peak_megabytes(server)

    with ThreadPoolExecutor(8) as pool:
        send = partial(server.client.request, method, path, content=bomb, headers=headers)
        posts = [pool.submit(send) for _ in range(8)]
        statuses = {post.result().status_code for post in posts}

    assert statuses <= {400, 413, 422}
    assert peak_megabytes(server) - before < 100
    assert server.client.get("/healthz").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_an_expensive_body_is_rejected_with_bounded_memory(server: Server, name: str) -> None:
    path, content_type, create, status = CASES[name]
    body = create()
    encoding = {"content-encoding": "deflate"} if status == 413 else {}
    headers = {"content-type": content_type} | encoding
    assert server.process is not None
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # resets the peak
    before = peak_megabytes(server)

    response = server.client.post(path, content=body, headers=headers)

    assert response.status_code == status, response.text[:300]
    assert len(response.content) < 20_000
    assert peak_megabytes(server) - before < 250
    assert server.client.get("/healthz").status_code == 200
