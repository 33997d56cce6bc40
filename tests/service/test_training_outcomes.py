"""How trainings end, and their history."""

from pathlib import Path

import httpx

from service.settings import Settings
from tests.service.conftest import (
    FOREVER,
    Json,
    Train,
    in_process,
    submit,
    wait_until_finished,
)


async def test_a_diverged_training_fails_with_its_reason(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    rate = {"type": "sgd", "learning_rate": 1e6}
    job = await train(network["id"], epochs=500, optimizer=rate, loss="mse", l2=10.0)

    assert (job["status"], job["stop_reason"]) == ("failed", "diverged")
    assert job["error"]["code"] == "diverged"
    assert "epoch" in job["error"]["detail"]
    assert (await client.get(network["links"]["self"])).json()["latest_version"] == 0


async def test_a_training_ends_at_its_limits(network: Json, train: Train) -> None:
    by_loss = await train(network["id"], epochs=100_000, limits={"target_loss": 0.5})
    by_time = await train(network["id"], **FOREVER, limits={"seconds": 0.3})

    assert by_loss["stop_reason"] == "target_reached"
    assert by_time["stop_reason"] == "time_limit"
    assert by_loss["status"] == by_time["status"] == "succeeded"


async def test_early_stopping_is_reported_with_its_best_epoch(network: Json, train: Train) -> None:
    job = await train(network["id"], epochs=100_000, early_stopping={"patience": 5})

    assert job["stop_reason"] == "early_stopped"
    assert job["progress"]["patience_left"] == 0
    assert job["progress"]["best_epoch"] == job["progress"]["epoch"] - 5


async def test_a_sampled_history_contains_the_extremes(
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
    for limit in (2, 5, 9):
        few = (await client.get(f"{url}?max_points={limit}")).json()
        assert limit - 2 <= len(few["epoch"]) <= limit
        assert few["epoch"][-1] == 300


async def test_an_empty_early_stopping_config_has_default_values(
    network: Json, train: Train
) -> None:
    job = await train(network["id"], epochs=3, early_stopping={})

    assert job["status"] == "succeeded"
    assert job["training"]["early_stopping"] == {"patience": 20, "min_delta": 0.0}


async def test_a_finished_job_has_no_remaining_time(network: Json, train: Train) -> None:
    job = await train(network["id"], epochs=2)

    assert job["progress"]["eta_seconds"] is None


async def test_a_training_above_the_memory_limit_fails_without_a_retry(tmp_path: Path) -> None:
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
        finished = await wait_until_finished(client, job["id"])

        assert (finished["status"], finished["error"]["code"]) == ("failed", "out_of_memory")
        assert finished["attempt"] == 1
        assert (await client.get("/readyz")).status_code == 200
