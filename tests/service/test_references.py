"""References that lead nowhere: what no store, no file system and no list can have."""

import httpx
import pytest

from tests.service.conftest import Json, problem


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/networks/a%00b", None),
        ("GET", "/v1/jobs/a%00b", None),
        ("GET", "/v1/jobs?network=a%00b", None),
        ("GET", "/v2/models/a%00b/ready", None),
        ("POST", "/v1/jobs", {"network": "a\0b", "dataset": "none"}),
    ],
)
async def test_what_no_database_can_hold_is_refused_or_not_there(
    client: httpx.AsyncClient, method: str, path: str, body: Json | None
) -> None:
    answer = await client.request(method, path, json=body)

    assert answer.status_code in {400, 404, 422}, answer.text


@pytest.mark.parametrize("path", ["/page/assets/", "/docs/assets/", "/v1/networks/"])
async def test_a_name_that_is_too_long_for_any_file_is_not_there(
    client: httpx.AsyncClient, path: str
) -> None:
    problem(await client.get(path + "a" * 300), 404, "not_found")


async def test_an_alias_called_weights_takes_no_more_than_another(
    client: httpx.AsyncClient, network: Json
) -> None:
    body = b'{"version": 0' + b" " * (2 << 20) + b"}"
    headers = {"content-type": "application/json"}

    for alias in ("weights", "other"):
        url = f"{network['links']['self']}/aliases/{alias}"
        answer = await client.put(url, content=body, headers=headers)
        problem(answer, 413, "payload_too_large")


async def test_a_shape_of_many_long_numbers_is_not_multiplied_out(
    client: httpx.AsyncClient,
) -> None:
    shape = "[" + ",".join(["9" * 4000] * 400) + "]"
    layers = '[{"type": "dense", "units": 1}]'
    document = (
        f'{{"format": "neurond-weights", "format_version": 1, "network": {{"input_shape": {shape}, '
        f'"layers": {layers}, "dtype": "float32"}}, "layers": []}}'
    )

    answer = await client.post("/v1/networks/import", content=document)

    problem(answer, 422, "validation_failed", "/network/input_shape")
