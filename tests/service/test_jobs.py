"""Jobs over HTTP: from the queue to the version, with every turn on the way."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.settings import Settings
from tests.service.conftest import LAYERS, Json, Train, ended, in_process, problem, until

FOREVER = {"epochs": 100_000, "early_stopping": None}


async def submit(client: httpx.AsyncClient, network: Json, dataset: str, **training: Any) -> Json:
    body = {"network": network["id"], "dataset": dataset, "training": training}
    answer = await client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    made: Json = answer.json()
    return made


async def test_a_job_runs_from_the_queue_to_a_version(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["name"], "dataset": digits, "training": {"epochs": 20, "seed": 5}}

    answer = await client.post("/v1/jobs", json=body)
    job = await ended(client, answer.json()["id"])

    first = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{first['id']}"
    assert (first["status"], first["terminal"], first["attempt"]) == ("queued", False, 1)
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


async def test_pause_resume_and_cancel(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    path = f"/v1/jobs/{job['id']}"
    running = await until(client, job["id"], "running")
    assert running["allowed_actions"] == ["pause", "cancel"]

    assert (await client.post(f"{path}/pause")).json()["status"] in {"pausing", "paused"}
    paused = await until(client, job["id"], "paused")
    assert paused["allowed_actions"] == ["resume", "cancel"]
    assert (await client.post(f"{path}/pause")).status_code == 200
    assert (await client.post(f"{path}/resume")).json()["status"] in {"queued", "starting"}
    await until(client, job["id"], "running")
    assert (await client.post(f"{path}/resume")).status_code == 200
    problem(await client.delete(path), 409, "illegal_move")
    problem(await client.delete(network["links"]["self"]), 409, "network_in_use")
    problem(await client.delete(f"/v1/datasets/{digits}"), 409, "dataset_in_use")
    assert (await client.post(f"{path}/cancel")).json()["status"] in {"cancelling", "cancelled"}
    cancelled = await ended(client, job["id"])

    assert (cancelled["status"], cancelled["stop_reason"]) == ("cancelled", "user")
    assert cancelled["result_version"] is None
    assert (await client.post(f"{path}/cancel")).status_code == 200
    for action in ("pause", "resume"):
        refused = problem(await client.post(f"{path}/{action}"), 409, "illegal_move")
        assert (refused["current_status"], refused["allowed_actions"]) == ("cancelled", [])
    kept = (await client.get(f"{path}/checkpoints")).json()["data"]
    assert kept
    promoted = await client.post(f"{path}/checkpoints/{kept[0]['id']}/promote")
    assert (promoted.status_code, promoted.json()["version"]) == (201, 1)
    missing = await client.post(f"{path}/checkpoints/ckpt_none/promote")
    problem(missing, 404, "not_found")
    assert (await client.delete(path)).status_code == 204
    problem(await client.get(path), 404, "not_found")


async def test_a_queued_job_waits_its_turn_and_can_be_cancelled(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    busy = [await submit(client, network, digits, **FOREVER) for _ in range(2)]
    waiting = [await submit(client, network, digits, epochs=2) for _ in range(2)]
    for job in busy:
        await until(client, job["id"], "running")

    positions = [(await client.get(f"/v1/jobs/{job['id']}")).json() for job in waiting]
    paused = (await client.post(f"/v1/jobs/{waiting[0]['id']}/pause")).json()
    cancelled = (await client.post(f"/v1/jobs/{waiting[1]['id']}/cancel")).json()

    assert [job["queue_position"] for job in positions] == [0, 1]
    assert paused["status"] == "paused"
    assert (cancelled["status"], cancelled["stop_reason"]) == ("cancelled", "user")
    listed = (await client.get("/v1/jobs", params={"status": "running"})).json()["data"]
    assert {job["id"] for job in busy} <= {job["id"] for job in listed}
    mine = (await client.get("/v1/jobs", params={"network": network["id"]})).json()["data"]
    assert [job["id"] for job in mine] == [job["id"] for job in reversed(busy + waiting)]
    for job in [*busy, waiting[0]]:
        await client.post(f"/v1/jobs/{job['id']}/cancel")
        assert (await ended(client, job["id"]))["status"] == "cancelled"


async def test_many_are_cancelled_in_one_call(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    other = (await client.post("/v1/networks", json={"input_shape": [25], "layers": LAYERS})).json()
    mine = [await submit(client, network, digits, **FOREVER) for _ in range(60)]
    theirs = await submit(client, other, digits, **FOREVER)
    paused = (await client.post(f"/v1/jobs/{mine[-1]['id']}/pause")).json()
    await until(client, mine[0]["id"], "running")
    of_network = {"network": network["id"]}

    queued = await client.post("/v1/jobs/cancel", params={**of_network, "status": "queued"})
    states = {job["id"]: job["status"] for job in await every(client, network)}
    rest = await client.post("/v1/jobs/cancel", params=of_network)

    assert paused["status"] == "paused"
    assert queued.status_code == 200
    assert 50 < queued.json()["cancelled"] < 60
    assert states[mine[0]["id"]] == "running"
    assert states[mine[-1]["id"]] == "paused"
    assert rest.json()["cancelled"] == 60 - queued.json()["cancelled"]
    for job in (mine[0], mine[-1]):
        assert (await ended(client, job["id"]))["status"] == "cancelled"
    assert not (await client.get(f"/v1/jobs/{theirs['id']}")).json()["terminal"]
    await client.post(f"/v1/jobs/{theirs['id']}/cancel")
    ended_already = await client.post("/v1/jobs/cancel", params={"status": "succeeded"})
    problem(ended_already, 422, "validation_failed")
    problem(await client.post("/v1/jobs/cancel?network=none"), 404, "not_found")


async def every(client: httpx.AsyncClient, network: Json) -> list[Json]:
    """Return all jobs of a network."""
    wanted = {"network": network["id"], "limit": 500}
    data: list[Json] = (await client.get("/v1/jobs", params=wanted)).json()["data"]
    return data


async def test_a_checkpoint_can_be_taken_now(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    path = f"/v1/jobs/{job['id']}"
    await until(client, job["id"], "running")

    once = {"Idempotency-Key": "a checkpoint"}
    taken = await client.post(f"{path}/checkpoints", headers=once)
    again = await client.post(f"{path}/checkpoints", headers=once)

    assert taken.status_code == 201
    assert again.json() == taken.json()
    assert again.headers["idempotency-replayed"] == "true"
    listed = (await client.get(f"{path}/checkpoints")).json()["data"]
    assert taken.json() in listed
    await asyncio.sleep(2.5)  # some that nobody asked for come and go meanwhile
    promoted = await client.post(f"{path}/checkpoints/{taken.json()['id']}/promote")
    assert promoted.status_code == 201
    assert promoted.json()["dataset_sha256"]
    assert promoted.json()["metrics"]["train_loss"] > 0
    await client.post(f"{path}/cancel")
    await ended(client, job["id"])
    problem(await client.post(f"{path}/checkpoints"), 409, "illegal_move")


async def test_the_version_live_answers_while_the_network_trains(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    url = f"{network['links']['self']}/versions/live/predict"
    initial = (await client.post(url, json={"inputs": [[0.5] * 25]})).json()["outputs"]

    outputs = initial
    while outputs == initial:
        await asyncio.sleep(0.02)
        outputs = (await client.post(url, json={"inputs": [[0.5] * 25]})).json()["outputs"]

    await client.post(f"/v1/jobs/{job['id']}/cancel")
    await ended(client, job["id"])
    after = (await client.post(url, json={"inputs": [[0.5] * 25]})).json()
    assert after["outputs"] == initial


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


async def test_equal_work_can_be_refused_returned_or_replaced(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": FOREVER}
    first = (await client.post("/v1/jobs", json=body)).json()

    rejected = await client.post("/v1/jobs", json={**body, "on_duplicate": "reject"})
    returned = await client.post("/v1/jobs", json={**body, "on_duplicate": "return"})
    replaced = await client.post("/v1/jobs", json={**body, "on_duplicate": "replace"})

    assert problem(rejected, 409, "duplicate_job")["job"] == first["id"]
    assert (returned.status_code, returned.json()["id"]) == (200, first["id"])
    assert replaced.status_code == 202
    # One that is ending is no equal work any more, and each replacement replaces all before it.
    replacing = [
        (await client.post("/v1/jobs", json={**body, "on_duplicate": "replace"})).json()
        for _ in range(2)
    ]
    for job in (first, replaced.json(), replacing[0]):
        assert (await ended(client, job["id"]))["status"] == "cancelled"
    await client.post(f"/v1/jobs/{replacing[1]['id']}/pause")
    await until(client, replacing[1]["id"], "paused")
    again = await client.post("/v1/jobs", json={**body, "on_duplicate": "return"})
    assert (again.status_code, again.json()["id"] == replacing[1]["id"]) == (202, False)
    for job in (replacing[1], again.json()):
        await client.post(f"/v1/jobs/{job['id']}/cancel")
        await ended(client, job["id"])


async def test_waiting_answers_at_the_next_change(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    await until(client, job["id"], "running")
    waiting = asyncio.create_task(
        client.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})
    )
    await asyncio.sleep(0.1)

    await client.post(f"/v1/jobs/{job['id']}/cancel")

    answer = await asyncio.wait_for(waiting, 5)
    assert answer.json()["status"] in {"cancelling", "cancelled"}
    assert answer.headers["preference-applied"] == "wait=30"
    late = await client.get(f"/v1/jobs/{job['id']}?wait=0.05")
    assert late.status_code == 200
    assert (await ended(client, job["id"]))["status"] == "cancelled"
    assert (await client.get("/v1/jobs/latest")).status_code == 200


async def test_fit_builds_trains_and_serves_in_one_call(client: httpx.AsyncClient) -> None:
    body = {"inputs": [[0], [1], [2], [3]] * 15, "targets": ["low", "low", "high", "high"] * 15}

    done = await client.post("/v1/fit", json=body, headers={"Prefer": "wait=30"})
    queued = await client.post("/v1/fit", json=body)

    told = done.json()
    assert done.status_code == 201, done.text
    assert told["network"]["labels"] == ["high", "low"]
    assert told["version"]["version"] == 1
    assert told["metrics"]["train_accuracy"] > 0.9
    found = await client.post(told["classify_url"], json={"inputs": [[3]]})
    assert found.json()["predictions"][0]["label"] == "high"
    assert queued.status_code == 202
    assert (await ended(client, queued.json()["id"]))["status"] == "succeeded"


async def test_fit_takes_a_dataset_and_a_network_too(
    client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    wait = {"Prefer": "wait=30"}
    training = {"epochs": 3}

    named = {"dataset": digits, "network": network["id"], "training": training}
    layered = {"dataset": digits, "network": {"layers": LAYERS, "seed": 1}, "training": training}
    numbers = {"inputs": [[0], [1]], "targets": [0.5, 1.5], "network": {"hidden": []}}

    answers = [
        await client.post("/v1/fit", json=b, headers=wait) for b in (named, layered, numbers)
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert answers[0].json()["network"]["id"] == network["id"]
    assert answers[2].json()["classify_url"].endswith("/predict")
    slow = {**named, "training": FOREVER}
    late = await client.post("/v1/fit", json=slow, headers={"Prefer": "wait=0"})
    assert late.status_code == 202
    await client.post(f"/v1/jobs/{late.json()['id']}/cancel")
    await ended(client, late.json()["id"])


async def test_a_job_that_is_cancelled_in_a_long_epoch_keeps_its_best_weights(
    client: httpx.AsyncClient,
) -> None:
    layers = [
        {"type": "dense", "units": 1000, "activation": "relu"},
        {"type": "dense", "units": 800, "activation": "relu"},
        {"type": "dense", "units": 10, "activation": "softmax"},
    ]
    network = (
        await client.post("/v1/networks", json={"input_shape": [25], "layers": layers})
    ).json()
    data = {"builtin": "digits", "samples": 12_000}
    dataset = (await client.post("/v1/datasets", json=data)).json()
    job = await submit(client, network, dataset["id"], **FOREVER, batch_size=2000)
    path = f"/v1/jobs/{job['id']}"
    while (await client.get(path)).json()["progress"]["epoch"] < 1:
        await asyncio.sleep(0.02)

    await client.post(f"{path}/cancel")
    told = await ended(client, job["id"])

    assert told["status"] == "cancelled"
    kept = (await client.get(f"{path}/checkpoints")).json()["data"]
    promoted = await client.post(f"{path}/checkpoints/{kept[0]['id']}/promote")
    assert promoted.status_code == 201


async def test_a_queued_job_tells_about_when_it_begins(
    client: httpx.AsyncClient, network: Json, digits: str, train: Train
) -> None:
    await train(network["id"], epochs=2)
    busy = [await submit(client, network, digits, **FOREVER) for _ in range(2)]
    for job in busy:
        await until(client, job["id"], "running")
    await asyncio.sleep(0.5)

    waiting = await submit(client, network, digits, epochs=2)

    told = (await client.get(f"/v1/jobs/{waiting['id']}")).json()
    etas = [
        (await client.get(f"/v1/jobs/{job['id']}")).json()["progress"]["eta_seconds"]
        for job in busy
    ]
    assert told["queue_seconds"] > 0.5 * min(etas)
    for job in (*busy, waiting):
        await client.post(f"/v1/jobs/{job['id']}/cancel")
        await ended(client, job["id"])


@pytest.mark.parametrize("rate", [1e3, 1e-4])
async def test_fit_gives_its_first_answer_again_whatever_it_was(
    client: httpx.AsyncClient, rate: float
) -> None:
    body = {
        "inputs": [[float(number)] for number in range(40)],
        "targets": [1.5 * number for number in range(40)],
        "training": {"optimizer": {"type": "sgd", "learning_rate": rate}, "epochs": 5},
    }
    headers = {"Prefer": "wait=20", "Idempotency-Key": f"fit at {rate}"}

    first, twin = await asyncio.gather(
        *(client.post("/v1/fit", json=body, headers=headers) for _ in range(2))
    )
    if first.status_code == 409:
        first, twin = twin, first
    again = await client.post("/v1/fit", json=body, headers=headers)

    problem(twin, 409, "idempotency_key_in_use")
    assert again.status_code == first.status_code
    assert again.content == first.content
    assert again.headers["preference-applied"] == first.headers["preference-applied"] == "wait=20"


async def test_a_job_whose_checkpoints_are_damaged_says_so_and_does_not_begin_anew(
    app: FastAPI, client: httpx.AsyncClient, network: Json, digits: str
) -> None:
    job = await submit(client, network, digits, **FOREVER)
    path = f"/v1/jobs/{job['id']}"
    await until(client, job["id"], "running")
    await client.post(f"{path}/pause")
    await until(client, job["id"], "paused")
    services = app.state.services
    async with services.store.read() as work:
        kept = await work.checkpoints.of(job["id"])
    for checkpoint in kept:
        file = services.blobs.path(checkpoint.blob)
        file.write_bytes(file.read_bytes()[:-1] + b"?")

    promoted = await client.post(f"{path}/checkpoints/{kept[0].id}/promote")
    await client.post(f"{path}/resume")
    told = await ended(client, job["id"])

    problem(promoted, 409, "checkpoint_corrupt")
    assert told["status"] == "failed"
    assert told["error"]["code"] == "checkpoint_corrupt"
    assert told["result_version"] is None


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
