"""The documentation page, and the examples and references of the OpenAPI document."""

import json
import re

import httpx

from service.api.errors import STATUS
from tests.service.conftest import Json, wait_until_finished


async def test_the_documentation_page_has_local_assets_and_no_inline_scripts(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/docs")

    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert re.findall(r"<script(?! src=)", page.text) == []
    assert "http://" not in page.text
    assert "https://" not in page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert (await client.get(f"/docs/assets/{asset}")).status_code == 200
    assert (await client.get("/docs/assets/secret")).status_code == 404


async def test_the_page_of_errors_has_an_anchor_for_each_code(client: httpx.AsyncClient) -> None:
    text = (await client.get("/docs/errors")).text

    assert all(f'id="{code}"' in text for code in STATUS)


async def test_every_operation_declares_its_errors_and_an_example(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = f"{method} {path}"
            assert operation["summary"], route
            third_party = path.startswith("/v1/models")  # declares fewer errors
            if path.startswith("/v1/") and path != "/v1/version" and not third_party:
                assert {"401", "403"} <= set(operation["responses"]), route
                assert {"400", "404", "409", "413", "415", "422", "429", "503"} <= set(
                    operation["responses"]
                ), route
            for body in operation.get("requestBody", {}).get("content", {}).values():
                reference = body["schema"].get("$ref", "").rpartition("/")[2]
                schema = document["components"]["schemas"].get(reference, body["schema"])
                assert {"examples", "example"} & (set(schema) | set(body)) or body["schema"].get(
                    "format"
                ), route
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_the_examples_work_in_the_documented_order(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()

    def example(path: str) -> Json:
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        if "examples" in content:
            first: Json = next(iter(content["examples"].values()))["value"]
            return first
        name = content["schema"]["$ref"].rpartition("/")[2]
        body: Json = document["components"]["schemas"][name]["examples"][0]
        return body

    assert (await client.post("/v1/networks", json=example("/v1/networks"))).status_code == 201
    assert (await client.post("/v1/datasets", json=example("/v1/datasets"))).status_code == 201
    assert (await client.post("/v1/jobs", json=example("/v1/jobs"))).status_code == 202
    await wait_until_finished(client, "latest")
    history = (await client.get("/v1/jobs/latest/history")).json()
    classify = "/v1/networks/{network}/classify"
    classified = await client.post("/v1/networks/digits/classify", json=example(classify))

    assert history["total_epochs"] == 100
    assert classified.json()["predictions"][0]["label"] == "7"
    for path in ("evaluate", "gradient-check"):
        url = f"/v1/networks/digits/{path}"
        body = example(f"/v1/networks/{{network}}/{path}")
        assert (await client.post(url, json=body)).status_code == 200
    fit = await client.post("/v1/fit", json=example("/v1/fit"), headers={"Prefer": "wait=20"})
    assert fit.status_code == 201


async def test_every_schema_reference_has_a_target(client: httpx.AsyncClient) -> None:
    text = (await client.get("/openapi.json")).text
    known = set(json.loads(text)["components"]["schemas"])

    assert set(re.findall(r"#/components/schemas/([A-Za-z0-9_]+)", text)) <= known
