"""Bodies that cost far more to read than to write: each is refused, and memory stays where it was.

The bound is on the largest that the server is meanwhile.
"""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.server import Server

MEGABYTE = 1 << 20
JSON = "application/json"
Made = Callable[[], bytes]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile") / "data"
    made = Server(folder, workers=1, environment={"NEUROND_DEFAULT_NETWORK": "net"}).start()
    layers = [{"type": "dense", "units": 2, "activation": "softmax"}]
    body = {"name": "net", "input_shape": [2], "layers": layers}
    made.client.post("/v1/networks", json=body).raise_for_status()
    yield made
    made.client.close()
    made.stop()


def largest(server: Server) -> float:
    """Return the most megabytes that the server ever held."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def rows(cell: str, width: int, count: int) -> str:
    """Return JSON rows."""
    row = "[" + ",".join([cell] * width) + "]"
    return "[" + ",".join([row] * count) + "]"


def zip_of_many() -> bytes:
    """Return a zip with 600,000 members."""
    name = b"a"
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 9, 1, *[0] * 6) + name
    count, directory = 600_000, len(entry) * 600_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, directory, 0, 0)
    big = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, directory, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, directory, 1)
    return entry * count + big + locator + end


def zip_that_lies() -> bytes:
    """Return 60 kB that say that they are 400 MB, and unpack to as much."""
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


def npy_of_minuses() -> bytes:
    """Return an npy whose shape is a sum of thousands of signs."""
    head = b"{'descr':'<f8','fortran_order':False,'shape':" + b"-" * 3900 + b"1,}\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


CASES: dict[str, tuple[str, str, Made, int]] = {
    "targets that are objects": (
        "/v1/jobs",
        JSON,
        lambda: b'{"network":"net","inputs":[[1,2]],"targets":[' + b"{}," * 2_000_000 + b"{}]}",
        422,
    ),
    "targets that are lists of words": (
        "/v1/jobs",
        JSON,
        lambda: (
            b'{"network":"net","inputs":[[1,2]],"targets":' + rows('""', 2, 600_000).encode() + b"}"
        ),
        422,
    ),
    "rows of words": (
        "/v1/datasets",
        JSON,
        lambda: f'{{"inputs":{rows(chr(34) * 2, 20, 90_000)},"targets":[1,2]}}'.encode(),
        422,
    ),
    "rows of words to classify": (
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
    "a member twice among many": (
        "/v1/networks",
        JSON,
        lambda: b'{"metadata":{' + b"".join(b'"k%d":"",' % n for n in range(900)) + b'"k0":""}}',
        422,
    ),
    "empty rows, KServe's": (
        "/v1/models/net:predict",
        JSON,
        lambda: b'{"instances":[' + b"[]," * 10_000_000 + b"[]]}",
        400,
    ),
    "empty rows, anybody's": (
        "/invocations",
        JSON,
        lambda: b"[" + b"[]," * 9_000_000 + b"[]]",
        400,
    ),
    "empty lines": ("/invocations", "text/csv", lambda: b"1,2\n" * 7_000_000, 400),
    "an endless line": ("/invocations", "text/csv", lambda: b"1," * 15_000_000 + b"1", 400),
    "empty rows, Triton's": (
        "/v2/models/net/infer",
        JSON,
        lambda: (
            b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","data":['
            + b"[]," * 9_000_000
            + b"[]]}]}"
        ),
        400,
    ),
    "weights that are empty lists": (
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
    "a label a row": (
        "/v1/datasets?task=classification",
        "text/csv",
        lambda: b"a,t\n" + b"".join(b"1,w%d\n" % n for n in range(1_000_000)),
        422,
    ),
    "an archive of many": ("/v1/datasets", "application/x-npz", zip_of_many, 400),
    "an archive that lies": ("/v1/datasets", "application/x-npz", zip_that_lies, 422),
    "a shape of signs": ("/invocations", "application/x-npy", npy_of_minuses, 400),
    "a drawn set of gigabytes": (
        "/v1/datasets",
        JSON,
        lambda: b'{"builtin":"digits","samples":5000000}',
        422,
    ),
    "packed nothing": (
        "/v1/models/net:predict",
        JSON,
        lambda: zlib.compress(bytes(300 * MEGABYTE)),
        413,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_a_body_that_costs_much_is_refused_for_little(server: Server, name: str) -> None:
    path, kind, made, status = CASES[name]
    body = made()
    headers = {"content-type": kind} | ({"content-encoding": "deflate"} if status == 413 else {})
    assert server.process is not None
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the largest begins anew
    before = largest(server)

    answer = server.client.post(path, content=body, headers=headers)

    assert answer.status_code == status, answer.text[:300]
    assert len(answer.content) < 20_000
    assert largest(server) - before < 250
    assert server.client.get("/healthz").status_code == 200
