"""Job requests: pointers of invalid values, and the form in which values are returned."""

import httpx
import pytest

from tests.service.conftest import Json, problem


@pytest.mark.parametrize(
    ("training", "pointer"),
    [
        ({"optimizer": {"type": "adam", "learning_rate": -1}}, "/training/optimizer/learning_rate"),
        ({"optimizer": {"type": "adam", "learning_rate": 0}}, "/training/optimizer/learning_rate"),
        ({"optimizer": {"type": "sgd", "learning_rate": 2e6}}, "/training/optimizer/learning_rate"),
        ({"optimizer": {"learning_rate": 1}}, "/training/optimizer/type"),
        ({"loss": ""}, "/training/loss"),
        ({"optimizer": ""}, "/training/optimizer"),
        ({"schedule": ""}, "/training/schedule"),
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
async def test_an_invalid_value_is_reported_once_with_its_pointer(
    client: httpx.AsyncClient, network: Json, digits: str, training: Json, pointer: str
) -> None:
    request = {"network": network["id"], "dataset": digits, "training": training}

    body = problem(await client.post("/v1/jobs", json=request), 422, "validation_failed", pointer)

    assert len(body["errors"]) == 1
    assert "valid string" not in body["detail"] or "dictionary" in body["detail"]


async def test_invalid_rows_in_a_job_are_rejected_with_a_pointer(
    client: httpx.AsyncClient, network: Json
) -> None:
    narrow = {"inputs": [[0.0], [1.0]], "targets": ["1", "2"]}
    unknown = {"inputs": [[0.0] * 25] * 2, "targets": ["a", "b"]}

    for rows, pointer in ((narrow, "/inputs"), (unknown, "/targets")):
        body = {"network": network["id"], **rows}
        problem(await client.post("/v1/jobs", json=body), 422, "validation_failed", pointer)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
async def test_a_loss_without_parameters_is_returned_by_name(
    client: httpx.AsyncClient, network: Json, digits: str, loss: str
) -> None:
    body = {"network": network["id"], "dataset": digits, "training": {"loss": loss}}

    by_name = await client.post("/v1/jobs?dry_run=true", json=body)
    body["training"] = {"loss": {"type": "huber", "delta": 0.5}}
    with_parameters = await client.post("/v1/jobs?dry_run=true", json=body)

    assert by_name.json()["training"]["loss"] == loss
    assert with_parameters.json()["training"]["loss"] == {"type": "huber", "delta": 0.5}
