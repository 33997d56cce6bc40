"""One call of ``POST /v1/fit``: data in, served network out; where its time goes, and beside what.

    python -m benchmarks.fit [--rounds 9]

Starts a server of its own on 127.0.0.1 and sends 1000 noisy digits as JSON; 25-32-16-10, 300
epochs. Beside it, in turn: the same epochs by the engine alone in this process, and by plain NumPy.
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
    """Fit once, and return the milliseconds of each part."""
    headers = {"Prefer": "wait=30", "Content-Type": "application/json"}
    sent = time.time()
    answer = client.post("/v1/fit", content=body, headers=headers)
    answered = time.time()
    assert answer.status_code == 201, answer.text
    job = answer.json()["job"]
    created, started, finished = (
        datetime.fromisoformat(job[name]).timestamp()
        for name in ("created_at", "started_at", "finished_at")
    )
    training = job["progress"]["elapsed_seconds"]
    parts = {
        "read, check, store": created - sent,
        "to a worker": started - created,
        "train": training,
        "prepare, report": finished - started - training,
        "version, answer": answered - finished,
        "all": answered - sent,
    }
    return {name: 1e3 * seconds for name, seconds in parts.items()}


def clocked(train: Contender, work: Workload) -> float:
    """Return the milliseconds that a training takes."""
    begun = time.perf_counter()
    train(work)
    return 1e3 * (time.perf_counter() - begun)


def measure(client: httpx.Client, rounds: int) -> None:
    """Print the medians."""
    work = workloads()[0]
    rows, targets = work.rows.inputs.tolist(), work.rows.targets.tolist()
    body = {"inputs": rows, "targets": targets, "network": {"layers": LAYERS}, "training": TRAINING}
    encoded = json.dumps(body).encode()
    for _ in range(3):
        call(client, encoded)  # warm
    found, engine, plain = [], [], []
    for _ in range(rounds):
        found.append(call(client, encoded))
        engine.append(clocked(neurond, work))
        plain.append(clocked(peers.plain_numpy, work))
    whole = statistics.median(parts["all"] for parts in found)
    print(f"{len(encoded) / 1e3:.0f} kB sent; medians of {rounds} rounds")
    for name in found[0]:
        part = statistics.median(parts[name] for parts in found)
        print(f"{name:20}{part:8.1f} ms{100 * part / whole:6.0f} %")
    for name, taken in (("the engine alone", engine), ("plain NumPy alone", plain)):
        median = statistics.median(taken)
        print(f"{name:20}{median:8.1f} ms  the call takes {whole / median:.2f} times as long")


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
                for _ in range(100):
                    try:
                        client.get("/readyz").raise_for_status()
                        break
                    except httpx.HTTPError:
                        time.sleep(0.1)
                measure(client, options.rounds)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
