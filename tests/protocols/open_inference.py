"""Requests and responses of the Open Inference Protocol."""

import json
from typing import Any

import httpx
import numpy as np

INFER = "/v2/models/digits/infer"


LENGTH = "Inference-Header-Content-Length"


Json = dict[str, Any]


def tensor(rows: Any, datatype: str = "FP32", **more: Any) -> Json:
    shape = list(np.shape(rows))
    return {"name": "input", "shape": shape, "datatype": datatype, "data": rows.tolist(), **more}


def output_of(response: httpx.Response, name: str = "output") -> Json:
    """Return an output of a successful response."""
    assert response.status_code == 200, response.text
    part: Json = next(part for part in response.json()["outputs"] if part["name"] == name)
    return part


def check_error(response: httpx.Response, status: int = 400) -> str:
    """Check that a response is an error of the protocol, and return its message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert isinstance(body["error"], str)
    error: str = body["error"]
    return error


def binary(rows: Any, kind: str, datatype: str, **more: Any) -> tuple[bytes, dict[str, str]]:
    data = np.asarray(rows).astype(kind).tobytes()
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "input",
                    "shape": list(np.shape(rows)),
                    "datatype": datatype,
                    "parameters": {"binary_data_size": len(data)},
                }
            ],
            **more,
        }
    ).encode()
    return head + data, {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def parts(response: httpx.Response) -> tuple[Json, bytes]:
    """Return the JSON header and the binary data of a response."""
    assert response.status_code == 200, response.text
    length = int(response.headers[LENGTH])
    return json.loads(response.content[:length]), response.content[length:]


ROW = [0.0] * 25


GOOD = {"name": "input", "shape": [1, 25], "datatype": "FP32", "data": ROW}
