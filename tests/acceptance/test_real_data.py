"""Real datasets over HTTP, with the default training configuration."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.acceptance.server import Server

pytestmark = pytest.mark.slow
DATA = Path(__file__).parents[1] / "data"
MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist_10k.npz"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("real") / "data", workers=2).start()
    yield server
    server.stop()
    server.client.close()


def table(name: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows, shuffled with a fixed seed."""
    header, *rows = csv.reader((DATA / name).read_text().splitlines())
    order = np.random.default_rng(2).permutation(len(rows))
    return header, [rows[index] for index in order]


def upload(server: Server, name: str, header: list[str], rows: list[list[str]]) -> dict[str, Any]:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    response = server.client.post(
        f"/v1/datasets?name={name}",
        content=text.getvalue().encode(),
        headers={"content-type": "text/csv"},
    )
    assert response.status_code == 201, response.text
    dataset: dict[str, Any] = response.json()
    return dataset


def train(server: Server, name: str, hidden: int, dataset: dict[str, Any]) -> None:
    """Train a network with one hidden layer and the default training configuration."""
    labels = dataset["labels"]
    last = {"type": "dense", "units": len(labels or [0])}
    last["activation"] = "softmax" if labels else "linear"
    layers = [{"type": "dense", "units": hidden, "activation": "relu"}, last]
    body = {"name": name, "input_shape": dataset["input_shape"], "layers": layers, "seed": 1}
    assert server.client.post("/v1/networks", json=body).status_code == 201
    job = {"network": name, "dataset": dataset["id"], "training": {"seed": 1}}
    ended = server.wait_until_finished(server.client.post("/v1/jobs", json=job).json()["id"])
    assert ended["status"] == "succeeded", ended


def evaluate(server: Server, name: str, dataset: str) -> dict[str, Any]:
    response = server.client.post(f"/v1/networks/{name}/evaluate", json={"dataset": dataset})
    report: dict[str, Any] = response.json()
    return report


@pytest.mark.parametrize(
    ("name", "hidden", "metric", "minimum"),
    [
        ("optdigits", 64, "accuracy", 0.97),
        ("iris", 16, "accuracy", 0.93),
        ("diabetes", 16, "r2", 0.40),
    ],
)
def test_tables_are_learned_with_the_defaults(
    server: Server, name: str, hidden: int, metric: str, minimum: float
) -> None:
    header, rows = table(f"{name}.csv")
    test_rows = len(rows) // 5
    training = upload(server, f"{name}-train", header, rows[test_rows:])
    upload(server, f"{name}-test", header, rows[:test_rows])

    train(server, name, hidden, training)

    assert evaluate(server, name, f"{name}-test")[metric] >= minimum


@pytest.mark.skipif(not MNIST.exists(), reason="the MNIST digits are not available")
def test_mnist_is_learned_with_the_defaults(server: Server) -> None:
    with np.load(MNIST) as file:
        images, labels = file["images"].reshape(-1, 784), file["labels"]
    sets = {}
    for name, part in (("mnist-train", slice(2000, None)), ("mnist-test", slice(2000))):
        archive = io.BytesIO()
        np.savez(archive, inputs=images[part], targets=labels[part])
        response = server.client.post(
            f"/v1/datasets?name={name}",
            content=archive.getvalue(),
            headers={"content-type": "application/x-npz"},
        )
        assert response.status_code == 201, response.text
        sets[name] = response.json()

    train(server, "mnist", 128, sets["mnist-train"])

    assert evaluate(server, "mnist", "mnist-test")["accuracy"] >= 0.95


def test_xor_is_learned_with_each_of_ten_seeds(server: Server) -> None:
    corners = {"name": "xor", "builtin": "xor"}
    assert server.client.post("/v1/datasets", json=corners).status_code == 201
    layers = [
        {"type": "dense", "units": 8, "activation": "tanh"},
        {"type": "dense", "units": 1, "activation": "sigmoid"},
    ]
    training = {
        "epochs": 5000,
        "batch_size": 4,
        "optimizer": {"type": "adam", "learning_rate": 0.05},
        "schedule": "constant",
        "standardize": False,
    }
    for seed in range(10):
        body = {"name": f"xor-{seed}", "input_shape": [2], "layers": layers, "seed": seed}
        assert server.client.post("/v1/networks", json=body).status_code == 201
        job = {"network": f"xor-{seed}", "dataset": "xor", "training": {**training, "seed": seed}}
        ended = server.wait_until_finished(server.client.post("/v1/jobs", json=job).json()["id"])
        assert ended["progress"]["train_loss"] < 0.01
        assert evaluate(server, f"xor-{seed}", "xor")["accuracy"] == 1.0
