"""Invalid references: null characters, very long names and oversized values."""

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
async def test_a_reference_with_a_null_character_is_rejected(
    client: httpx.AsyncClient, method: str, path: str, body: Json | None
) -> None:
    response = await client.request(method, path, json=body)

    assert response.status_code in {400, 404, 422}, response.text


@pytest.mark.parametrize("path", ["/page/assets/", "/docs/assets/", "/v1/networks/"])
async def test_a_name_too_long_for_a_file_is_not_found(
    client: httpx.AsyncClient, path: str
) -> None:
    problem(await client.get(path + "a" * 300), 404, "not_found")


async def test_an_alias_named_weights_has_the_body_limit_of_other_aliases(
    client: httpx.AsyncClient, network: Json
) -> None:
    body = b'{"version": 0' + b" " * (2 << 20) + b"}"
    headers = {"content-type": "application/json"}

    for alias in ("weights", "other"):
        url = f"{network['links']['self']}/aliases/{alias}"
        response = await client.put(url, content=body, headers=headers)
        problem(response, 413, "payload_too_large")


async def test_an_input_shape_of_many_long_numbers_is_rejected(
    client: httpx.AsyncClient,
) -> None:
    shape = "[" + ",".join(["9" * 4000] * 400) + "]"
    layers = '[{"type": "dense", "units": 1}]'
    document = (
        f'{{"format": "neurond-weights", "format_version": 1, "network": {{"input_shape": {shape}, '
        f'"layers": {layers}, "dtype": "float32"}}, "layers": []}}'
    )

    response = await client.post("/v1/networks/import", content=document)

    problem(response, 422, "validation_failed", "/network/input_shape")
