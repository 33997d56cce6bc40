"""One real server for all protocol tests, with three networks."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from tests.acceptance.server import Server

LABELS = list("0123456789")
Array = npt.NDArray[Any]


class World(NamedTuple):
    """The server, random rows, and the outputs of `digits` for them from the native API."""

    server: Server
    client: httpx.Client
    rows: Array
    outputs: Array


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    environment = {
        "NEUROND_DEFAULT_NETWORK": "digits",
        "AIP_HEALTH_ROUTE": "/aip/health",
        "AIP_PREDICT_ROUTE": "/aip/predict",
    }
    folder = tmp_path_factory.mktemp("protocols") / "data"
    server = Server(folder, workers=1, environment=environment).start()
    try:
        _create_networks(server.client)
        rows = np.random.default_rng(5).random((7, 25)).astype(np.float32)
        response = server.client.post("/v1/networks/digits/predict", json={"inputs": rows.tolist()})
        yield World(server, server.client, rows, np.array(response.json()["outputs"]))
    finally:
        server.client.close()
        server.stop()


def _create_networks(client: httpx.Client) -> None:
    hidden = {"type": "dense", "units": 16, "activation": "relu"}
    for name, inputs, last, dtype in (
        ("digits", 25, {"units": 10, "activation": "softmax"}, "float32"),
        ("line", 3, {"units": 1, "activation": "linear"}, "float64"),
        ("coin", 2, {"units": 1, "activation": "sigmoid"}, "float32"),
    ):
        body: dict[str, Any] = {
            "name": name,
            "input_shape": [inputs],
            "layers": [hidden, {"type": "dense", **last}],
            "dtype": dtype,
            "seed": 11,
        }
        if name == "digits":
            body["labels"] = LABELS
        if name == "coin":
            body["labels"] = ["heads", "tails"]
        assert client.post("/v1/networks", json=body).status_code == 201
    # A second version and an alias, for requests that name them.
    document = client.get("/v1/networks/digits/weights").content
    json = {"Content-Type": "application/json"}
    put = client.put("/v1/networks/digits/weights", content=document, headers=json)
    assert put.status_code == 201
    alias = client.put("/v1/networks/digits/aliases/first", json={"version": 0})
    assert alias.status_code == 200
