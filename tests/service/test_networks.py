"""Networks over HTTP: create, list, change and delete."""

from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import LAYERS, Json, in_process, problem


async def test_a_new_network_is_returned_with_all_its_fields(client: httpx.AsyncClient) -> None:
    body = {
        "name": "complete",
        "input_shape": [25],
        "layers": [
            {"type": "dense", "units": 32, "activation": "relu"},
            {"type": "dropout", "rate": 0.1},
            {"type": "dense", "units": 10, "activation": "softmax"},
        ],
        "labels": list("0123456789"),
        "dtype": "float32",
        "seed": 7,
    }

    response = await client.post("/v1/networks", json=body)

    network = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/networks/{network['id']}"
    assert network["id"].startswith("net_")
    assert {key: network[key] for key in body} == body
    assert network["output_shape"] == [10]
    assert network["parameter_count"] == 26 * 32 + 33 * 10
    assert (network["latest_version"], network["aliases"]) == (0, {})
    assert network["created_at"].endswith("Z")
    assert (await client.get("/v1/networks/complete")).json() == network
    assert (await client.get(network["links"]["versions"])).json()["data"][0]["origin"] == "initial"


async def test_the_default_name_is_the_id_and_default_seeds_differ(
    client: httpx.AsyncClient,
) -> None:
    body = {"input_shape": [2], "layers": [{"type": "dense", "units": 1, "activation": "sigmoid"}]}

    first, second = [(await client.post("/v1/networks", json=body)).json() for _ in range(2)]

    assert first["name"] == first["id"] < second["id"]
    assert first["labels"] == ["0", "1"]
    assert first["seed"] != second["seed"]


async def test_equal_seeds_initialize_equal_weights(client: httpx.AsyncClient) -> None:
    body = {"input_shape": [25], "layers": LAYERS, "seed": 3}

    names = [(await client.post("/v1/networks", json=body)).json()["id"] for _ in range(2)]

    first, second = [(await client.get(f"/v1/networks/{name}/weights")).json() for name in names]
    assert first["sha256"] == second["sha256"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"input_shape": []}, "/input_shape"),
        ({"input_shape": [0]}, "/input_shape/0"),
        ({"input_shape": [5000]}, "/input_shape"),
        ({"input_shape": [2, 2]}, "/input_shape"),
        ({"input_shape": ["25"]}, "/input_shape/0"),
        ({"input_shape": [True]}, "/input_shape/0"),
        ({"layers": []}, "/layers"),
        ({"layers": LAYERS * 20}, "/layers"),
        ({"layers": [{"type": "conv"}]}, "/layers/0/type"),
        ({"layers": [{"type": "dense", "units": 10**9}]}, "/layers/0/units"),
        ({"layers": [{"type": "dense", "units": 4096}] * 3}, "/layers"),
        ({"layers": [{"type": "dense", "units": 2.5}]}, "/layers/0/units"),
        (
            {"layers": [{"type": "dense", "units": 2, "activation": "magic"}]},
            "/layers/0/activation",
        ),
        ({"layers": [{"type": "dense", "units": 2, "colour": 1}]}, "/layers/0/colour"),
        ({"layers": [{"type": "dense", "units": 2}, {"type": "dropout", "rate": 0.5}]}, "/layers"),
        ({"layers": [{"type": "dense", "units": 1, "activation": "softmax"}]}, "/layers/0/units"),
        ({"labels": ["a"]}, "/labels"),
        ({"labels": ["a"] * 10}, "/labels"),
        ({"dtype": "int8"}, "/dtype"),
        ({"seed": -1}, "/seed"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "line\nbreak"}, "/name"),
        ({"name": "net_01M81G16M0AKFY5ZRJ13Q3MP2P"}, "/name"),
        ({"id": "net_1"}, "/id"),
        ({"metadata": {"a": [1]}}, "/metadata/a"),
        ({"metadata": {"a": None}}, "/metadata/a"),
        ({"metadata": {"a": 2**53 + 1}}, "/metadata/a"),
        ({"metadata": {"a": "x" * 2001}}, "/metadata/a"),
        ({"metadata": {"a": "\0"}}, "/metadata/a"),
    ],
)
async def test_an_invalid_network_is_rejected_with_a_pointer(
    client: httpx.AsyncClient, change: Json, pointer: str
) -> None:
    body = {"input_shape": [25], "layers": LAYERS} | change

    response = await client.post("/v1/networks", json=body)

    problem(response, 422, "validation_failed", pointer)


@pytest.mark.parametrize("name", ["🦊 fox", "a/b", "a%2Fb", "<script>", "'; DROP TABLE", "ﬁ"])
async def test_a_name_with_special_characters_is_stored_unchanged_and_is_unique(
    client: httpx.AsyncClient, name: str
) -> None:
    body = {"name": name, "input_shape": [25], "layers": LAYERS}

    network = (await client.post("/v1/networks", json=body)).json()

    assert network["name"] == name
    assert (await client.get(network["links"]["self"])).json()["name"] == name
    problem(await client.post("/v1/networks", json=body), 409, "name_taken")


async def test_networks_are_listed_in_pages_newest_first(client: httpx.AsyncClient) -> None:
    body = {"input_shape": [25], "layers": LAYERS}
    created = [(await client.post("/v1/networks", json=body)).json()["id"] for _ in range(3)]

    first = await client.get("/v1/networks", params={"limit": 2})
    link = first.headers["link"]
    second = await client.get(link[1 : link.index(">")])

    assert [network["id"] for network in first.json()["data"]] == [created[2], created[1]]
    assert first.json()["has_more"] is True
    assert second.json()["data"][0]["id"] == created[0]
    for limit in ("0", "1_0", "%D9%A1", "1.0", "9" * 30):
        problem(await client.get(f"/v1/networks?limit={limit}"), 422, "validation_failed")


async def test_an_update_with_a_stale_etag_is_rejected(
    client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    etag = (await client.get(path)).headers["etag"]

    changed = await client.patch(path, json={"metadata": {"team": "a"}}, headers={"If-Match": etag})
    stale = await client.patch(path, json={"name": "late"}, headers={"If-Match": etag})

    assert changed.json()["metadata"] == {"team": "a"}
    problem(stale, 412, "precondition_failed")
    fresh = changed.headers["etag"]
    assert (await client.get(path, headers={"If-None-Match": fresh})).status_code == 304
    assert (await client.get(path, headers={"If-None-Match": etag})).status_code == 200


async def test_labels_and_name_can_be_updated(client: httpx.AsyncClient, network: Json) -> None:
    labels = [f"digit {n}" for n in range(10)]
    path = network["links"]["self"]

    changed = await client.patch(path, json={"labels": labels, "name": f"new {network['id']}"})

    assert changed.json()["labels"] == labels
    assert (await client.get(f"/v1/networks/new {network['id']}")).status_code == 200
    problem(await client.patch(path, json={"labels": ["a"]}), 422, "validation_failed", "/labels")


async def test_requests_may_have_the_sizes_that_the_settings_allow(tmp_path: Path) -> None:
    layers = [{"type": "dense", "units": 4500, "activation": "softmax"}]
    body = {"name": "wide", "input_shape": [4800], "layers": layers}
    settings = Settings(data_dir=tmp_path, max_width=5000, max_parameters=30_000_000, workers=1)
    rows = {"inputs": [[0.0] * 4800] * 2}
    async with in_process(settings) as client:
        network = await client.post("/v1/networks", json=body)
        classified = await client.post("/v1/networks/wide/classify", json={**rows, "top_k": 4500})
        dataset = await client.post("/v1/datasets", json={**rows, "targets": ["a", "b"]})

    assert (network.status_code, classified.status_code, dataset.status_code) == (201, 200, 201)


async def test_null_resets_name_labels_and_metadata(
    client: httpx.AsyncClient, network: Json
) -> None:
    path, labels = network["links"]["self"], [f"digit {n}" for n in range(10)]
    metadata = {"team": "a", "row": 7, "share": 0.5, "on": True}
    before = {"name": f"x {network['id']}", "labels": labels, "metadata": metadata}
    changed = await client.patch(path, json=before)
    assert {key: changed.json()[key] for key in before} == before

    empty = await client.patch(path, json={"name": None, "labels": None, "metadata": None})

    body = empty.json()
    assert (body["name"], body["metadata"]) == (network["id"], {})
    assert body["labels"] == [str(n) for n in range(10)]
    assert (await client.patch(path, json={})).headers["etag"] == empty.headers["etag"]


async def test_errors_return_the_escaped_path_and_the_unescaped_name(
    client: httpx.AsyncClient, network: Json
) -> None:
    alias = await client.put(f"{network['links']['self']}/aliases/a%2Fb%20c", json={"version": 0})
    version = await client.get(f"{network['links']['self']}/versions/a%2Fb")
    nothing = await client.get("/v1/networks/%C3%A9%2F%00")
    nowhere = await client.get("/v1/nowhere/a%2Fb")

    assert problem(alias, 422, "validation_failed")["instance"].endswith("/a%2Fb%20c")
    assert "'a/b'" in problem(version, 404, "not_found")["detail"]
    assert nothing.status_code in {404, 422}
    assert nothing.json()["instance"] == "/v1/networks/%C3%A9%2F%00"
    assert "'/v1/nowhere/a/b'" in problem(nowhere, 404, "not_found")["detail"]


@pytest.mark.parametrize("after", ["unknown", "net_", "ds_01ARZ3NDEKTSV4RRFFQ69G5FAV", "%00"])
async def test_a_pagination_cursor_must_be_an_id_of_a_network(
    client: httpx.AsyncClient, after: str
) -> None:
    problem(await client.get(f"/v1/networks?after={after}"), 422, "validation_failed")
    gone = await client.get("/v1/networks?after=net_00000000000000000000000000")
    assert gone.json()["data"] == []


async def test_a_leaky_relu_is_returned_with_its_negative_slope(client: httpx.AsyncClient) -> None:
    layers = [
        {"type": "dense", "units": 2, "activation": "leaky_relu", "negative_slope": 0.2},
        {"type": "dense", "units": 2, "activation": {"type": "leaky_relu"}},
    ]

    response = await client.post("/v1/networks", json={"input_shape": [2], "layers": layers})

    assert response.json()["layers"] == [layers[0], {**layers[0], "negative_slope": 0.01}]
    document = (await client.get(response.json()["links"]["weights"])).json()
    assert document["network"]["layers"] == response.json()["layers"]


async def test_a_deleted_network_is_not_found(client: httpx.AsyncClient, network: Json) -> None:
    path = network["links"]["self"]
    row = {"inputs": [[0.0] * 25]}
    assert (await client.post(f"{path}/classify", json=row)).status_code == 200

    deleted = await client.delete(path)

    assert deleted.status_code == 204
    problem(await client.get(path), 404, "not_found")
    problem(await client.post(f"{path}/classify", json=row), 404, "not_found")
    problem(await client.delete(path), 404, "not_found")
