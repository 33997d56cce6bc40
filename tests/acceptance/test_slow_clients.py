"""Requests that are slow, half, too large or dishonest, on raw sockets."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.server import http_protocol as guarded_protocol
from tests.acceptance.server import Server

Exchange = Callable[..., tuple[int, bytes]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("slow") / "data", workers=1).start()
    yield made
    made.client.close()
    made.stop()


def exchange(server: Server, sent: bytes, *, seconds: float = 5.0) -> tuple[int, bytes]:
    """Return the status and everything that comes back until the server closes or is silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(sent)
        told = b""
        try:
            while chunk := connection.recv(65536):
                told += chunk
        except (TimeoutError, ConnectionResetError):
            pass
    return (int(told.split(b" ", 2)[1]) if told.startswith(b"HTTP/1.1 ") else 0), told


HOST = b"Host: x\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /v1/networks HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * (64 << 10), 431),
        (
            b"GET / HTTP/1.1\r\n"
            + HOST
            + b"".join(b"X%d: 1\r\n" % n for n in range(150))
            + b"\r\n",
            431,
        ),
        (b"GET /" + b"a" * (20 << 10) + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
        (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + GET, 400),
        (b"GET / HTTP/1.1\r\n\r\n" + GET, 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n" + GET, 400),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n" + GET, 400),
        (b"GET http://other/ HTTP/1.1\r\n" + HOST + b"\r\n" + GET, 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n" + GET, 400),
        (b"GET /\r\n\r\n" + GET, 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n" + GET, 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + GET, 400),
        (CHUNKED + b"0\r\n" + b"X: aaaaaaaaaaaaa\r\n" * (1 << 16), 431),
        (CHUNKED + b"0\r\nX: " + b"a" * (1 << 20), 431),
        (CHUNKED + b"2;x=" + b"a" * (1 << 20), 431),
    ],
)
def test_what_is_too_large_or_dishonest_is_refused_once_and_closed(
    server: Server, sent: bytes, status: int
) -> None:
    begun = time.monotonic()

    told_status, told = exchange(server, sent)

    assert told_status == status, told[:300]
    assert told.count(b"HTTP/1.1") == 1
    assert b"application/problem+json" in told
    body: dict[str, Any] = json.loads(told.partition(b"\r\n\r\n")[2])
    assert body["status"] == status
    assert time.monotonic() - begun < 4.0


def test_fields_after_a_body_are_no_fields_of_the_head(server: Server) -> None:
    trailer = b"Content-Encoding: gzip\r\nConnection: close\r\n"
    body = b'{"input_shape": [1], "layers": [{"type": "dense", "units": 1}]}'
    chunk = b"%x\r\n%s\r\n0\r\n" % (len(body), body)

    status, told = exchange(server, CHUNKED + chunk + trailer + b"\r\n", seconds=1.0)

    assert status == 201, told


def test_a_body_is_not_read_for_ever_after_its_answer(server: Server) -> None:
    sent = b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 200000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        connection.sendall(sent)
        assert connection.recv(65536).startswith(b"HTTP/1.1 404")
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(96 << 20))


@pytest.mark.parametrize("rest", [b"X: a\r\n" * 10_000, b"zz\r\n"])
def test_an_answered_request_is_not_answered_twice(server: Server, rest: bytes) -> None:
    sent = b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        connection.sendall(sent)
        told = connection.recv(65536)
        for part in (b"0\r\n" if rest.startswith(b"X") else b"", rest[:20_000], rest[20_000:]):
            with contextlib.suppress(ConnectionError):
                connection.sendall(part)
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                told += chunk

    assert told.startswith(b"HTTP/1.1 404")
    assert told.count(b"HTTP/1.1") == 1


def test_who_offers_another_protocol_is_answered_in_this_one(server: Server) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
    body = b'{"input_shape": [1], "layers": [{"type": "dense", "units": 1}]}'
    whole = POST + offer + b"Content-Length: %d\r\n\r\n" % len(body) + body

    status, told = exchange(server, whole + GET, seconds=1.0)

    assert status == 201, told
    assert b"connection: close" in told
    assert told.count(b"HTTP/1.1 ") == 1
    assert exchange(server, b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n")[0] == 400


def test_many_pipelined_offers_are_one_request(server: Server) -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    status, told = exchange(server, (b"GET /healthz HTTP/1.1\r\n" + HOST + offer) * 500)

    assert status == 200
    assert told.count(b"HTTP/1.1 ") == 1


def test_a_body_after_an_offer_is_no_request(server: Server) -> None:
    smuggled = b"DELETE /models/none HTTP/1.1\r\nHost: x\r\n\r\n"
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    head = b"POST /healthz HTTP/1.1\r\n" + HOST + offer
    with socket.create_connection(("127.0.0.1", server.port), timeout=1.0) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(smuggled))
        time.sleep(0.2)
        connection.sendall(smuggled)
        told = connection.recv(65536)
        with contextlib.suppress(TimeoutError):
            told += connection.recv(65536)

    assert told.startswith(b"HTTP/1.1 405")
    assert told.count(b"HTTP/1.1 ") == 1


def test_nothing_that_follows_a_refusal_is_done(server: Server) -> None:
    network = {"name": "kept", "input_shape": [1], "layers": [{"type": "dense", "units": 1}]}
    server.client.post("/v1/networks", json=network).raise_for_status()
    wrong = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"

    exchange(server, wrong + b"DELETE /v1/networks/kept HTTP/1.1\r\n" + HOST + b"\r\n")
    time.sleep(0.3)

    assert server.client.get("/v1/networks/kept").status_code == 200
    server.client.delete("/v1/networks/kept")


def test_a_body_with_the_next_head_is_not_taken_for_barren(server: Server) -> None:
    body = b'{"input_shape": [1], "layers": [{"type": "dense", "units": 1}]%s}' % (b" " * 30_000)
    head = POST + b"Content-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=2.0) as connection:
        told = b""
        for part in (head, body + head, body):
            connection.sendall(part)
            time.sleep(0.1)
        with contextlib.suppress(TimeoutError):
            while chunk := connection.recv(65536):
                told += chunk

    assert told.count(b"HTTP/1.1 201") == 2, told


def test_an_upgrade_is_answered_in_http(server: Server) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    status, told = exchange(server, b"GET /nowhere HTTP/1.1\r\n" + HOST + upgrade, seconds=1.0)

    assert status == 404
    assert b"application/problem+json" in told


def test_connections_that_go_nowhere_are_closed_after_their_time(server: Server) -> None:
    """All at once, for each takes ten seconds: what is sent, and the status that comes at last."""
    head = b"GET / HTTP/1.1\r\n" + HOST
    answered = b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\n"
    cases = {
        "nothing": ([b""], b""),
        "half a head": ([head], b"408"),
        "a blank line": ([b"\r\n"], b""),
        "a blank line after a request": ([GET + b"\r\n"], b"200"),
        "the rest of an answered request": ([answered, b"1"], b"404"),
    }

    def last(parts: list[bytes]) -> tuple[bytes, float]:
        begun, told = time.monotonic(), b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=20.0) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.5)
            while chunk := connection.recv(65536):
                told += chunk
        return told.rpartition(b"HTTP/1.1 ")[2][:3], time.monotonic() - begun

    with ThreadPoolExecutor(len(cases)) as pool:
        found = dict(
            zip(cases, pool.map(last, [parts for parts, _ in cases.values()]), strict=True)
        )

    for name, (_, status) in cases.items():
        assert found[name][0] == status, name
        assert found[name][1] < 13.0, name


def test_many_that_only_hold_connections_do_not_matter(server: Server) -> None:
    held = []
    try:
        for _ in range(1000):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=5.0)
            connection.sendall(b"POST /v1/networks HTTP/1.1\r\nHost: x\r\nX-")
            held.append(connection)
        times = []
        for _ in range(100):
            begun = time.monotonic()
            assert server.client.get("/healthz").status_code == 200
            times.append(time.monotonic() - begun)
    finally:
        for connection in held:
            connection.close()

    assert sorted(times)[-2] < 0.25


def test_a_slow_body_is_refused_and_a_long_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline moves with what has arrived; looked at with a clock of its own."""
    answers: list[int] = []

    class Loop:
        now = 0.0

        def time(self) -> float:
            return self.now

        def call_later(self, *_: Any) -> Any:
            return None

    made = guarded_protocol.HttpProtocol.__new__(guarded_protocol.HttpProtocol)
    made.loop = Loop()  # type: ignore[assignment]
    made._in_body = True
    monkeypatch.setattr(
        guarded_protocol.HttpProtocol, "_refuse", lambda _, status, __: answers.append(status)
    )

    made._body_bytes = 600 * guarded_protocol.BODY_BYTES_PER_SECOND
    made.loop.now = 600.0  # type: ignore[attr-defined]
    made._look_at_body()
    assert answers == []
    made.loop.now = 661.0  # type: ignore[attr-defined]
    made._look_at_body()
    assert answers == [408]
