"""Durations of the parts of one ``POST /v1/fit``, compared with training in this process.

    python -m benchmarks.fit [--rounds 9]

Starts a server on 127.0.0.1 and sends 1000 noisy digits as JSON, for a 25-32-16-10 network and 300
epochs. Each round also runs the same epochs in this process, with the engine and with plain NumPy.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime

import httpx

from benchmarks import peers
from benchmarks.training import Contender, neurond
from benchmarks.waiting import wait_until_ready
from benchmarks.workloads import Workload, workloads
from tests.acceptance.server import free_port

HIDDEN = [{"type": "dense", "units": units, "activation": "relu"} for units in (32, 16)]
LAYERS = [*HIDDEN, {"type": "dense", "units": 10, "activation": "softmax"}]
TRAINING = {
    "epochs": 300,
    "batch_size": 32,
    "optimizer": {"type": "sgd", "learning_rate": 0.5},
    "schedule": "constant",
    "early_stopping": None,
    "validation_fraction": 0.0,
    "standardize": False,
}


def call(client: httpx.Client, body: bytes) -> dict[str, float]:
    """Fit once, and return the duration of each part in milliseconds."""
    headers = {"Prefer": "wait=30", "Content-Type": "application/json"}
    sent = time.time()
    response = client.post("/v1/fit", content=body, headers=headers)
    received = time.time()
    assert response.status_code == 201, response.text
    job = response.json()["job"]
    created, started, finished = (
        datetime.fromisoformat(job[name]).timestamp()
        for name in ("created_at", "started_at", "finished_at")
    )
    training = job["progress"]["elapsed_seconds"]
    durations = {
        "read, check, store": created - sent,
        "to a worker": started - created,
        "train": training,
        "prepare, report": finished - started - training,
        "version, response": received - finished,
        "all": received - sent,
    }
    return {name: 1e3 * seconds for name, seconds in durations.items()}


def milliseconds_of(train: Contender, work: Workload) -> float:
    """Return the duration of a training in milliseconds."""
    started = time.perf_counter()
    train(work)
    return 1e3 * (time.perf_counter() - started)


def measure(client: httpx.Client, rounds: int) -> None:
    """Print the median durations."""
    work = workloads()[0]
    rows, targets = work.rows.inputs.tolist(), work.rows.targets.tolist()
    body = {"inputs": rows, "targets": targets, "network": {"layers": LAYERS}, "training": TRAINING}
    encoded = json.dumps(body).encode()
    for _ in range(3):
        call(client, encoded)  # warm-up
    calls, engine, numpy = [], [], []
    for _ in range(rounds):
        calls.append(call(client, encoded))
        engine.append(milliseconds_of(neurond, work))
        numpy.append(milliseconds_of(peers.plain_numpy, work))
    total = statistics.median(durations["all"] for durations in calls)
    print(f"{len(encoded) / 1e3:.0f} kB sent; medians of {rounds} rounds")
    for name in calls[0]:
        median_part = statistics.median(durations[name] for durations in calls)
        print(f"{name:20}{median_part:8.1f} ms{100 * median_part / total:6.0f} %")
    for name, durations in (("the engine alone", engine), ("plain NumPy alone", numpy)):
        median = statistics.median(durations)
        print(f"{name:20}{median:8.1f} ms  the call takes {total / median:.2f} times as long")


def main() -> None:
    """Start a server, measure, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "service", f"--port={port}", f"--data-dir={folder}/data"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client:
                wait_until_ready(client)
                measure(client, options.rounds)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
