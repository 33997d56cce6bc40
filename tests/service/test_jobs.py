"""Jobs over HTTP: what is trained, refused, and told of it."""

import asyncio
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import FOREVER, LAYERS, Json, Train, ended, in_process, problem, submit


async def test_a_job_runs_from_the_queue_to_a_version(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["name"], "dataset": digits, "training": {"epochs": 20, "seed": 5}}

    answer = await client.post("/v1/jobs", json=body)
    job = await ended(client, answer.json()["id"])

    first = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{first['id']}"
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
async def test_every_training_value_is_taken_and_told(
    network: Json, train: Train, training: Json
) -> None:
    job = await train(network["id"], epochs=4, **training)

    assert job["status"] == "succeeded", job["error"]
    for key, value in training.items():
        told = job["training"][key]
        kind = value["type"] if isinstance(value, dict) and "type" in value else value
        if isinstance(told, dict) and isinstance(kind, str):
            told = told["type"]
        if key != "early_stopping":
            assert told == kind


async def test_the_defaults_train_to_the_end_of_improvement(network: Json, train: Train) -> None:
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
async def test_a_training_that_cannot_be_is_refused_with_the_place(
    client: httpx.AsyncClient, network: Json, digits: str, change: Json, pointer: str
) -> None:
    body = {"network": network["id"], "dataset": digits} | change

    problem(await client.post("/v1/jobs", json=body), 422, "validation_failed", pointer)


async def test_what_does_not_go_together_is_refused(
    client: httpx.AsyncClient, network: Json
) -> None:
    for name, body in (
        ("narrow", {"inputs": [[1], [2]], "targets": ["a", "b"]}),
        ("strange", {"inputs": [[0.0] * 25] * 2, "targets": ["fox", "owl"]}),
        ("numbers", {"inputs": [[0.0] * 25] * 2, "targets": [0.5, 1.5]}),
    ):
        assert (await client.post("/v1/datasets", json={"name": name, **body})).status_code == 201
        job = {"network": network["id"], "dataset": name}
        problem(await client.post("/v1/jobs", json=job), 422, "validation_failed", "/dataset")
    missing = await client.post("/v1/jobs", json={"network": network["id"], "dataset": "none"})
    problem(missing, 404, "not_found")


async def test_rows_can_come_with_the_job(client: httpx.AsyncClient) -> None:
    layers = [{"type": "dense", "units": 1, "activation": "sigmoid"}]
    made = (await client.post("/v1/networks", json={"input_shape": [1], "layers": layers})).json()
    body = {
        "network": made["id"],
        "inputs": [[0], [1], [2], [3]],
        "targets": ["low", "low", "high", "high"],
        "training": {"epochs": 300, "optimizer": {"type": "adam", "learning_rate": 0.1}},
    }

    job = await ended(client, (await client.post("/v1/jobs", json=body)).json()["id"])

    row = {"inputs": [[0.0], [3.0]], "top_k": 2}
    found = (await client.post(f"/v1/networks/{made['id']}/classify", json=row)).json()
    assert job["status"] == "succeeded"
    assert [p["label"] for p in found["predictions"]] == ["low", "high"]
    assert sum(found["predictions"][0]["probabilities"]) == pytest.approx(1.0)
    listed = (await client.get("/v1/datasets?limit=500")).json()["data"]
    assert job["dataset_id"] not in [dataset["id"] for dataset in listed]
    assert (await client.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    problem(await client.get(f"/v1/datasets/{job['dataset_id']}"), 404, "not_found")


async def test_a_network_without_labels_takes_the_datasets(client: httpx.AsyncClient) -> None:
    layers = [{"type": "dense", "units": 2, "activation": "softmax"}]
    made = (await client.post("/v1/networks", json={"input_shape": [1], "layers": layers})).json()
    body = {"network": made["id"], "inputs": [[0], [1]], "targets": ["cold", "warm"]}

    await ended(client, (await client.post("/v1/jobs", json=body)).json()["id"])

    assert made["labels"] == ["0", "1"]
    now = (await client.get(f"/v1/networks/{made['id']}")).json()
    assert now["labels"] == ["cold", "warm"]


async def test_a_function_is_learned_in_its_own_units(client: httpx.AsyncClient) -> None:
    layers = [
        {"type": "dense", "units": 16, "activation": "tanh"},
        {"type": "dense", "units": 1, "activation": "linear"},
    ]
    rows = [[float(x)] for x in range(100)]
    made = (await client.post("/v1/networks", json={"input_shape": [1], "layers": layers})).json()
    body = {"network": made["id"], "inputs": rows, "targets": [1000.0 + 3.5 * x for (x,) in rows]}

    job = await ended(client, (await client.post("/v1/jobs", json=body)).json()["id"])

    assert job["status"] == "succeeded", job
    path = f"/v1/networks/{made['id']}"
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


async def test_training_goes_on_from_the_latest_version(network: Json, train: Train) -> None:
    first = await train(network["id"], epochs=30, standardize=True)
    second = await train(network["id"], epochs=1, standardize=False)

    assert (second["base_version"], second["result_version"]) == (1, 2)
    assert second["training"]["standardize"] is True
    assert second["progress"]["train_loss"] < 2 * first["progress"]["train_loss"] + 0.1


async def test_equal_seeds_give_equal_weights(client: httpx.AsyncClient, train: Train) -> None:
    digests = []
    for _ in range(2):
        body = {"input_shape": [25], "layers": LAYERS, "seed": 9}
        made = (await client.post("/v1/networks", json=body)).json()
        await train(made["id"], epochs=5, seed=4)
        version = await client.get(f"/v1/networks/{made['id']}/versions/1")
        digests.append(version.json()["weights_sha256"])

    assert digests[0] == digests[1]


async def test_a_dry_run_tells_what_it_would_take(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    before = (await client.get("/v1/jobs?limit=1")).json()["data"]

    answer = await client.post(
        "/v1/jobs?dry_run=true", json={"network": network["id"], "dataset": digits}
    )

    told = answer.json()
    assert answer.status_code == 200
    assert told["parameters"] == network["parameter_count"]
    assert told["memory_bytes"] > 0
    assert told["estimated_seconds"] > 0
    assert told["training"]["optimizer"]["type"] == "adamw"
    assert (await client.get("/v1/jobs?limit=1")).json()["data"] == before


async def test_divergence_is_told_as_what_it_is(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    job = await train(
        network["id"], epochs=500, optimizer={"type": "sgd", "learning_rate": 1e30}, loss="mse"
    )

    assert (job["status"], job["stop_reason"]) == ("failed", "diverged")
    assert job["error"]["code"] == "diverged"
    assert "epoch" in job["error"]["detail"]
    assert (await client.get(network["links"]["self"])).json()["latest_version"] == 0


async def test_limits_end_a_training(network: Json, train: Train) -> None:
    by_loss = await train(network["id"], epochs=100_000, limits={"target_loss": 0.5})
    by_time = await train(network["id"], **FOREVER, limits={"seconds": 0.3})

    assert by_loss["stop_reason"] == "target_reached"
    assert by_time["stop_reason"] == "time_limit"
    assert by_loss["status"] == by_time["status"] == "succeeded"


async def test_early_stopping_is_told(network: Json, train: Train) -> None:
    job = await train(network["id"], epochs=100_000, early_stopping={"patience": 5})

    assert job["stop_reason"] == "early_stopped"
    assert job["progress"]["patience_left"] == 0
    assert job["progress"]["best_epoch"] == job["progress"]["epoch"] - 5


async def test_history_is_thinned_without_losing_extremes(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=300)
    url = f"/v1/jobs/{job['id']}/history"

    whole = (await client.get(url)).json()
    thin = (await client.get(f"{url}?max_points=20")).json()
    late = (await client.get(f"{url}?after_epoch=290")).json()

    assert len(thin["epoch"]) <= 20
    assert (thin["sampled"], thin["total_epochs"]) == (True, 300)
    assert thin["hidden_epochs"] == 300 - len(thin["epoch"])
    assert (thin["epoch"][0], thin["epoch"][-1]) == (1, 300)
    for column in ("train_loss", "validation_loss", "validation_accuracy", "gradient_norm"):
        assert max(thin[column]) == max(whole[column])
        assert min(thin[column]) == min(whole[column])
    assert late["epoch"] == list(range(291, 301))
    for most in (2, 5, 9):
        few = (await client.get(f"{url}?max_points={most}")).json()
        assert most - 2 <= len(few["epoch"]) <= most
        assert few["epoch"][-1] == 300


async def test_early_stopping_of_which_nothing_is_said_has_its_defaults(
    network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=3, early_stopping={})

    assert job["status"] == "succeeded"
    assert job["training"]["early_stopping"] == {"patience": 20, "min_delta": 0.0}


async def test_rows_stay_while_any_job_is_on_them(client: httpx.AsyncClient) -> None:
    fit = {"inputs": [[0], [1]], "targets": [0.5, 1.5], "training": {"epochs": 1}}
    first = (await client.post("/v1/fit?wait=30", json=fit)).json()
    dataset = first["job"]["dataset_id"]
    body = {"network": first["network"]["id"], "dataset": dataset, "training": {"epochs": 1}}
    second = (await client.post("/v1/jobs", json=body)).json()

    await client.delete(f"/v1/jobs/{first['job']['id']}")

    assert (await ended(client, second["id"]))["status"] == "succeeded"
    assert (await client.get(f"/v1/datasets/{dataset}")).status_code == 200
    await client.delete(f"/v1/jobs/{second['id']}")
    assert (await client.get(f"/v1/datasets/{dataset}")).status_code == 404


async def test_a_job_that_ended_has_nothing_left_to_wait_for(network: Json, train: Train) -> None:
    job = await train(network["id"], epochs=2)

    assert job["progress"]["eta_seconds"] is None


async def test_the_version_live_tells_of_the_job_that_trains_it(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    url = f"{network['links']['self']}/versions/live"
    while (told := (await client.get(url)).json())["job"] is None:
        await asyncio.sleep(0.02)
    await client.post(f"/v1/jobs/{job['id']}/cancel")

    dataset = (await client.get(f"/v1/datasets/{digits}")).json()
    assert (told["job"], told["origin"]) == (job["id"], "job")
    assert told["training"] == job["training"]
    assert told["dataset_sha256"] == dataset["sha256"]
    await ended(client, job["id"])


async def test_a_training_that_takes_too_much_memory_fails_at_once(tmp_path: Path) -> None:
    async with in_process(
        Settings(data_dir=tmp_path, workers=1, worker_memory_bytes=700 << 20)
    ) as client:
        layers = [
            *[{"type": "dense", "units": 1000, "activation": "relu"} for _ in range(2)],
            {"type": "dense", "units": 10, "activation": "softmax"},
        ]
        body = {"input_shape": [25], "layers": layers, "dtype": "float64"}
        network = (await client.post("/v1/networks", json=body)).json()
        data = {"builtin": "digits", "samples": 60_000}
        dataset = (await client.post("/v1/datasets", json=data)).json()

        job = await submit(client, network, dataset["id"], epochs=5, batch_size=40_000)
        told = await ended(client, job["id"])

        assert (told["status"], told["error"]["code"]) == ("failed", "out_of_memory")
        assert told["attempt"] == 1
        assert (await client.get("/readyz")).status_code == 200
