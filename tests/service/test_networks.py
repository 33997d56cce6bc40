"""Networks, versions, aliases and weights over HTTP."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import LAYERS, Json, Train, in_process, problem

SEED_DOCUMENT = {
    "layers": [
        {
            "type": "Dense",
            "weights": [[0.5], [-0.25]],
            "biases": [[0.125]],
            "inputSize": 2,
            "outputSize": 1,
            "activation": "sigmoid",
        }
    ],
    "loss": "mse",
}


async def test_a_new_network_tells_everything_about_itself(client: httpx.AsyncClient) -> None:
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

    answer = await client.post("/v1/networks", json=body)

    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/networks/{made['id']}"
    assert made["id"].startswith("net_")
    assert {key: made[key] for key in body} == body
    assert made["output_shape"] == [10]
    assert made["parameter_count"] == 26 * 32 + 33 * 10
    assert (made["latest_version"], made["aliases"]) == (0, {})
    assert made["created_at"].endswith("Z")
    assert (await client.get("/v1/networks/complete")).json() == made
    assert (await client.get(made["links"]["versions"])).json()["data"][0]["origin"] == "initial"


async def test_without_a_word_the_name_is_the_id_and_a_seed_is_drawn_and_told(
    client: httpx.AsyncClient,
) -> None:
    body = {"input_shape": [2], "layers": [{"type": "dense", "units": 1, "activation": "sigmoid"}]}

    one, other = [(await client.post("/v1/networks", json=body)).json() for _ in range(2)]

    assert one["name"] == one["id"] < other["id"]
    assert one["labels"] == ["0", "1"]
    assert one["seed"] != other["seed"]


async def test_the_same_seed_draws_the_same_weights(client: httpx.AsyncClient) -> None:
    body = {"input_shape": [25], "layers": LAYERS, "seed": 3}

    made = [(await client.post("/v1/networks", json=body)).json()["id"] for _ in range(2)]

    one, other = [(await client.get(f"/v1/networks/{name}/weights")).json() for name in made]
    assert one["sha256"] == other["sha256"]


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
async def test_a_network_that_cannot_be_is_refused_with_the_place(
    client: httpx.AsyncClient, change: Json, pointer: str
) -> None:
    body = {"input_shape": [25], "layers": LAYERS} | change

    answer = await client.post("/v1/networks", json=body)

    problem(answer, 422, "validation_failed", pointer)


@pytest.mark.parametrize("name", ["🦊 fox", "a/b", "a%2Fb", "<script>", "'; DROP TABLE", "ﬁ"])
async def test_any_text_is_a_name_and_comes_back_as_it_was(
    client: httpx.AsyncClient, name: str
) -> None:
    body = {"name": name, "input_shape": [25], "layers": LAYERS}

    made = (await client.post("/v1/networks", json=body)).json()

    assert made["name"] == name
    assert (await client.get(made["links"]["self"])).json()["name"] == name
    problem(await client.post("/v1/networks", json=body), 409, "name_taken")


async def test_lists_go_from_page_to_page_newest_first(client: httpx.AsyncClient) -> None:
    body = {"input_shape": [25], "layers": LAYERS}
    made = [(await client.post("/v1/networks", json=body)).json()["id"] for _ in range(3)]

    first = await client.get("/v1/networks", params={"limit": 2})
    link = first.headers["link"]
    second = await client.get(link[1 : link.index(">")])

    assert [network["id"] for network in first.json()["data"]] == [made[2], made[1]]
    assert first.json()["has_more"] is True
    assert second.json()["data"][0]["id"] == made[0]
    for limit in ("0", "1_0", "%D9%A1", "1.0", "9" * 30):
        problem(await client.get(f"/v1/networks?limit={limit}"), 422, "validation_failed")


async def test_a_change_needs_the_present_state_when_it_names_one(
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


async def test_labels_and_name_can_change(client: httpx.AsyncClient, network: Json) -> None:
    labels = [f"digit {n}" for n in range(10)]
    path = network["links"]["self"]

    changed = await client.patch(path, json={"labels": labels, "name": f"new {network['id']}"})

    assert changed.json()["labels"] == labels
    assert (await client.get(f"/v1/networks/new {network['id']}")).status_code == 200
    problem(await client.patch(path, json={"labels": ["a"]}), 422, "validation_failed", "/labels")


async def test_what_the_settings_allow_is_allowed_by_every_body(tmp_path: Path) -> None:
    layers = [{"type": "dense", "units": 4500, "activation": "softmax"}]
    body = {"name": "wide", "input_shape": [4800], "layers": layers}
    settings = Settings(data_dir=tmp_path, max_width=5000, max_parameters=30_000_000, workers=1)
    rows = {"inputs": [[0.0] * 4800] * 2}
    async with in_process(settings) as client:
        made = await client.post("/v1/networks", json=body)
        told = await client.post("/v1/networks/wide/classify", json={**rows, "top_k": 4500})
        kept = await client.post("/v1/datasets", json={**rows, "targets": ["a", "b"]})

    assert (made.status_code, told.status_code, kept.status_code) == (201, 200, 201)


async def test_null_takes_a_thing_away(client: httpx.AsyncClient, network: Json) -> None:
    path, labels = network["links"]["self"], [f"digit {n}" for n in range(10)]
    metadata = {"team": "a", "row": 7, "share": 0.5, "on": True}
    before = {"name": f"x {network['id']}", "labels": labels, "metadata": metadata}
    changed = await client.patch(path, json=before)
    assert {key: changed.json()[key] for key in before} == before

    empty = await client.patch(path, json={"name": None, "labels": None, "metadata": None})

    told = empty.json()
    assert (told["name"], told["metadata"]) == (network["id"], {})
    assert told["labels"] == [str(n) for n in range(10)]
    assert (await client.patch(path, json={})).headers["etag"] == empty.headers["etag"]


async def test_what_is_escaped_in_a_path_stays_so_where_it_is_told_of(
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
async def test_a_page_comes_after_an_id_of_the_list(client: httpx.AsyncClient, after: str) -> None:
    problem(await client.get(f"/v1/networks?after={after}"), 422, "validation_failed")
    gone = await client.get("/v1/networks?after=net_00000000000000000000000000")
    assert gone.json()["data"] == []


async def test_a_leaky_slope_stands_beside_its_activation(client: httpx.AsyncClient) -> None:
    layers = [
        {"type": "dense", "units": 2, "activation": "leaky_relu", "negative_slope": 0.2},
        {"type": "dense", "units": 2, "activation": {"type": "leaky_relu"}},
    ]

    made = await client.post("/v1/networks", json={"input_shape": [2], "layers": layers})

    assert made.json()["layers"] == [layers[0], {**layers[0], "negative_slope": 0.01}]
    document = (await client.get(made.json()["links"]["weights"])).json()
    assert document["network"]["layers"] == made.json()["layers"]


async def test_a_deleted_network_is_gone(client: httpx.AsyncClient, network: Json) -> None:
    path = network["links"]["self"]
    row = {"inputs": [[0.0] * 25]}
    assert (await client.post(f"{path}/classify", json=row)).status_code == 200

    deleted = await client.delete(path)

    assert deleted.status_code == 204
    problem(await client.get(path), 404, "not_found")
    problem(await client.post(f"{path}/classify", json=row), 404, "not_found")
    problem(await client.delete(path), 404, "not_found")


async def test_aliases_choose_the_version_that_answers(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    path, row = network["links"]["self"], {"inputs": [[0.5] * 25]}
    await train(network["id"], epochs=2)

    async def answering(ref: str = "") -> int:
        return int((await client.post(f"{path}{ref}/classify", json=row)).json()["version"])

    assert await answering() == 1
    set_alias = await client.put(f"{path}/aliases/stable", json={"version": 0})
    assert set_alias.json()["aliases"] == {"stable": 0}
    assert await answering() == 0
    assert await answering("/versions/latest") == 1
    assert await answering("/versions/stable") == 0
    assert (await client.get(f"{path}/versions/0")).json()["aliases"] == ["stable"]
    assert (await client.delete(f"{path}/aliases/stable")).status_code == 204
    assert await answering() == 1
    problem(await client.delete(f"{path}/aliases/stable"), 404, "not_found")
    problem(await client.get(f"{path}/versions/9"), 404, "not_found")
    problem(await client.get(f"{path}/versions/nothing"), 404, "not_found")


@pytest.mark.parametrize("alias", ["latest", "live", "7", "Ümlaut", "a b"])
async def test_what_cannot_be_an_alias_is_refused(
    client: httpx.AsyncClient, network: Json, alias: str
) -> None:
    path = f"{network['links']['self']}/aliases/{alias}"

    problem(await client.put(path, json={"version": 0}), 422, "validation_failed")


async def test_an_alias_needs_a_version_that_is_there(
    client: httpx.AsyncClient, network: Json
) -> None:
    path = f"{network['links']['self']}/aliases/stable"

    problem(await client.put(path, json={"version": 7}), 422, "validation_failed", "/version")


async def test_a_trained_version_tells_where_it_comes_from(
    client: httpx.AsyncClient, network: Json, digits: str, train: Train
) -> None:
    job = await train(network["id"], epochs=3)

    version = (await client.get(f"{network['links']['self']}/versions/1")).json()

    dataset = (await client.get(f"/v1/datasets/{digits}")).json()
    assert (version["origin"], version["parent"], version["job"]) == ("job", 0, job["id"])
    assert version["dataset_sha256"] == dataset["sha256"]
    assert version["training"] == job["training"]
    assert version["metrics"]["epochs"] == 3
    page = (await client.get(f"{network['links']['self']}/versions?limit=1")).json()
    assert (page["data"][0]["version"], page["has_more"]) == (1, True)
    rest = await client.get(f"{network['links']['self']}/versions?after=1")
    assert [item["version"] for item in rest.json()["data"]] == [0]
    bad = await client.get(f"{network['links']['self']}/versions?after=x")
    problem(bad, 422, "validation_failed")


async def test_weights_go_down_up_and_down_to_the_same_bytes(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    path = f"{network['links']['self']}/weights"
    await train(network["id"], epochs=3)
    first = await client.get(path)

    put = await client.put(path, content=first.content)

    assert (put.status_code, put.json()["version"], put.json()["origin"]) == (201, 2, "upload")
    assert (await client.get(path)).content == first.content
    assert first.headers["etag"] == (await client.get(path)).headers["etag"]
    unchanged = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert unchanged.status_code == 304
    initial = await client.get(f"{network['links']['self']}/versions/0/weights")
    assert initial.json()["preprocessing"] is None
    stale = await client.put(path, content=initial.content, headers={"If-Match": '"old"'})
    problem(stale, 412, "precondition_failed")
    fresh = await client.put(
        path, content=initial.content, headers={"If-Match": first.headers["etag"]}
    )
    assert fresh.status_code == 201


async def test_a_dry_run_stores_nothing(client: httpx.AsyncClient, network: Json) -> None:
    path = f"{network['links']['self']}/weights"
    document = (await client.get(path)).content

    checked = await client.put(f"{path}?dry_run=true", content=document)

    assert (checked.status_code, checked.json()["valid"]) == (200, True)
    assert (await client.get(network["links"]["self"])).json()["latest_version"] == 0


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        (("format_version",), 99, "/format_version"),
        (("layers", 0, "weights", 3, 2), None, "/layers/0/weights/3/2"),
        (("layers", 1, "biases"), [1.0], "/layers/1/biases"),
        (("sha256",), "0" * 64, "/sha256"),
    ],
)
async def test_weights_that_do_not_fit_are_refused_with_the_place(
    client: httpx.AsyncClient, network: Json, path: tuple[Any, ...], value: object, pointer: str
) -> None:
    url = f"{network['links']['self']}/weights"
    document: Any = (await client.get(url)).json()
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    problem(await client.put(url, json=document), 422, "validation_failed", pointer)


async def test_weights_of_another_architecture_are_refused(
    client: httpx.AsyncClient, network: Json
) -> None:
    url = f"{network['links']['self']}/weights"
    document = (await client.get(url)).json()
    document["network"]["layers"][0]["activation"] = "tanh"

    problem(await client.put(url, json=SEED_DOCUMENT), 422, "validation_failed", "/layers")
    problem(await client.put(url, json=document), 422, "validation_failed", "/layers/0")


async def test_weights_are_offered_as_json_only(client: httpx.AsyncClient, network: Json) -> None:
    url = f"{network['links']['self']}/weights"

    problem(await client.get(url, headers={"Accept": "image/png"}), 406, "not_acceptable")
    problem(await client.get(f"{url}?format=nonsense"), 406, "not_acceptable")
    assert (await client.get(f"{url}?format=json")).status_code == 200


async def test_damaged_weights_are_told_and_others_are_untouched(
    client: httpx.AsyncClient, network: Json, data_dir: Path
) -> None:
    body = {"input_shape": [25], "layers": LAYERS, "seed": 12345}
    broken = (await client.post("/v1/networks", json=body)).json()["links"]["self"]
    digest = (await client.get(f"{broken}/versions/0")).json()["weights_sha256"]
    blob = data_dir / "blobs" / digest[:2] / digest[2:]
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    row = {"inputs": [[0.5] * 25]}

    problem(await client.get(f"{broken}/weights"), 409, "weights_corrupt")
    problem(await client.post(f"{broken}/classify", json=row), 409, "weights_corrupt")
    blob.unlink()
    problem(await client.post(f"{broken}/predict", json=row), 409, "weights_corrupt")
    healthy = f"{network['links']['self']}/classify"
    assert (await client.post(healthy, json=row)).status_code == 200


async def test_the_originals_document_becomes_a_float64_network(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/networks/import?name=from-js", json=SEED_DOCUMENT)

    made = answer.json()
    assert answer.status_code == 201
    assert (made["name"], made["dtype"]) == ("from-js", "float64")
    assert made["import_report"]["format"] == "seed-json"
    assert any("mse" in note for note in made["import_report"]["notes"])
    outputs = await client.post("/v1/networks/from-js/predict", json={"inputs": [[1.0, 1.0]]})
    assert outputs.json()["outputs"][0][0] == pytest.approx(0.5926665999540697, abs=1e-15)


async def test_an_exported_network_is_imported_whole(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    await train(network["id"], epochs=2)
    document = await client.get(f"{network['links']['self']}/weights")

    made = (await client.post("/v1/networks/import", content=document.content)).json()

    again = await client.get(f"{made['links']['self']}/weights")
    assert again.content == document.content
    assert made["import_report"] == {"format": "neurond-weights", "notes": []}


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, ""),
        ({"layers": [{"type": "Conv"}]}, "/layers/0/type"),
        (
            {
                "format": "neurond-weights",
                "format_version": 1,
                "network": {
                    "input_shape": [4096],
                    "layers": [{"type": "dense", "units": 4096}] * 5,
                },
                "layers": [],
            },
            "/network/layers",
        ),
    ],
)
async def test_a_document_that_cannot_be_imported_is_refused(
    client: httpx.AsyncClient, document: Json, pointer: str
) -> None:
    answer = await client.post("/v1/networks/import", json=document)

    problem(answer, 422, "validation_failed", pointer)
