"""Versions and aliases over HTTP."""

import httpx
import pytest

from tests.service.conftest import (
    FOREVER,
    Json,
    Train,
    problem,
    submit,
    wait_for_status,
    wait_until_finished,
)


async def test_the_stable_alias_selects_the_version_that_predicts(
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
async def test_an_invalid_alias_is_rejected(
    client: httpx.AsyncClient, network: Json, alias: str
) -> None:
    path = f"{network['links']['self']}/aliases/{alias}"

    problem(await client.put(path, json={"version": 0}), 422, "validation_failed")


async def test_an_alias_of_a_missing_version_is_rejected(
    client: httpx.AsyncClient, network: Json
) -> None:
    path = f"{network['links']['self']}/aliases/stable"

    problem(await client.put(path, json={"version": 7}), 422, "validation_failed", "/version")


async def test_a_trained_version_names_its_job_dataset_and_configuration(
    client: httpx.AsyncClient, network: Json, digits: str, train: Train
) -> None:
    job = await train(network["id"], epochs=3)

    version = (await client.get(f"{network['links']['self']}/versions/1")).json()

    dataset = (await client.get(f"/v1/datasets/{digits}")).json()
    assert (version["origin"], version["parent"], version["job"]) == ("job", 0, job["id"])
    assert version["dataset_sha256"] == dataset["sha256"]
    assert version["training"] == job["training"]
    assert version["metrics"]["epochs"] == 3
    body = (await client.get(f"{network['links']['self']}/versions?limit=1")).json()
    assert (body["data"][0]["version"], body["has_more"]) == (1, True)
    rest = await client.get(f"{network['links']['self']}/versions?after=1")
    assert [item["version"] for item in rest.json()["data"]] == [0]
    bad = await client.get(f"{network['links']['self']}/versions?after=x")
    problem(bad, 422, "validation_failed")


async def test_a_version_is_deleted_and_its_number_is_not_used_again(
    client: httpx.AsyncClient, network: Json, train: Train
) -> None:
    path = network["links"]["self"]
    for _ in range(2):
        await train(network["id"], epochs=1)

    assert (await client.delete(f"{path}/versions/2")).status_code == 204

    problem(await client.get(f"{path}/versions/2"), 404, "not_found")
    assert (await client.get(path)).json()["latest_version"] == 1
    rows = {"inputs": [[0.5] * 25]}
    assert (await client.post(f"{path}/predict", json=rows)).json()["version"] == 1
    problem(await client.post(f"{path}/versions/2/predict", json=rows), 404, "not_found")
    await train(network["id"], epochs=1)
    numbers = [v["version"] for v in (await client.get(f"{path}/versions")).json()["data"]]
    assert numbers == [3, 1, 0]
    assert (await client.get(f"{path}/versions/3")).json()["parent"] == 1


async def test_a_version_that_is_needed_is_not_deleted(
    client: httpx.AsyncClient, network: Json, train: Train, digits: str
) -> None:
    path = network["links"]["self"]
    await train(network["id"], epochs=1)
    await client.put(f"{path}/aliases/stable", json={"version": 0})
    body = problem(await client.delete(f"{path}/versions/0"), 409, "version_in_use")
    assert body["alias"] == "stable"
    job = await submit(client, network, digits, **FOREVER)
    await wait_for_status(client, job["id"], "running")
    body = problem(await client.delete(f"{path}/versions/1"), 409, "version_in_use")
    assert body["job"] == job["id"]
    await client.post(f"/v1/jobs/{job['id']}/cancel")
    await wait_until_finished(client, job["id"])
    await client.delete(f"{path}/aliases/stable")
    stale = {"If-Match": '"stale"'}
    problem(await client.delete(f"{path}/versions/1", headers=stale), 412, "precondition_failed")
    assert (await client.delete(f"{path}/versions/0")).status_code == 204
    problem(await client.delete(f"{path}/versions/1"), 409, "version_in_use")  # the only one
    for ref in ("latest", "7", "0", "x"):
        problem(await client.delete(f"{path}/versions/{ref}"), 404, "not_found")
