"""Serving, compared with other model servers: requests per second, latency and CPU time.

    python -m benchmarks.serving --rounds 3
    python -m benchmarks.serving --peer mlserver=VENV --peer bentoml=VENV ...

Each contender is one process on one core. `wrk` generates the load on another core. Contenders run
in turn, and each figure is the median of the rounds. Each peer runs from its own virtual
environment, which the command line names. A peer without an environment is skipped.
"""

import argparse
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import httpx

from benchmarks.serving.contenders import ROOT, Contender, contenders, variant
from benchmarks.serving.network import WIDTHS, parameters
from benchmarks.serving.processes import load, start, stop, wait_for_response
from tests.waiting import block_until

OURS = ("bare ASGI", "FastAPI + NumPy")
VARIANTS = {
    "neurond, access log": {"NEUROND_ACCESS_LOG": "true"},
    "neurond, tracing": {
        "NEUROND_TELEMETRY": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:20999",
    },
}
"""The server with other settings."""


class TraceSink(http.server.BaseHTTPRequestHandler):
    """Accepts exported traces and ignores them."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def prepare(folder: Path, inputs: int) -> str:
    """Write the network document and create a key in a new data directory, and return the key."""
    os.environ["NEUROND_DATA_DIR"] = str(folder)
    command = [str(Path(sys.executable).with_name("neurond")), "keys"]
    key = subprocess.run(
        [*command, "create", "bench"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.strip()
    layers = parameters(inputs)
    document = {
        "coefs_": [weights.tolist() for weights, _ in layers],
        "intercepts_": [biases.tolist() for _, biases in layers],
        "activation": "relu",
        "out_activation_": "softmax",
    }
    (folder / "document.json").write_text(json.dumps(document))
    return key


def report(label: str, contenders: list[Contender]) -> None:
    """Print the medians, and their ratios to neurond and to the bare ASGI application."""
    print(f"\n{label}")
    columns = ("req/s", "p50 ms", "p99 ms", "CPU us", "ours/it", "it/bare")
    print(" " * 24 + "".join(f"{head:>9}" for head in columns))
    medians = {
        contender.name: [
            statistics.median(column) for column in zip(*contender.rounds, strict=True)
        ]
        for contender in contenders
    }
    ours, bare = medians["neurond"], medians["bare ASGI"]
    for name, (rate, p50, p99, cpu) in medians.items():
        print(
            f"{name:24}{rate:9.0f}{p50:9.2f}{p99:9.2f}{cpu:9.0f}"
            f"{ours[0] / rate:9.2f}{cpu / bare[3]:9.2f}",
            flush=True,
        )
        for contender in contenders:
            if contender.name == name:
                contender.rounds.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument(
        "--ours", action="store_true", help="compare protocols and settings, without other servers"
    )
    parser.add_argument("--peer", action="append", default=[], help="NAME=VENV")
    parser.add_argument("--shape", nargs="*", default=["1x25", "32x25", "1x784"])
    parser.add_argument("--connections", nargs="*", type=int, default=[1, 16, 64])
    arguments = parser.parse_args()
    venvs = dict(part.split("=", 1) for part in arguments.peer)
    if arguments.ours:
        sink = http.server.ThreadingHTTPServer(("127.0.0.1", 20999), TraceSink)
        threading.Thread(target=sink.serve_forever, daemon=True).start()
    for shape in arguments.shape:
        count, inputs = map(int, shape.split("x"))
        assert inputs in WIDTHS
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "data"
            key = prepare(folder, inputs)
            candidates = contenders(folder, count, inputs, venvs, key)
            if arguments.ours:
                candidates = [
                    part for part in candidates if part.name in OURS or "neurond" in part.name
                ]
                for extra, environment in VARIANTS.items():
                    other = Path(name) / extra.replace(", ", "-").replace(" ", "-")
                    other_key = prepare(other, inputs)
                    candidates.append(variant(extra, other, other_key, environment))
            shared = [part for part in candidates[1:] if part.command == candidates[0].command]
            try:
                expected = b""
                for index, contender in enumerate(candidates):
                    if contender in shared:  # the same process, another protocol
                        contender.process, contender.port = (
                            candidates[0].process,
                            candidates[0].port,
                        )
                        wait_for_response(contender)
                        continue
                    start(contender, 21000 + index, expected)
                    if contender.name == "neurond" or contender.name in VARIANTS:
                        import_network(contender, folder)
                    body = wait_for_response(contender)
                    expected = expected or body
                for connections in arguments.connections:
                    for contender in candidates:
                        load(contender, connections, 1, Path(name))
                        contender.rounds.clear()
                    for _ in range(arguments.rounds):
                        for contender in candidates:
                            load(contender, connections, arguments.seconds, Path(name))
                    report(f"{shape}, {connections} connections", candidates)
            finally:
                for contender in candidates:
                    if contender not in shared:
                        stop(contender)


def import_network(contender: Contender, folder: Path) -> None:
    """Import the network when the server accepts connections."""
    base, headers = f"http://127.0.0.1:{contender.port}", contender.headers
    body = (folder / "document.json").read_bytes()

    def is_imported() -> bool:
        try:
            response = httpx.post(
                f"{base}/v1/networks/import?name=net", content=body, headers=headers
            )
        except httpx.TransportError:
            return False
        assert response.status_code == 201, response.text
        return True

    block_until(is_imported)


if __name__ == "__main__":
    main()
