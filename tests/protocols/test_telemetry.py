"""Traces reach a collector, without API keys and without rows."""

import gzip
import http.server
import importlib.util
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.server import Server

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry.exporter") is None,
    reason="OpenTelemetry's exporter is not installed",
)
KEY = "nrd_0123456789ab_" + "k" * 30
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector(http.server.BaseHTTPRequestHandler):
    """Store the requests that it receives."""

    received: "queue.Queue[tuple[str, bytes]]" = queue.Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.received.put((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(collector: str, tmp_path: Path) -> Iterator[Server]:
    server = Server(
        tmp_path / "data",
        workers=1,
        environment={
            "NEUROND_TELEMETRY": "true",
            "NEUROND_BOOTSTRAP_KEY": KEY,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        },
    ).start()
    server.client.headers["Authorization"] = f"Bearer {KEY}"
    yield server
    server.client.close()
    server.stop()


def test_spans_reach_a_collector_without_keys_and_rows(server: Server) -> None:
    layers = [{"type": "dense", "units": 2, "activation": "softmax"}]
    body = {"name": "traced", "input_shape": [1], "layers": layers}
    assert server.client.post("/v1/networks", json=body).status_code == 201

    response = server.client.post(
        "/v1/networks/traced/classify",
        json={"inputs": [[0.123456789]]},
        headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
    )
    assert response.status_code == 200

    sent = b""
    while b"/v1/networks/{network}/classify" not in sent:
        path, spans = Collector.received.get(timeout=20)
        assert path == "/v1/traces"
        sent += spans
    assert bytes.fromhex(TRACE) in sent
    assert KEY.encode() not in sent
    assert b"0.123456789" not in sent
