"""Inference requests over raw connections: batches, pipelining, parts, timeouts."""

import asyncio
import json
import math

import httpx
import pytest
from fastapi import FastAPI

from core.arrays import Array
from core.inference import ROUNDING
from service.application.inference import batches
from service.application.inference.loaded_model import LoadedModel
from tests.service.conftest import KEEP_ALIVE, LAYERS, Json

ROW = [0.5] * 25
END = b"\r\n\r\n"


class RawConnection:
    """A TCP connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, client: httpx.AsyncClient) -> "RawConnection":
        """Connect to the server of a client."""
        return cls(*await asyncio.open_connection(client.base_url.host, client.base_url.port))

    async def response(self) -> tuple[int, Json]:
        """Return the status and the body of the next response."""
        head = await asyncio.wait_for(self.reader.readuntil(END), 5)
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        return int(head.split()[1]), json.loads(await self.reader.readexactly(length))


def request(network: Json, row: list[float], verb: str = "predict") -> bytes:
    """Return the bytes of a request."""
    body = json.dumps({"inputs": [row]}).encode()
    head = f"POST {network['links']['self']}/{verb} HTTP/1.1\r\nHost: localhost\r\n"
    return f"{head}Content-Length: {len(body)}".encode() + END + body


async def test_concurrent_requests_are_one_batch_and_an_invalid_row_fails_alone(
    app: FastAPI, socket_client: httpx.AsyncClient, network: Json
) -> None:
    rows = [[index / 20 + column / 100 for column in range(25)] for index in range(12)]
    url = f"{network['links']['self']}/predict"
    alone = [
        (await socket_client.post(url, json={"inputs": [row]})).json()["outputs"][0] for row in rows
    ]
    connections = [await RawConnection.to(socket_client) for _ in rows]
    counts = app.state.services.inference.statistics(network["id"])[0]

    async def send_together(sent: list[list[float]]) -> tuple[list[tuple[int, Json]], int, int]:
        """Return the responses, the predicted rows and the number of batches."""
        before = counts.rows, counts.executions
        for connection, row in zip(connections, sent, strict=True):
            connection.writer.write(request(network, row))
        responses = [await connection.response() for connection in connections]
        return responses, counts.rows - before[0], counts.executions - before[1]

    responses, predicted, executions = await send_together(rows)
    assert (predicted, executions) == (12, 1)
    tolerance = ROUNDING["float32"]
    for (status, body), expected in zip(responses, alone, strict=True):
        assert status == 200
        pairs = zip(body["outputs"][0], expected, strict=True)
        assert all(math.isclose(output, value, abs_tol=tolerance) for output, value in pairs)

    responses, predicted, executions = await send_together([*rows[:5], [1e300] * 25, *rows[6:]])
    assert [status for status, _ in responses] == [200] * 5 + [422] + [200] * 6
    assert [body["outputs"][0] for status, body in responses if status == 200] == [
        *alone[:5],
        *alone[6:],
    ]
    assert (predicted, executions) == (11, 11)
    for connection in connections:
        connection.writer.close()


async def test_pipelined_requests_are_answered_in_order(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    await socket_client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})
    connection = await RawConnection.to(socket_client)
    version = b"GET /v1/version HTTP/1.1\r\nHost: localhost" + END
    invalid = request(network, [1.0])
    connection.writer.write(
        request(network, ROW) + version + request(network, ROW, "classify") + invalid + version
    )

    responses = [await connection.response() for _ in range(5)]

    assert [status for status, _ in responses] == [200, 200, 200, 422, 200]
    keys = ("outputs", "version", "predictions", "code", "version")
    assert all(key in body for key, (_, body) in zip(keys, responses, strict=True))
    connection.writer.close()


async def test_requests_may_arrive_in_parts_or_be_aborted(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    await socket_client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})
    sent = request(network, ROW)
    head = sent.index(END) + 4
    connection = await RawConnection.to(socket_client)
    for start, stop in ((0, 20), (20, head), (head, head + 9), (head + 9, len(sent))):
        connection.writer.write(sent[start:stop])
        await asyncio.sleep(0.02)
    assert (await connection.response())[0] == 200
    connection.writer.write(sent[:-5])
    await asyncio.sleep(0.02)
    connection.writer.close()
    aborted = await RawConnection.to(socket_client)
    aborted.writer.write(sent)
    aborted.writer.transport.abort()

    response = await socket_client.post(
        f"{network['links']['self']}/predict", json={"inputs": [ROW]}
    )

    assert response.status_code == 200


async def test_an_empty_version_returns_404(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    path = network["links"]["self"]
    await socket_client.post(f"{path}/predict", json={"inputs": [ROW]})

    response = await socket_client.post(f"{path}/versions//predict", json={"inputs": [ROW]})

    assert response.status_code == 404


async def test_the_keep_alive_timeout_does_not_end_a_request_that_has_started(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    await socket_client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})
    connection, sent = await RawConnection.to(socket_client), request(network, ROW)

    connection.writer.write(sent + sent[:-30])
    assert (await connection.response())[0] == 200
    await asyncio.sleep(KEEP_ALIVE + 0.4)
    connection.writer.write(sent[-30:])

    assert (await connection.response())[0] == 200
    connection.writer.close()


async def test_an_unexpected_error_is_answered_and_affects_no_other_request(
    socket_client: httpx.AsyncClient, network: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    await socket_client.post(f"{network['links']['self']}/predict", json={"inputs": [ROW]})
    original = batches.forward

    def forward(model: LoadedModel, rows: Array, calls: int = 1) -> Array:
        if any(row[0] == 99.0 for row in rows):
            raise KeyError(99)
        return original(model, rows, calls)

    monkeypatch.setattr(batches, "forward", forward)
    connections = [await RawConnection.to(socket_client) for _ in range(3)]
    for index, connection in enumerate(connections):
        row = [99.0, *ROW[1:]] if index == 1 else ROW
        connection.writer.write(request(network, row))

    responses = [await connection.response() for connection in connections]

    assert [status for status, _ in responses] == [200, 500, 200]
    assert responses[1][1]["code"] == "internal_error"
    for connection in connections:
        connection.writer.close()


async def test_an_invalid_pipelined_request_is_rejected_after_the_valid_one(
    socket_client: httpx.AsyncClient,
) -> None:
    connection = await RawConnection.to(socket_client)
    connection.writer.write(
        b"GET /v1/networks HTTP/1.1\r\nHost: localhost" + END + b"NONSENSE" + END
    )

    assert [(await connection.response())[0] for _ in range(2)] == [200, 400]
    assert await asyncio.wait_for(connection.reader.read(), 5) == b""
    connection.writer.close()


async def test_leading_zeros_of_a_content_length_are_ignored(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    path = f"{network['links']['self']}/predict"
    connection = await RawConnection.to(socket_client)
    zeros = "0" * 5000
    connection.writer.write(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {zeros}2".encode()
    )
    connection.writer.write(END + b"{}")
    assert (await connection.response())[0] == 422
    connection.writer.close()


async def test_a_repeated_head_is_never_answered_with_the_target_of_another_one(
    socket_client: httpx.AsyncClient, network: Json
) -> None:
    """The second head came while the connection was busy, and the first one's target remained."""
    other = (
        await socket_client.post("/v1/networks", json={"input_shape": [25], "layers": LAYERS})
    ).json()
    connection = await RawConnection.to(socket_client)
    first, second = request(network, ROW), request(other, ROW)
    connection.writer.write(first)
    expected_first = (await connection.response())[1]
    listing = b"GET /v1/networks HTTP/1.1\r\nHost: localhost" + END
    connection.writer.write(listing + second)
    await connection.response()
    expected_second = (await connection.response())[1]

    for _ in range(3):
        connection.writer.write(second)
        assert (await connection.response())[1] == expected_second
    connection.writer.write(first)
    assert (await connection.response())[1] == expected_first
    assert expected_first["network"] == network["name"]
    assert expected_second["network"] == other["name"]
    connection.writer.close()
