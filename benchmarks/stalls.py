"""How long other requests wait while a server reads or writes a large body.

    python -m benchmarks.stalls [--rounds 3]

Starts a server on 127.0.0.1 and sends large requests one after the other. Another process requests
/healthz continuously. Prints the duration of each large request and the longest wait for /healthz
during it, as medians over the rounds.
"""

import argparse
import io
import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import httpx
import numpy as np

from benchmarks.waiting import wait_until_ready

PORT = 8766
URL = f"http://127.0.0.1:{PORT}"
NETWORKS = {"small": (25, 32, 10), "large": (784, 512, 256, 10)}
CLASSIFIED_ROWS = 10_000
UPLOADED_ROWS = 20_000
CSV_ROWS = 100_000


def probe(commands: Connection) -> None:
    """Request /healthz continuously; answer each command with the longest recent wait."""
    with socket.create_connection(("127.0.0.1", PORT)) as connection:
        longest = 0.0
        while True:
            started = time.perf_counter()
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            connection.recv(4096)
            longest = max(longest, time.perf_counter() - started)
            if commands.poll(0.002):
                if commands.recv() is None:
                    return
                commands.send(longest)
                longest = 0.0


def calls(client: httpx.Client) -> dict[str, Callable[[], httpx.Response]]:
    """Create the networks, and return the large requests by name."""
    generator = np.random.default_rng(0)

    def table(rows: int) -> list[list[float]]:
        return generator.random((rows, 25)).round(3).tolist()  # type: ignore[no-any-return]

    def post(path: str, body: bytes, kind: str = "application/json") -> httpx.Response:
        return client.post(path, content=body, headers={"content-type": kind})

    for name, (inputs, *units) in NETWORKS.items():
        layers = [{"type": "dense", "units": unit, "activation": "relu"} for unit in units]
        layers[-1]["activation"] = "softmax"
        body = {"name": name, "input_shape": [inputs], "layers": layers}
        client.post("/v1/networks", json=body).raise_for_status()
    classify = json.dumps({"inputs": table(CLASSIFIED_ROWS)}).encode()
    labels = [row % 10 for row in range(UPLOADED_ROWS)]
    upload = json.dumps({"inputs": table(UPLOADED_ROWS), "targets": labels}).encode()
    lines = [",".join(map(str, [*row, index % 10])) for index, row in enumerate(table(CSV_ROWS))]
    csv = "\n".join([",".join(f"c{column}" for column in range(26)), *lines]).encode()
    npz = io.BytesIO()
    np.savez(npz, inputs=generator.random((60_000, 100), "f4"), targets=np.arange(60_000) % 10)
    weights = client.get("/v1/networks/large/weights").content
    document = json.loads(weights)
    del document["sha256"]

    def put() -> httpx.Response:
        document["layers"][0]["biases"][0] += 1.0
        body = json.dumps(document).encode()
        return client.put("/v1/networks/large/weights", content=body)

    return {
        "nothing": lambda: (time.sleep(0.5), client.get("/healthz"))[1],
        f"classify {CLASSIFIED_ROWS} rows": lambda: post("/v1/networks/small/classify", classify),
        f"dataset, {len(upload) / 1e6:.0f} MB JSON": lambda: post("/v1/datasets", upload),
        f"dataset, {len(csv) / 1e6:.0f} MB CSV": lambda: post("/v1/datasets", csv, "text/csv"),
        f"dataset, {len(npz.getvalue()) / 1e6:.0f} MB npz": lambda: post(
            "/v1/datasets", npz.getvalue(), "application/x-npz"
        ),
        f"weights out, {len(weights) / 1e6:.0f} MB JSON": lambda: client.get(
            "/v1/networks/large/weights"
        ),
        f"weights in, {len(weights) / 1e6:.0f} MB JSON": put,
    }


def measure(rounds: int) -> None:
    """Send the requests, and print the durations."""
    with httpx.Client(base_url=URL, timeout=60.0) as client:
        wait_until_ready(client)
        commands, worker_end = multiprocessing.Pipe()
        prober = multiprocessing.Process(target=probe, args=(worker_end,), daemon=True)
        prober.start()
        print(f"{'':28} {'took':>8} {'/healthz waited':>16}")
        for name, call in calls(client).items():
            durations, waits = [], []
            for _ in range(rounds):
                commands.send("begin")
                commands.recv()
                started = time.perf_counter()
                response = call()
                durations.append(1e3 * (time.perf_counter() - started))
                response.raise_for_status()
                commands.send("end")
                waits.append(1e3 * commands.recv())
            duration, wait = statistics.median(durations), statistics.median(waits)
            print(f"{name:28} {duration:5.0f} ms {wait:13.1f} ms")
        commands.send(None)
        prober.join()


def main() -> None:
    """Start a server, measure, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "service", "--port", str(PORT), "--data-dir", folder]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            measure(options.rounds)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
