"""Columns are matched by name wherever rows have names, and never by position then."""

import csv
import io
from typing import Any

import httpx
import numpy as np
import pytest

from service.settings import Settings
from tests.service.conftest import Json, in_process, problem, submit, wait_until_finished
from tests.service.uploads import CSV

ROW = {"size": -2.0, "weight": 5.0}
NAMES = ["size", "weight"]


def table(
    columns: list[str], rows: int = 200, names: list[str] | None = None, **constants: float
) -> bytes:
    """Return a CSV whose label depends on the size alone, with its columns in this order.

    The header has ``names`` in place of ``columns`` if they are given.
    """
    random = np.random.default_rng(3)
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([*(names or columns), "kind"])
    for _ in range(rows):
        values = {"size": random.normal(), "weight": random.normal(5, 3), **constants}
        label = "big" if values["size"] > 0 else "small"
        writer.writerow([*(round(values[name], 3) for name in columns), label])
    return stream.getvalue().encode()


async def upload(client: httpx.AsyncClient, content: bytes) -> Json:
    response = await client.post("/v1/datasets", content=content, headers=CSV)
    assert response.status_code == 201, response.text
    dataset: Json = response.json()
    return dataset


@pytest.fixture(scope="module")
async def fitted(client: httpx.AsyncClient) -> Json:
    dataset = await upload(client, table(NAMES))
    body = {"dataset": dataset["id"], "training": {"seed": 1, "epochs": 60}}
    response = await client.post("/v1/fit?wait=60", json=body)
    assert response.status_code == 201, response.text
    network: Json = (await client.get(response.json()["network"]["links"]["self"])).json()
    return network


async def test_a_network_gets_the_features_of_its_first_dataset(
    client: httpx.AsyncClient, fitted: Json
) -> None:
    assert fitted["features"] == [
        {"name": name, "kind": "number", "required": True} for name in NAMES
    ]
    rows = {"inputs": [[0.0, 1.0]] * 10, "targets": ["a", "b"] * 5}
    unnamed = await client.post("/v1/fit?wait=60", json={**rows, "training": {"epochs": 1}})
    assert unnamed.json()["network"]["features"] is None


async def test_a_dataset_in_another_order_is_evaluated_by_name(
    client: httpx.AsyncClient, fitted: Json
) -> None:
    url = f"{fitted['links']['self']}/evaluate"
    reports = []
    for columns in (NAMES, NAMES[::-1], ["extra", *NAMES[::-1]]):
        dataset = await upload(client, table(columns, extra=1.0))
        reports.append((await client.post(url, json={"dataset": dataset["id"]})).json())

    assert reports[0]["accuracy"] > 0.95
    assert reports[0]["accuracy"] == reports[1]["accuracy"] == reports[2]["accuracy"]
    assert reports[1]["notes"] == []
    assert reports[2]["notes"] == ["the column 'extra' was ignored"]


async def test_a_dataset_without_a_column_is_refused_with_its_name(
    client: httpx.AsyncClient, fitted: Json
) -> None:
    dataset = await upload(client, table(["size", "height"], height=1.0))
    path = fitted["links"]["self"]

    for url, body in (
        (f"{path}/evaluate", {"dataset": dataset["id"]}),
        (f"{path}/gradient-check", {"dataset": dataset["id"]}),
        ("/v1/jobs", {"network": fitted["id"], "dataset": dataset["id"]}),
    ):
        response = await client.post(url, json=body)
        detail = problem(response, 422, "validation_failed", "/dataset")["detail"]
        assert "'weight'" in detail
    query = {"from": 0, "to": 1, "dataset": dataset["id"]}
    response = await client.get(f"{path}/diff", params=query)
    assert problem(response, 422, "validation_failed")["errors"][0]["code"] == "missing_column"


async def test_training_continues_on_columns_in_another_order(
    client: httpx.AsyncClient, fitted: Json
) -> None:
    dataset = await upload(client, table(["weight", "extra", "size"], extra=7.0))

    job = await submit(client, fitted, dataset["id"], epochs=2)
    finished = await wait_until_finished(client, job["id"])

    assert finished["status"] == "succeeded"
    assert finished["progress"]["train_accuracy"] > 0.95
    evaluated = await client.post(
        f"{fitted['links']['self']}/evaluate", json={"dataset": dataset["id"]}
    )
    assert evaluated.json()["accuracy"] > 0.95


async def test_rows_by_name_are_read_in_any_order(client: httpx.AsyncClient, fitted: Json) -> None:
    path = fitted["links"]["self"]
    inputs: list[Any] = [[-2.0, 5.0], ROW, dict(reversed(ROW.items()))]

    outputs = (await client.post(f"{path}/predict", json={"inputs": inputs})).json()["outputs"]
    classified = await client.post(f"{path}/classify", json={"inputs": [ROW]})

    assert outputs[0] == outputs[1] == outputs[2]
    assert classified.json()["predictions"][0]["label"] == "small"


@pytest.mark.parametrize(
    ("row", "code", "pointer"),
    [
        ({"size": 1.0}, "missing_feature", "/inputs/0"),
        ({**ROW, "colour": 1.0}, "unknown_feature", "/inputs/0/colour"),
        ({"a": 1.0, "b": 2.0}, "unknown_feature", None),
    ],
)
async def test_wrong_names_are_refused(
    client: httpx.AsyncClient, fitted: Json, row: Json, code: str, pointer: str | None
) -> None:
    response = await client.post(f"{fitted['links']['self']}/predict", json={"inputs": [row]})

    assert problem(response, 422, "validation_failed", pointer)["errors"][0]["code"] == code


async def test_names_need_a_network_that_knows_them(
    client: httpx.AsyncClient, network: Json
) -> None:
    response = await client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})

    assert problem(response, 422, "validation_failed")["errors"][0]["code"] == "no_features"


async def test_a_value_of_a_named_row_is_refused_at_its_name(
    client: httpx.AsyncClient, fitted: Json
) -> None:
    for value in (None, True, "1", [1.0]):
        row = {"weight": value, "size": 1.0}
        response = await client.post(f"{fitted['links']['self']}/predict", json={"inputs": [row]})
        error = problem(response, 422, "validation_failed", "/inputs/0/weight")["errors"][0]
        assert error["code"] == "not_a_number"


async def fit(client: httpx.AsyncClient, dataset: Json) -> Json:
    """Return a new network that is trained on the dataset."""
    body = {"dataset": dataset["id"], "training": {"seed": 1, "epochs": 60}}
    response = await client.post("/v1/fit?wait=60", json=body)
    assert response.status_code == 201, response.text
    network: Json = response.json()["network"]
    return network


async def accuracy(
    client: httpx.AsyncClient, network: Json, dataset: Json
) -> tuple[float, list[str]]:
    """Return the accuracy, and the notes."""
    path = f"/v1/networks/{network['id']}/evaluate"
    report = (await client.post(path, json={"dataset": dataset["id"]})).json()
    return report["accuracy"], report["notes"]


async def test_a_header_of_x0_and_x1_has_names_and_rows_without_a_header_have_none(
    client: httpx.AsyncClient, fitted: Json
) -> None:
    straight = await upload(client, table(NAMES, names=["x0", "x1"]))
    reordered = await upload(client, table(NAMES[::-1], names=["x1", "x0"]))
    network = await fit(client, straight)

    assert [entry["name"] for entry in network["features"]] == ["x0", "x1"]
    assert (await accuracy(client, network, reordered))[0] > 0.95
    refused = await client.post(
        f"{fitted['links']['self']}/evaluate", json={"dataset": straight["id"]}
    )
    assert problem(refused, 422, "validation_failed")["errors"][0]["code"] == "missing_column"

    rows = {"inputs": [[-1.0, 5.0], [1.0, 5.0]], "targets": ["small", "big"]}
    unnamed = (await client.post("/v1/datasets", json=rows)).json()
    assert await accuracy(client, fitted, unnamed) == (
        1.0,
        ["the dataset has no column names; its columns are the features in their order"],
    )


async def test_tables_with_other_column_names_are_not_equal_work(
    client: httpx.AsyncClient, fitted: Json
) -> None:
    first = await upload(client, table(NAMES))
    other = await upload(client, table(NAMES, names=NAMES[::-1]))
    job = await submit(client, fitted, first["id"], epochs=100_000, seed=5)
    body = {
        "network": fitted["id"],
        "dataset": other["id"],
        "training": {"epochs": 100_000, "seed": 5},
        "on_duplicate": "reject",
    }

    response = await client.post("/v1/jobs", json=body)

    assert response.status_code == 202, response.text
    for job_id in (job["id"], response.json()["id"]):
        await client.post(f"/v1/jobs/{job_id}/cancel")
        await wait_until_finished(client, job_id)


async def create(client: httpx.AsyncClient) -> Json:
    layers = [{"type": "dense", "units": 2, "activation": "softmax"}]
    body = {"input_shape": [2], "layers": layers, "labels": ["big", "small"]}
    network: Json = (await client.post("/v1/networks", json=body)).json()
    return network


async def test_a_job_that_trained_nothing_leaves_no_features(client: httpx.AsyncClient) -> None:
    network = await create(client)
    wrong = await upload(client, table(NAMES, names=["sise", "weight"]))
    right = await upload(client, table(NAMES))
    job = await submit(client, network, wrong["id"], epochs=100_000)
    await client.post(f"/v1/jobs/{job['id']}/cancel")
    await wait_until_finished(client, job["id"])

    job = await submit(client, network, right["id"], epochs=1)

    assert (await wait_until_finished(client, job["id"]))["status"] == "succeeded"
    described = (await client.get(network["links"]["self"])).json()
    assert [entry["name"] for entry in described["features"]] == NAMES


async def test_rows_without_names_leave_no_features_of_a_cancelled_job(
    client: httpx.AsyncClient,
) -> None:
    network = await create(client)
    job = await submit(client, network, (await upload(client, table(NAMES)))["id"], epochs=100_000)
    await client.post(f"/v1/jobs/{job['id']}/cancel")
    await wait_until_finished(client, job["id"])
    rows = {"inputs": [[-1.0, 5.0], [1.0, 5.0]], "targets": ["small", "big"]}
    unnamed = (await client.post("/v1/datasets", json=rows)).json()

    job = await submit(client, network, unnamed["id"], epochs=1)

    assert (await wait_until_finished(client, job["id"]))["status"] == "succeeded"
    assert (await client.get(network["links"]["self"])).json()["features"] is None


async def test_names_do_not_change_how_earlier_versions_read_rows(
    client: httpx.AsyncClient,
) -> None:
    network = await create(client)
    rows = {"inputs": [[-1.0, 5.0], [1.0, 5.0]] * 20, "targets": ["small", "big"] * 20}
    body = {"network": network["id"], **rows, "training": {"epochs": 60, "seed": 1}}
    assert (await client.post("/v1/fit?wait=60", json=body)).status_code == 201
    dataset = await upload(client, table(NAMES))
    before = await accuracy(client, network, dataset)
    reordered = await upload(client, table(NAMES[::-1]))
    job = await submit(client, network, reordered["id"], epochs=100_000)
    await client.post(f"/v1/jobs/{job['id']}/cancel")
    await wait_until_finished(client, job["id"])

    assert await accuracy(client, network, dataset) == before
    assert before[1] == [
        "the network has no named features; its inputs are the columns in their order"
    ]


async def test_weights_from_elsewhere_say_how_the_inputs_are_read(
    client: httpx.AsyncClient,
) -> None:
    network = await fit(client, await upload(client, table(NAMES)))
    path = f"/v1/networks/{network['id']}/weights"

    response = await client.put(path, json=(await client.get(path)).json())

    assert response.json()["notes"] == [
        "the inputs are read in the order of the network's features"
    ]


REVERSED = {"weight": 5.0, "size": -2.0}
WRONG = {"a": 5.0, "b": -2.0}


def as_csv(row: dict[str, float]) -> str:
    return ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n"


def split(row: dict[str, float]) -> Json:
    return {"columns": list(row), "data": [list(row.values())]}


CALLS: dict[str, tuple[str, Any]] = {
    "MLflow records": ("/invocations", lambda row: {"dataframe_records": [row]}),
    "MLflow split": ("/invocations", lambda row: {"dataframe_split": split(row)}),
    "MLflow instances": ("/invocations", lambda row: {"instances": [row]}),
    "MLflow CSV": ("/invocations", as_csv),
    "SageMaker": ("/models/named/invoke", lambda row: {"instances": [row]}),
    "SageMaker CSV": ("/models/named/invoke", as_csv),
    "KServe V1": ("/v1/models/named:predict", lambda row: {"instances": [row]}),
    "Vertex AI": ("/predict", lambda row: {"instances": [row]}),
    "Azure ML rows": ("/score", lambda row: {"input_data": [row]}),
    "Azure ML columns": ("/score", lambda row: {"input_data": split(row)}),
}


async def test_the_protocols_match_columns_by_name(tmp_path: Any) -> None:
    settings = Settings(data_dir=tmp_path, workers=1, aip_predict_route="/predict")
    async with in_process(settings) as client:
        dataset = await upload(client, table(NAMES))
        fit = {"dataset": dataset["id"], "network": {"name": "named"}, "training": {"epochs": 30}}
        assert (await client.post("/v1/fit?wait=60", json=fit)).status_code == 201
        rows = {"inputs": [list(ROW.values())]}
        expected = (await client.post("/v1/networks/named/predict", json=rows)).json()["outputs"]
        for name, (url, body) in CALLS.items():

            async def send(row: dict[str, float], url: str = url, body: Any = body) -> Any:
                content = body(row)
                if isinstance(content, str):
                    headers = {**CSV, "Accept": "application/json"}
                    return await client.post(url, content=content, headers=headers)
                return await client.post(url, json=content)

            for row in (ROW, REVERSED):
                response = await send(row)
                assert response.status_code == 200, (name, response.text)
                answer = response.json()
                outputs = answer if isinstance(answer, list) else answer["predictions"]
                assert np.allclose(outputs, expected), name
            body = {"columns": ["weight", 0], "data": [[5.0, -2.0]]}
            for form, path in (("dataframe_split", "/invocations"), ("input_data", "/score")):
                refused = await client.post(path, json={form: body})
                assert refused.status_code == 400, refused.text
                answered = await client.post(path, json={form: {**body, "columns": [0, 1]}})
                assert answered.status_code == 200, answered.text
            for row in (WRONG, {"size": 1.0}, {**ROW, "extra": 1.0}):
                refused = await send(row)
                assert refused.status_code == 400 or refused.status_code == 422, (name, row)


async def test_a_sagemaker_header_of_numbers_is_a_header(tmp_path: Any) -> None:
    async with in_process(Settings(data_dir=tmp_path, workers=1)) as client:
        network = await fit(client, await upload(client, table(NAMES, names=["2019", "2020"])))
        url = f"/models/{network['id']}/invoke"
        headers = {**CSV, "Accept": "application/json"}

        named = await client.post(url, content="2020, 2019\n5,-2\n", headers=headers)
        plain = await client.post(url, content="-2,5\n", headers=headers)

    assert named.status_code == 200, named.text
    assert named.json() == plain.json()
