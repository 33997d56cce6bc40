"""What is asked of a job: where a wrong value is told, and how values are told back."""

import httpx
import pytest

from tests.service.conftest import LAYERS, Json, problem


@pytest.mark.parametrize(
    ("training", "pointer"),
    [
        ({"optimizer": {"type": "adam", "learning_rate": -1}}, "/training/optimizer/learning_rate"),
        ({"optimizer": {"learning_rate": 1}}, "/training/optimizer/type"),
        ({"optimizer": {"type": "nope"}}, "/training/optimizer/type"),
        ({"optimizer": "nope"}, "/training/optimizer"),
        ({"schedule": {"type": "step", "every": None}}, "/training/schedule/every"),
        ({"gradient_clip_norm": 1e-300}, "/training/gradient_clip_norm"),
        ({"loss": "binary_cross_entropy"}, "/training/loss"),
        ({"early_stopping": {"patience": 0}}, "/training/early_stopping/patience"),
        ({"optimizer": 5}, "/training/optimizer"),
        ({"loss": 5}, "/training/loss"),
    ],
)
async def test_a_wrong_value_is_told_once_and_with_its_place(
    client: httpx.AsyncClient, network: Json, digits: str, training: Json, pointer: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": training}

    told = problem(await client.post("/v1/jobs", json=body), 422, "validation_failed", pointer)

    assert len(told["errors"]) == 1
    assert "valid string" not in told["detail"] or "dictionary" in told["detail"]


async def test_rows_in_the_body_that_do_not_fit_are_told_there(
    client: httpx.AsyncClient, network: Json
) -> None:
    narrow = {"inputs": [[0.0], [1.0]], "targets": ["1", "2"]}
    strange = {"inputs": [[0.0] * 25] * 2, "targets": ["a", "b"]}

    for rows, place in ((narrow, "/inputs"), (strange, "/targets")):
        body = {"network": network["id"], **rows}
        problem(await client.post("/v1/jobs", json=body), 422, "validation_failed", place)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
async def test_a_loss_without_a_word_more_is_told_by_its_name(
    client: httpx.AsyncClient, network: Json, digits: str, loss: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": {"loss": loss}}

    told = await client.post("/v1/jobs?dry_run=true", json=body)
    body["training"] = {"loss": {"type": "huber", "delta": 0.5}}
    other = await client.post("/v1/jobs?dry_run=true", json=body)

    assert told.json()["training"]["loss"] == loss
    assert other.json()["training"]["loss"] == {"type": "huber", "delta": 0.5}


async def test_frames_that_would_fill_the_log_are_refused(client: httpx.AsyncClient) -> None:
    layers = [{"type": "dense", "units": 600, "activation": "tanh"}, *LAYERS]
    made = await client.post("/v1/networks", json={"input_shape": [2], "layers": layers})
    data = {"builtin": "moons", "samples": 20}
    dataset = (await client.post("/v1/datasets", json=data)).json()
    body = {"network": made.json()["id"], "dataset": dataset["id"]}

    large = await client.post("/v1/jobs", json={**body, "training": {"boundary": {}}})

    problem(large, 422, "validation_failed", "/training/boundary/resolution")
