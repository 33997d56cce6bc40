"""The hot path answers what the ordinary road would, byte for byte."""

import asyncio
import json
import math
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from core.inference import ROUNDING
from service.application.inference.loaded_model import LoadedModel
from service.server.inference_protocol import PROCESS
from tests.service.conftest import KEEP_ALIVE, Json, problem

ROW = [0.5] * 25
ORDINARY = {"X-Request-ID": "by-the-ordinary-road"}
END = b"\r\n\r\n"


def is_hot(answer: httpx.Response) -> bool:
    return answer.headers["x-request-id"].startswith(PROCESS.decode())


@pytest.mark.parametrize("verb", ["classify", "predict"])
@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [ROW]},
        {"inputs": [ROW, [0] * 25], "top_k": 3},
        {"inputs": [[1e-300] * 25]},
        {"top_k": None, "inputs": [ROW] * 64},
    ],
)
async def test_both_roads_give_the_same_bytes(
    socket_client: httpx.AsyncClient, network: Json, verb: str, body: Json
) -> None:
    url = f"{network['links']['self']}/{verb}"
    await socket_client.post(url, json=body)  # loads the version

    hot = await socket_client.post(url, json=body)
    ordinary = await socket_client.post(url, json=body, headers=ORDINARY)

    assert hot.status_code == ordinary.status_code == 200
    assert hot.content == ordinary.content
    assert hot.headers["content-type"] == ordinary.headers["content-type"]
    assert is_hot(hot)
    assert not is_hot(ordinary)
    differing = {"x-request-id", "date"}
    assert {*hot.headers} - differing == {*ordinary.headers} - differing


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b'{"inputs": [[1]], "inputs": [[2]]}', 422, "validation_failed"),
        (b'{"inputs": [[1]], "\\u0069nputs": [[2]]}', 422, "validation_failed"),
        (b'{"inputs": [[true]]}', 422, "validation_failed"),
        (b'{"inputs": [["1"]]}', 422, "validation_failed"),
        (b'{"inputs": [[1e999]]}', 422, "validation_failed"),
        (b'{"inputs": [[NaN]]}', 422, "validation_failed"),
        (b'{"inputs": [], "top_k": 1}', 422, "validation_failed"),
        (b'{"inputs": [[1]], "top_k": 0}', 422, "validation_failed"),
        (b'{"inputs": [[1]], "extra": 0}', 422, "validation_failed"),
        (b'{"inputs": [[1]', 400, "malformed_body"),
        (b"\xef\xbb\xbf{}", 400, "malformed_body"),
        (b"", 400, "malformed_body"),
    ],
)
async def test_what_is_wrong_is_refused_by_the_ordinary_road(
    socket_client: httpx.AsyncClient, network: Json, content: bytes, status: int, code: str
) -> None:
    url = f"{network['links']['self']}/classify"
    await socket_client.post(url, json={"inputs": [ROW]})

    answer = await socket_client.post(
        url, content=content, headers={"Content-Type": "application/json"}
    )

    problem(answer, status, code)


async def test_a_new_version_and_an_alias_answer_at_once(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    body = {"inputs": [ROW]}
    assert (await socket_client.post(f"{path}/classify", json=body)).json()["version"] == 0
    document = json.loads((await socket_client.get(f"{path}/weights")).content)
    document["layers"][-1]["biases"][0] += 1.0
    del document["sha256"]

    assert (await socket_client.put(f"{path}/weights", json=document)).status_code == 201
    newest = (await socket_client.post(f"{path}/classify", json=body)).json()
    assert (
        await socket_client.put(f"{path}/aliases/stable", json={"version": 0})
    ).status_code == 200
    stable = (await socket_client.post(f"{path}/classify", json=body)).json()

    assert (newest["version"], stable["version"]) == (1, 0)
    assert newest["predictions"] != stable["predictions"]


async def test_a_deleted_network_answers_no_more(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    assert (await socket_client.post(f"{path}/classify", json={"inputs": [ROW]})).status_code == 200

    assert (await socket_client.delete(path)).status_code == 204

    answer = await socket_client.post(f"{path}/classify", json={"inputs": [ROW]})
    problem(answer, 404, "not_found")


async def test_aliases_and_versions_change_under_load_and_fail_nobody(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    document = json.loads((await socket_client.get(f"{path}/weights")).content)
    del document["sha256"]
    assert (await socket_client.put(f"{path}/weights", json=document)).status_code == 201
    stable = f"{path}/versions/stable/predict"
    await socket_client.put(f"{path}/aliases/stable", json={"version": 0})
    told: list[tuple[int, int]] = []
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            answer = await socket_client.post(stable, json={"inputs": [ROW]})
            told.append((answer.status_code, answer.json().get("version", -1)))

    asking = [asyncio.create_task(ask()) for _ in range(6)]
    for turn in range(8):
        pointed = await socket_client.put(f"{path}/aliases/stable", json={"version": turn % 2})
        assert pointed.status_code == 200
        answer = await socket_client.post(stable, json={"inputs": [ROW]})
        assert answer.json()["version"] == turn % 2
        assert (await socket_client.put(f"{path}/weights", json=document)).status_code == 201
    over.set()
    await asyncio.gather(*asking)

    assert set(told) == {(200, 0), (200, 1)}
    assert len(told) > 50


class Wire:
    """A raw connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, client: httpx.AsyncClient) -> "Wire":
        return cls(*await asyncio.open_connection(client.base_url.host, client.base_url.port))

    async def answer(self) -> tuple[int, Json]:
        """Return the status and the body of the next answer."""
        head = await asyncio.wait_for(self.reader.readuntil(END), 5)
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        return int(head.split()[1]), json.loads(await self.reader.readexactly(length))


def request(network: Json, row: list[float], verb: str = "predict") -> bytes:
    body = json.dumps({"inputs": [row]}).encode()
    head = f"POST {network['links']['self']}/{verb} HTTP/1.1\r\nHost: x\r\n"
    return f"{head}Content-Length: {len(body)}".encode() + END + body


async def test_rows_of_one_turn_go_through_together_and_a_bad_one_alone(
    app: FastAPI, socket_client: httpx.AsyncClient, network: Json
) -> None:
    rows = [[index / 20 + column / 100 for column in range(25)] for index in range(12)]
    url = f"{network['links']['self']}/predict"
    alone = [
        (await socket_client.post(url, json={"inputs": [row]})).json()["outputs"][0] for row in rows
    ]
    wires = [await Wire.to(socket_client) for _ in rows]
    counts = app.state.services.inference.statistics(network["id"])[0]

    async def at_once(sent: list[list[float]]) -> tuple[list[tuple[int, Json]], int, int]:
        before = counts.rows, counts.executions
        for wire, row in zip(wires, sent, strict=True):
            wire.writer.write(request(network, row))
        told = [await wire.answer() for wire in wires]
        return told, counts.rows - before[0], counts.executions - before[1]

    told, answered, executions = await at_once(rows)
    assert (answered, executions) == (12, 1)
    bound = ROUNDING["float32"]
    for (status, body), expected in zip(told, alone, strict=True):
        assert status == 200
        pairs = zip(body["outputs"][0], expected, strict=True)
        assert all(math.isclose(one, other, abs_tol=bound) for one, other in pairs)

    told, answered, executions = await at_once([*rows[:5], [1e300] * 25, *rows[6:]])
    assert [status for status, _ in told] == [200] * 5 + [422] + [200] * 6
    assert [body["outputs"][0] for status, body in told if status == 200] == [
        *alone[:5],
        *alone[6:],
    ]
    assert (answered, executions) == (11, 11)
    for wire in wires:
        wire.writer.close()


async def test_requests_of_one_connection_are_answered_in_their_order(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    await socket_client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})
    wire = await Wire.to(socket_client)
    version = b"GET /v1/version HTTP/1.1\r\nHost: x" + END
    bad = request(network, [1.0])
    wire.writer.write(
        request(network, ROW) + version + request(network, ROW, "classify") + bad + version
    )

    told = [await wire.answer() for _ in range(5)]

    assert [status for status, _ in told] == [200, 200, 200, 422, 200]
    keys = ("outputs", "version", "predictions", "code", "version")
    assert all(key in body for key, (_, body) in zip(keys, told, strict=True))
    wire.writer.close()


async def test_a_request_may_come_in_pieces_or_not_at_all(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    await socket_client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})
    sent = request(network, ROW)
    head = sent.index(END) + 4
    wire = await Wire.to(socket_client)
    for begin, end in ((0, 20), (20, head), (head, head + 9), (head + 9, len(sent))):
        wire.writer.write(sent[begin:end])
        await asyncio.sleep(0.02)
    assert (await wire.answer())[0] == 200
    wire.writer.write(sent[:-5])
    await asyncio.sleep(0.02)
    wire.writer.close()
    hasty = await Wire.to(socket_client)
    hasty.writer.write(sent)
    hasty.writer.transport.abort()

    answer = await socket_client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://elsewhere.example"},
        {"Content-Encoding": "gzip"},
        {"Content-Type": "text/plain"},
        {"Connection": "close"},
        {"X-Forwarded-For": "10.1.2.3"},
        {"X-Request-ID": "mine"},
        {"User-Agent": "Mozilla/5.0"},
    ],
)
async def test_what_is_unusual_takes_the_ordinary_road(
    socket_client: httpx.AsyncClient, network: Json, headers: dict[str, str]
) -> None:
    url = f"{network['links']['self']}/predict"
    await socket_client.post(url, json={"inputs": [ROW]})

    answer = await socket_client.post(url, json={"inputs": [ROW]}, headers=headers)

    assert not is_hot(answer)


async def test_an_empty_version_is_none(socket_client: httpx.AsyncClient, network: Json) -> None:
    path = network["links"]["self"]
    await socket_client.post(f"{path}/predict", json={"inputs": [ROW]})

    answer = await socket_client.post(f"{path}/versions//predict", json={"inputs": [ROW]})

    assert answer.status_code == 404


async def test_who_sends_the_next_request_at_once_may_take_time_over_it(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    await socket_client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})
    wire, sent = await Wire.to(socket_client), request(network, ROW)

    wire.writer.write(sent + sent[:-30])
    assert (await wire.answer())[0] == 200
    await asyncio.sleep(KEEP_ALIVE + 0.4)
    wire.writer.write(sent[-30:])

    assert (await wire.answer())[0] == 200
    wire.writer.close()


async def test_a_fault_of_ours_hangs_nobody(
    app: FastAPI,
    socket_client: httpx.AsyncClient,
    network: Json,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await socket_client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})
    inference = app.state.services.inference
    honest = inference.predict_batch

    def now(served: LoadedModel, calls: list[list[list[float]]]) -> Any:
        if any(row[0] == 99.0 for rows in calls for row in rows):
            raise KeyError(99)
        return honest(served, calls)

    monkeypatch.setattr(inference, "predict_batch", now)
    wires = [await Wire.to(socket_client) for _ in range(6)]
    for index, wire in enumerate(wires):
        row = [99.0, *ROW[1:]] if index == 3 else ROW
        wire.writer.write(request(network, row))

    assert [(await wire.answer())[0] for wire in wires] == [200] * 6
    for wire in wires:
        wire.writer.close()


async def test_nonsense_behind_a_request_waits_for_its_answer(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    wire = await Wire.to(socket_client)
    wire.writer.write(b"GET /v1/networks HTTP/1.1\r\nHost: x" + END + b"NONSENSE" + END)

    assert [(await wire.answer())[0] for _ in range(2)] == [200, 400]
    assert await asyncio.wait_for(wire.reader.read(), 5) == b""
    wire.writer.close()
    path = f"{network['links']['self']}/predict"
    wire = await Wire.to(socket_client)
    zeros = "0" * 5000
    wire.writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {zeros}2".encode())
    wire.writer.write(END + b"{}")
    assert (await wire.answer())[0] == 422
    wire.writer.close()
