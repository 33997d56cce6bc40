"""Slow, incomplete, oversized and malformed requests on raw sockets."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.domain.keys import new_secret
from service.server import http_protocol
from tests.acceptance.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("slow") / "data", workers=1).start()
    yield server
    server.client.close()
    server.stop()


def exchange(server: Server, request_bytes: bytes, *, seconds: float = 5.0) -> tuple[int, bytes]:
    """Return the status and all received bytes until the server closes or `seconds` pass."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(request_bytes)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except (TimeoutError, ConnectionResetError):
            pass
    return (int(received.split(b" ", 2)[1]) if received.startswith(b"HTTP/1.1 ") else 0), received


HOST = b"Host: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /v1/networks HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
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
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n" + GET, 400),
        (b"GET /v1/version#part HTTP/1.1\r\n" + HOST + b"\r\n" + GET, 400),
        (b"GET ftp://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n" + GET, 400),
        (b"GET file:///etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n" + GET, 400),
        (b"GET v1/version HTTP/1.1\r\n" + HOST + b"\r\n" + GET, 400),
        (b"GET /\r\n\r\n" + GET, 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n" + GET, 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + GET, 400),
        (CHUNKED + b"0\r\n" + b"X: aaaaaaaaaaaaa\r\n" * (1 << 16), 431),
        (CHUNKED + b"0\r\nX: " + b"a" * (1 << 20), 431),
        (CHUNKED + b"2;x=" + b"a" * (1 << 20), 431),
    ],
)
def test_an_oversized_or_malformed_request_gets_one_error_and_is_closed(
    server: Server, request_bytes: bytes, status: int
) -> None:
    begun = time.monotonic()

    received_status, received = exchange(server, request_bytes)

    assert received_status == status, received[:300]
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"application/problem+json" in received
    body: dict[str, Any] = json.loads(received.partition(b"\r\n\r\n")[2])
    assert body["status"] == status
    assert time.monotonic() - begun < 4.0


def test_trailers_are_not_treated_as_headers(server: Server) -> None:
    trailer = b"Content-Encoding: gzip\r\nConnection: close\r\n"
    body = b'{"input_shape": [1], "layers": [{"type": "dense", "units": 1}]}'
    chunk = b"%x\r\n%s\r\n0\r\n" % (len(body), body)

    status, received = exchange(server, CHUNKED + chunk + trailer + b"\r\n", seconds=1.0)

    assert status == 201, received


def test_a_long_body_is_not_read_after_the_response(server: Server) -> None:
    request = b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 900000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 404")
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(640 << 20))


@pytest.mark.parametrize(
    ("path", "kind", "size", "status"),
    [
        ("/v1/networks", "application/json", 12 << 20, 413),
        ("/v1/datasets", "text/csv", 300 << 20, 413),
        ("/v1/networks", "text/plain", 12 << 20, 415),
        ("/v1/networks/x/classify", "application/json", 48 << 20, 404),
        ("/v2/models/x/infer", "application/json", 48 << 20, 404),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_an_early_response_reaches_a_client_that_is_still_sending(
    server: Server, path: str, kind: str, size: int, status: int, *, chunked: bool
) -> None:
    """A client as urllib sends all of its body before it reads the response."""
    part = bytes(1 << 20)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    head = f"POST {path} HTTP/1.1\r\nContent-Type: {kind}\r\n".encode() + HOST + framing
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30.0) as connection:
            connection.sendall(head + b"\r\n\r\n")
            for _ in range(size // len(part)):
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            if chunked:
                connection.sendall(b"0\r\n\r\n")
            received = connection.recv(65536)

        assert received.startswith(b"HTTP/1.1 %d" % status), received[:200]
        assert received.count(b"HTTP/1.1 ") == 1


def test_http_1_0_gets_a_stream_without_chunks(server: Server) -> None:
    fit = {"inputs": [[0.0], [1.0]] * 20, "targets": ["a", "b"] * 20, "training": {"epochs": 2}}
    server.client.post("/v1/fit?wait=30", json=fit).raise_for_status()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        connection.sendall(b"GET /v1/jobs/latest/events HTTP/1.0\r\n" + HOST + b"\r\n")
        received = b""
        while chunk := connection.recv(65536):
            received += chunk

    head, _, body = received.partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body.startswith((b"retry:", b"id:", b"event:", b":"))
    assert b"event: end" in body


@pytest.mark.parametrize("rest", [b"X: a\r\n" * 10_000, b"zz\r\n"])
def test_an_invalid_body_after_the_response_gets_no_second_response(
    server: Server, rest: bytes
) -> None:
    request = b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        connection.sendall(request)
        received = connection.recv(65536)
        for part in (b"0\r\n" if rest.startswith(b"X") else b"", rest[:20_000], rest[20_000:]):
            with contextlib.suppress(ConnectionError):
                connection.sendall(part)
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += chunk

    assert received.startswith(b"HTTP/1.1 404")
    assert received.count(b"HTTP/1.1 ") == 1


def test_an_offer_to_upgrade_to_http2_is_answered_in_http1(server: Server) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
    body = b'{"input_shape": [1], "layers": [{"type": "dense", "units": 1}]}'
    whole = POST + offer + b"Content-Length: %d\r\n\r\n" % len(body) + body

    status, received = exchange(server, whole + GET, seconds=1.0)

    assert status == 201, received
    assert b"connection: close" in received
    assert received.count(b"HTTP/1.1 ") == 1
    assert exchange(server, b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n")[0] == 400


def test_pipelined_upgrade_requests_get_one_response(server: Server) -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    status, received = exchange(server, (b"GET /healthz HTTP/1.1\r\n" + HOST + offer) * 500)

    assert status == 200
    assert received.count(b"HTTP/1.1 ") == 1


def test_a_body_after_an_upgrade_request_is_not_parsed_as_a_request(server: Server) -> None:
    smuggled = b"DELETE /models/none HTTP/1.1\r\nHost: localhost\r\n\r\n"
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    head = b"POST /healthz HTTP/1.1\r\n" + HOST + offer
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(smuggled))
        time.sleep(0.2)  # the body arrives after the head was handled
        connection.sendall(smuggled)
        received = connection.recv(65536)
        with contextlib.suppress(TimeoutError):
            received += connection.recv(65536)

    assert received.startswith(b"HTTP/1.1 405")
    assert received.count(b"HTTP/1.1 ") == 1


def test_a_request_after_a_malformed_one_is_not_executed(server: Server) -> None:
    network = {"name": "existing", "input_shape": [1], "layers": [{"type": "dense", "units": 1}]}
    server.client.post("/v1/networks", json=network).raise_for_status()
    wrong = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"

    exchange(server, wrong + b"DELETE /v1/networks/existing HTTP/1.1\r\n" + HOST + b"\r\n")
    time.sleep(0.3)  # a request that was accepted would have run by now

    assert server.client.get("/v1/networks/existing").status_code == 200
    server.client.delete("/v1/networks/existing")


def test_a_body_with_the_next_head_in_one_packet_is_accepted(server: Server) -> None:
    body = b'{"input_shape": [1], "layers": [{"type": "dense", "units": 1}]%s}' % (b" " * 30_000)
    head = POST + b"Content-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=2.0) as connection:
        received = b""
        for part in (head, body + head, body):
            connection.sendall(part)
            time.sleep(0.1)  # one packet for each part
        with contextlib.suppress(TimeoutError):
            while chunk := connection.recv(65536):
                received += chunk

    assert received.count(b"HTTP/1.1 201") == 2, received


def test_a_websocket_upgrade_is_answered_in_http(server: Server) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    status, received = exchange(server, b"GET /nowhere HTTP/1.1\r\n" + HOST + upgrade, seconds=1.0)

    assert status == 404
    assert b"application/problem+json" in received


def test_idle_and_incomplete_connections_are_closed_within_thirteen_seconds(server: Server) -> None:
    """Run all cases concurrently, because each takes ten seconds."""
    head = b"GET / HTTP/1.1\r\n" + HOST
    answered = b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\n"
    cases = {
        "nothing": ([b""], b""),
        "half a head": ([head], b"408"),
        "a blank line": ([b"\r\n"], b""),
        "a blank line after a request": ([GET + b"\r\n"], b"200"),
        "the rest of an answered request": ([answered, b"1"], b"404"),
    }

    def last_status(parts: list[bytes]) -> tuple[bytes, float]:
        begun, received = time.monotonic(), b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=20.0) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.5)  # one packet for each part
            while chunk := connection.recv(65536):
                received += chunk
        return received.rpartition(b"HTTP/1.1 ")[2][:3], time.monotonic() - begun

    with ThreadPoolExecutor(len(cases)) as pool:
        results = dict(
            zip(cases, pool.map(last_status, [parts for parts, _ in cases.values()]), strict=True)
        )

    for name, (_, status) in cases.items():
        assert results[name][0] == status, name
        assert results[name][1] < 13.0, name


def test_healthz_is_fast_during_a_thousand_incomplete_requests(server: Server) -> None:
    connections = []
    try:
        for _ in range(1000):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=5.0)
            connection.sendall(b"POST /v1/networks HTTP/1.1\r\nHost: localhost\r\nX-")
            connections.append(connection)
        times = []
        for _ in range(100):
            begun = time.monotonic()
            assert server.client.get("/healthz").status_code == 200
            times.append(time.monotonic() - begun)
    finally:
        for connection in connections:
            connection.close()

    assert sorted(times)[-2] < 0.25


def test_a_slow_body_times_out_and_a_long_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check with a fake clock that the deadline moves with the bytes that arrived."""
    statuses: list[int] = []

    class Loop:
        now = 0.0

        def time(self) -> float:
            return self.now

        def call_later(self, *_: Any) -> Any:
            return None

    protocol = http_protocol.HttpProtocol.__new__(http_protocol.HttpProtocol)
    protocol.loop = Loop()  # type: ignore[assignment]
    protocol._in_body = True
    monkeypatch.setattr(
        http_protocol.HttpProtocol, "_reject", lambda _, status, __: statuses.append(status)
    )

    protocol._body_bytes = 600 * http_protocol.MIN_BODY_BYTES_PER_SECOND
    protocol.loop.now = 600.0  # type: ignore[attr-defined]
    protocol._body_timeout()
    assert statuses == []
    protocol.loop.now = 661.0  # type: ignore[attr-defined]
    protocol._body_timeout()
    assert statuses == [408]


def test_connections_beyond_the_limit_get_a_problem(serve: Callable[..., Server]) -> None:
    server = serve("few", workers=1, NEUROND_MAX_CONNECTIONS="4")
    server.client.close()
    open_connections = [
        socket.create_connection(("127.0.0.1", server.port), timeout=5.0) for _ in range(4)
    ]
    try:
        time.sleep(0.2)
        status, received = exchange(server, GET.replace(b"/healthz", b"/v1/networks"), seconds=1.0)
        head, _, body = received.partition(b"\r\n\r\n")
        problem = json.loads(body)
        assert (status, problem["code"]) == (503, "too_many_connections")
        assert problem["request_id"]
        assert b"x-request-id: " + problem["request_id"].encode() in head.lower()
        assert b"retry-after" in head.lower()
        posted = POST.replace(b"/v1/networks", b"/v2/models/x/infer") + b"Content-Length: 2\r\n"
        status, received = exchange(server, posted + b"\r\n{}", seconds=1.0)
        assert status == 503
        assert "error" in json.loads(received.partition(b"\r\n\r\n")[2])
        assert exchange(server, GET, seconds=1.0)[0] == 200
    finally:
        for connection in open_connections:
            connection.close()


def test_a_key_is_checked_again_after_a_rejected_connection(serve: Callable[..., Server]) -> None:
    """A wrong key was once answered as the key before it, which the connection remembered."""
    admin = new_secret()
    server = serve("keyed", workers=1, NEUROND_MAX_CONNECTIONS="1", NEUROND_BOOTSTRAP_KEY=admin)
    server.client.headers["Authorization"] = f"Bearer {admin}"
    layers = [{"type": "dense", "units": 1}]
    body = {"name": "secret", "input_shape": [1], "layers": layers}
    server.client.post("/v1/networks", json=body).raise_for_status()
    server.client.close()

    def predict(key: str) -> bytes:
        content = b'{"inputs":[[1.0]]}'
        head = f"POST /v1/networks/secret/predict HTTP/1.1\r\nAuthorization: Bearer {key}\r\n"
        length = b"Content-Length: %d\r\n\r\n" % len(content)
        return head.encode() + b"Content-Type: application/json\r\n" + HOST + length + content

    def status(connection: socket.socket, request_bytes: bytes) -> bytes:
        """Return the status of a request, after all of its response has arrived."""
        connection.sendall(request_bytes)
        time.sleep(0.3)
        return connection.recv(65536).split()[1]

    wrong = predict("nrd_000000000000_" + "x" * 43)
    time.sleep(0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        statuses = [status(connection, predict(admin))]
        with socket.create_connection(("127.0.0.1", server.port), timeout=5.0):
            time.sleep(0.2)
            statuses.append(status(connection, wrong))
        time.sleep(0.2)
        statuses.append(status(connection, wrong))

    assert statuses == [b"200", b"503", b"401"]
