"""Training jobs over HTTP: configuration, results, errors and history."""

import httpx
import pytest

from tests.service.conftest import (
    FOREVER,
    LAYERS,
    Json,
    Train,
    problem,
    submit,
    wait_until_finished,
)
from tests.waiting import wait_until


async def test_a_job_is_queued_trains_and_creates_a_version(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["name"], "dataset": digits, "training": {"epochs": 20, "seed": 5}}

    response = await client.post("/v1/jobs", json=body)
    job = await wait_until_finished(client, response.json()["id"])

    first = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/jobs/{first['id']}"
    assert (first["status"], first["terminal"], first["attempt"]) == ("queued", False, 0)
    assert (job["status"], job["stop_reason"], job["error"]) == ("succeeded", "epochs_done", None)
    assert (job["base_version"], job["result_version"]) == (0, 1)
    assert job["allowed_actions"] == []
    assert job["progress"]["epoch"] == job["progress"]["epochs"] == 20
    assert job["progress"]["fraction"] == 1.0
    assert job["progress"]["validation_loss"] > 0.0
    assert job["training"]["seed"] == 5
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    history = (await client.get(f"/v1/jobs/{job['id']}/history")).json()
    assert history["epoch"] == list(range(1, 21))
    assert history["total_epochs"] == 20
    assert history["sampled"] is False
    assert history["train_loss"][-1] == job["progress"]["train_loss"]


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": {"type": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True}},
        {"optimizer": "adam", "schedule": "constant", "validation_fraction": 0.0},
        {"optimizer": {"type": "rmsprop"}, "schedule": {"type": "step", "every": 2, "factor": 0.1}},
        {"loss": "mse", "schedule": {"type": "warmup_cosine", "warmup_epochs": 2}},
        {"loss": {"type": "huber", "delta": 0.5}, "schedule": "linear", "l2": 0.01},
        {"loss": "mae", "schedule": "exponential", "gradient_clip_norm": 1.0, "shuffle": False},
        {"batch_size": 1000, "standardize": False, "early_stopping": {"patience": 3}},
    ],
)
async def test_training_values_are_accepted_and_returned(
    network: Json, train: Train, training: Json
) -> None:
    job = await train(network["id"], epochs=4, **training)

    assert job["status"] == "succeeded", job["error"]
    for key, value in training.items():
        returned = job["training"][key]
        expected = value["type"] if isinstance(value, dict) and "type" in value else value
        if isinstance(returned, dict) and isinstance(expected, str):
            returned = returned["type"]
        if key != "early_stopping":
            assert returned == expected


async def test_the_default_configuration_has_early_stopping_and_learns(
    network: Json, train: Train
) -> None:
    job = await train(network["id"])

    assert job["status"] == "succeeded"
    assert job["training"]["early_stopping"]["patience"] > 0
    assert job["progress"]["validation_accuracy"] > 0.7


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"training": {"epochs": 0}}, "/training/epochs"),
        ({"training": {"epochs": 10**12}}, "/training/epochs"),
        ({"training": {"epochs": 1.5}}, "/training/epochs"),
        ({"training": {"batch_size": 0}}, "/training/batch_size"),
        ({"training": {"loss": "magic"}}, "/training/loss"),
        ({"training": {"loss": "binary_cross_entropy"}}, "/training/loss"),
        (
            {"training": {"optimizer": {"type": "sgd", "momentum": 2}}},
            "/training/optimizer/momentum",
        ),
        ({"training": {"optimizer": {"type": "sgd", "speed": 2}}}, "/training/optimizer/speed"),
        ({"training": {"optimizer": {"learning_rate": 1}}}, "/training/optimizer/type"),
        ({"training": {"schedule": {"type": "step", "every": 0}}}, "/training/schedule/every"),
        ({"training": {"validation_fraction": 1.0}}, "/training/validation_fraction"),
        ({"training": {"early_stopping": {"patience": 0}}}, "/training/early_stopping/patience"),
        ({"training": {"limits": {"seconds": 0}}}, "/training/limits/seconds"),
        ({"training": {"surprise": 1}}, "/training/surprise"),
        ({"surprise": 1}, "/surprise"),
        ({"dataset": None}, ""),
        ({"inputs": [[1]], "targets": [1]}, ""),
        ({"on_duplicate": "what"}, "/on_duplicate"),
    ],
)
async def test_an_invalid_job_is_rejected_with_a_pointer(
    client: httpx.AsyncClient, network: Json, digits: str, change: Json, pointer: str
) -> None:
    body = {"network": network["id"], "dataset": digits} | change

    problem(await client.post("/v1/jobs", json=body), 422, "validation_failed", pointer)


async def test_an_incompatible_dataset_is_rejected(
    client: httpx.AsyncClient, network: Json
) -> None:
    for name, body in (
        ("narrow", {"inputs": [[1], [2]], "targets": ["a", "b"]}),
        ("unknown-labels", {"inputs": [[0.0] * 25] * 2, "targets": ["fox", "owl"]}),
        ("numbers", {"inputs": [[0.0] * 25] * 2, "targets": [0.5, 1.5]}),
    ):
        assert (await client.post("/v1/datasets", json={"name": name, **body})).status_code == 201
        job = {"network": network["id"], "dataset": name}
        problem(await client.post("/v1/jobs", json=job), 422, "validation_failed", "/dataset")
    missing = await client.post("/v1/jobs", json={"network": network["id"], "dataset": "none"})
    problem(missing, 404, "not_found")


async def test_a_job_trains_on_rows_of_its_body(client: httpx.AsyncClient) -> None:
    layers = [{"type": "dense", "units": 1, "activation": "sigmoid"}]
    network = (
        await client.post("/v1/networks", json={"input_shape": [1], "layers": layers})
    ).json()
    body = {
        "network": network["id"],
        "inputs": [[0], [1], [2], [3]],
        "targets": ["low", "low", "high", "high"],
        "training": {"epochs": 300, "optimizer": {"type": "adam", "learning_rate": 0.1}},
    }

    job = await wait_until_finished(client, (await client.post("/v1/jobs", json=body)).json()["id"])

    row = {"inputs": [[0.0], [3.0]], "top_k": 2}
    classified = (await client.post(f"/v1/networks/{network['id']}/classify", json=row)).json()
    assert job["status"] == "succeeded"
    assert [prediction["label"] for prediction in classified["predictions"]] == ["low", "high"]
    assert sum(classified["predictions"][0]["probabilities"]) == pytest.approx(1.0)
    listed = (await client.get("/v1/datasets?limit=500")).json()["data"]
    assert job["dataset_id"] not in [dataset["id"] for dataset in listed]
    assert (await client.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    problem(await client.get(f"/v1/datasets/{job['dataset_id']}"), 404, "not_found")


async def test_a_network_without_labels_adopts_the_labels_of_its_dataset(
    client: httpx.AsyncClient,
) -> None:
    layers = [{"type": "dense", "units": 2, "activation": "softmax"}]
    network = (
        await client.post("/v1/networks", json={"input_shape": [1], "layers": layers})
    ).json()
    body = {"network": network["id"], "inputs": [[0], [1]], "targets": ["cold", "warm"]}

    await wait_until_finished(client, (await client.post("/v1/jobs", json=body)).json()["id"])

    assert network["labels"] == ["0", "1"]
    trained = (await client.get(f"/v1/networks/{network['id']}")).json()
    assert trained["labels"] == ["cold", "warm"]


async def test_a_regression_is_learned_in_the_units_of_its_targets(
    client: httpx.AsyncClient,
) -> None:
    layers = [
        {"type": "dense", "units": 16, "activation": "tanh"},
        {"type": "dense", "units": 1, "activation": "linear"},
    ]
    rows = [[float(x)] for x in range(100)]
    network = (
        await client.post("/v1/networks", json={"input_shape": [1], "layers": layers})
    ).json()
    body = {
        "network": network["id"],
        "inputs": rows,
        "targets": [1000.0 + 3.5 * x for (x,) in rows],
    }

    job = await wait_until_finished(client, (await client.post("/v1/jobs", json=body)).json()["id"])

    assert job["status"] == "succeeded", job
    path = f"/v1/networks/{network['id']}"
    outputs = (await client.post(f"{path}/predict", json={"inputs": [[50.0]]})).json()["outputs"]
    assert outputs[0][0] == pytest.approx(1175.0, abs=10.0)
    refused = await client.post(f"{path}/classify", json={"inputs": [[50.0]]})
    problem(refused, 409, "not_a_classifier")
    await client.post(
        "/v1/datasets", json={"name": "line", "inputs": rows, "targets": body["targets"]}
    )
    report = (await client.post(f"{path}/evaluate", json={"dataset": "line"})).json()
    assert report["r2"] > 0.98
    assert report["task"] == "regression"
    check = await client.post(
        f"{path}/gradient-check", json={"inputs": rows[:4], "targets": [1, 2, 3, 4]}
    )
    assert check.json()["passed"], check.text


async def test_training_continues_from_the_latest_version(network: Json, train: Train) -> None:
    first = await train(network["id"], epochs=30, standardize=True)
    second = await train(network["id"], epochs=1, standardize=False)

    assert (second["base_version"], second["result_version"]) == (1, 2)
    assert second["training"]["standardize"] is True
    assert second["progress"]["train_loss"] < 2 * first["progress"]["train_loss"] + 0.1


async def test_equal_seeds_give_equal_weights(client: httpx.AsyncClient, train: Train) -> None:
    digests = []
    for _ in range(2):
        body = {"input_shape": [25], "layers": LAYERS, "seed": 9}
        network = (await client.post("/v1/networks", json=body)).json()
        await train(network["id"], epochs=5, seed=4)
        version = await client.get(f"/v1/networks/{network['id']}/versions/1")
        digests.append(version.json()["weights_sha256"])

    assert digests[0] == digests[1]


async def test_a_dry_run_returns_an_estimate_and_creates_no_job(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    before = (await client.get("/v1/jobs?limit=1")).json()["data"]

    response = await client.post(
        "/v1/jobs?dry_run=true", json={"network": network["id"], "dataset": digits}
    )

    estimate = response.json()
    assert response.status_code == 200
    assert estimate["parameters"] == network["parameter_count"]
    assert estimate["memory_bytes"] > 0
    assert estimate["estimated_seconds"] > 0
    assert estimate["training"]["optimizer"]["type"] == "adamw"
    assert (await client.get("/v1/jobs?limit=1")).json()["data"] == before


async def test_rows_of_a_deleted_job_stay_until_no_job_uses_them(client: httpx.AsyncClient) -> None:
    fit = {"inputs": [[0], [1]], "targets": [0.5, 1.5], "training": {"epochs": 1}}
    first = (await client.post("/v1/fit?wait=30", json=fit)).json()
    dataset = first["job"]["dataset_id"]
    body = {"network": first["network"]["id"], "dataset": dataset, "training": {"epochs": 1}}
    second = (await client.post("/v1/jobs", json=body)).json()

    await client.delete(f"/v1/jobs/{first['job']['id']}")

    assert (await wait_until_finished(client, second["id"]))["status"] == "succeeded"
    assert (await client.get(f"/v1/datasets/{dataset}")).status_code == 200
    await client.delete(f"/v1/jobs/{second['id']}")
    assert (await client.get(f"/v1/datasets/{dataset}")).status_code == 404


async def test_the_live_version_names_its_job(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    url = f"{network['links']['self']}/versions/live"

    async def live() -> Json | None:
        body: Json = (await client.get(url)).json()
        return body if body["job"] is not None else None

    version = await wait_until(live)
    await client.post(f"/v1/jobs/{job['id']}/cancel")

    dataset = (await client.get(f"/v1/datasets/{digits}")).json()
    assert (version["job"], version["origin"]) == (job["id"], "job")
    assert version["training"] == job["training"]
    assert version["dataset_sha256"] == dataset["sha256"]
    await wait_until_finished(client, job["id"])
