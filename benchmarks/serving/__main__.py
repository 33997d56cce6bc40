"""Serving beside its peers: requests per second, latency and CPU time of the same rows.

    python -m benchmarks.serving --rounds 3
    python -m benchmarks.serving --peer mlserver=VENV --peer bentoml=VENV ...

Each contender is one process on one core, the load comes from `wrk` on another; contenders take
turns, and each figure is the median over the rounds. Peers are served from virtual environments of
their own, named on the command line; without one a peer is left out.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.serving.network import WIDTHS, parameters

ROOT = Path(__file__).parents[2]
HERTZ = os.sysconf("SC_CLK_TCK")
LENGTH = "Inference-Header-Content-Length"


@dataclass
class Contender:
    """A server, and the request that asks it for rows."""

    name: str
    command: list[str]
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    rounds: list[tuple[float, float, float, float]] = field(default_factory=list)


def rows_of(count: int, inputs: int) -> Any:
    return np.random.default_rng(1).random((count, inputs)).astype(np.float32)


def json_headers() -> dict[str, str]:
    return {"Content-Type": "application/json"}


def contenders(
    folder: Path, count: int, inputs: int, venvs: dict[str, str], key: str
) -> list[Contender]:
    """Return all contenders for rows of one shape."""
    rows = rows_of(count, inputs)
    lists = rows.tolist()
    native = json.dumps({"inputs": lists}).encode()
    ours = [sys.executable, "-m", "service", "--port={port}", f"--data-dir={folder}", "--workers=1"]
    auth = {"Authorization": f"Bearer {key}"}
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "input",
                    "shape": list(rows.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": rows.nbytes},
                }
            ],
            "outputs": [{"name": "output", "parameters": {"binary_data": True}}],
        }
    ).encode()
    uvicorn = [sys.executable, "-m", "uvicorn", "--port={port}", "--log-level=warning"]
    quiet = ["--no-access-log"]
    found = [
        Contender("neurond", ours, "/v1/networks/net/classify", native, json_headers() | auth),
        Contender(
            "neurond, binary",
            ours,
            "/v2/models/net/infer",
            head + rows.tobytes(),
            {LENGTH: str(len(head))} | auth,
        ),
        Contender("bare ASGI", [*uvicorn, *quiet, "benchmarks.serving.bare:app"], "/", native),
        Contender(
            "FastAPI + NumPy",
            [*uvicorn, *quiet, "benchmarks.serving.idiomatic:app"],
            "/numpy",
            native,
            json_headers(),
        ),
    ]
    if "sklearn" in venvs:
        python = str(Path(venvs["sklearn"], "bin", "python"))
        found.append(
            Contender(
                "FastAPI + scikit-learn",
                [python, *uvicorn[1:], *quiet, "benchmarks.serving.idiomatic:app"],
                "/sklearn",
                native,
                json_headers(),
                {"PEER_SKLEARN": "1"},
            )
        )
    found += peers(folder, rows, venvs)
    for contender in found:
        contender.environment |= {"PEER_INPUTS": str(inputs)}
    return found


def peers(folder: Path, rows: Any, venvs: dict[str, str]) -> list[Contender]:
    """Return the peers that have an environment."""
    lists = rows.tolist()
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP32"}
    infer = json.dumps({"inputs": [{**tensor, "data": rows.ravel().tolist()}]}).encode()
    instances = json.dumps({"instances": lists}).encode()
    x = json.dumps({"x": lists}).encode()
    found = []

    def peer(name: str, venv: str, command: list[str], path: str, body: bytes, **env: str) -> None:
        if venv in venvs:
            program = str(Path(venvs[venv], "bin", command[0]))
            found.append(
                Contender(name, [program, *command[1:]], path, body, json_headers(), dict(env))
            )

    for name, settings in (("MLServer", {}), ("MLServer, tuned", TUNED)):
        place = folder.parent / name.replace(", ", "-").lower()
        (place / "net").mkdir(parents=True, exist_ok=True)
        (place / "settings.json").write_text(json.dumps(settings))
        implementation = "benchmarks.serving.mlserver_runtime.Network"
        settings_of_model = {"name": "net", "implementation": implementation}
        (place / "net" / "model-settings.json").write_text(json.dumps(settings_of_model))
        peer(
            name,
            "mlserver",
            ["mlserver", "start", str(place)],
            "/v2/models/net/infer",
            infer,
            MLSERVER_HOST="127.0.0.1",
            MLSERVER_HTTP_PORT="{port}",
            MLSERVER_GRPC_PORT="{port1}",
            MLSERVER_METRICS_PORT="{port2}",
        )
    peer(
        "KServe V1",
        "kserve",
        ["python", "-m", "benchmarks.serving.kserve_server", "--http_port={port}"],
        "/v1/models/mlp:predict",
        instances,
    )
    if "mlflow" in venvs:
        model = folder.parent / "mlflow"
        python = str(Path(venvs["mlflow"], "bin", "python"))
        subprocess.run(
            [python, "-m", "benchmarks.serving.mlflow_model", str(model)],
            check=True,
            capture_output=True,
            cwd=ROOT,
            env=dict(os.environ) | {"PEER_INPUTS": str(rows.shape[1])},
        )
        serve = ["models", "serve", "-m", str(model), "--env-manager", "local", "-w", "1"]
        peer(
            "MLflow",
            "mlflow",
            ["mlflow", *serve, "-h", "127.0.0.1", "-p", "{port}"],
            "/invocations",
            json.dumps({"inputs": lists}).encode(),
            PATH=f"{venvs['mlflow']}/bin:{os.environ['PATH']}",
        )
    peer(
        "BentoML",
        "bentoml",
        ["bentoml", "serve", "benchmarks.serving.bentoml_service:Network", "--port={port}"],
        "/predict",
        x,
        BENTOML_DO_NOT_TRACK="True",
    )
    peer(
        "LitServe",
        "litserve",
        ["python", "-m", "benchmarks.serving.litserve_api", "{port}"],
        "/predict",
        x,
    )
    return found


TUNED = {"debug": False, "parallel_workers": 0, "metrics_endpoint": None, "gzip_enabled": False}


def prepare(folder: Path, inputs: int) -> str:
    """Put the network and a key into a new data folder, and return the key."""
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


def start(contender: Contender, port: int, answer: bytes) -> None:
    """Start a contender on a core of its own, and wait until it answers rightly."""
    ports = {"{port}": port, "{port1}": port + 1000, "{port2}": port + 2000}

    def filled(text: str) -> str:
        for name, number in ports.items():
            text = text.replace(name, str(number))
        return text

    environment = dict(os.environ) | {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "BARE_ANSWER": answer.hex(),
    }
    environment |= {name: filled(value) for name, value in contender.environment.items()}
    contender.port = port
    contender.process = subprocess.Popen(
        ["taskset", "-c", "0", *map(filled, contender.command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def answers(contender: Contender, seconds: float = 60.0) -> bytes:
    """Return the answer to the request, once the contender gives one."""
    deadline = time.monotonic() + seconds
    url = f"http://127.0.0.1:{contender.port}{contender.path}"
    while time.monotonic() < deadline:
        try:
            told = httpx.post(url, content=contender.body, headers=contender.headers, timeout=5.0)
            if told.status_code == 200:
                return told.content
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    problem = f"{contender.name} did not answer"
    raise TimeoutError(problem)


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            for child in (task / "children").read_text().split():
                found += family(int(child))
        except OSError:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants."""
    total = 0
    for member in family(pid):
        try:
            text = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(text[11]) + int(text[12])
    return total / HERTZ


def load(contender: Contender, connections: int, seconds: int, folder: Path) -> None:
    """Load a contender with wrk, and note requests/s, p50 and p99 in ms, CPU us per request."""
    assert contender.process is not None
    script = folder / "request.lua"
    headers = "\n".join(
        f'wrk.headers["{name}"] = "{value}"' for name, value in contender.headers.items()
    )
    body = folder / "body.bin"
    body.write_bytes(contender.body)
    script.write_text(
        f'wrk.method = "POST"\nlocal file = io.open("{body}", "rb")\n'
        f'wrk.body = file:read("*a")\nfile:close()\n{headers}\n'
        "done = function(summary, latency, requests)\n"
        '  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, '
        "summary.duration, latency:percentile(50), latency:percentile(99), "
        "summary.errors.status + summary.errors.read + summary.errors.timeout))\nend\n"
    )
    before = cpu_seconds(contender.process.pid)
    told = subprocess.run(
        [
            "taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
            "-s", str(script), f"http://127.0.0.1:{contender.port}{contender.path}",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout  # fmt: skip
    spent = cpu_seconds(contender.process.pid) - before
    match = re.search(r"RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)", told)
    assert match is not None, told
    requests, duration = int(match[1]), int(match[2]) / 1e6
    assert not int(match[5]), f"{contender.name}: {match[5]} requests failed"
    contender.rounds.append(
        (
            requests / duration,
            float(match[3]) / 1000,
            float(match[4]) / 1000,
            spent / requests * 1e6,
        )
    )


def stop(contender: Contender) -> None:
    """End a contender with all its processes."""
    if contender.process is None:
        return
    members = family(contender.process.pid)
    for name in (signal.SIGINT, signal.SIGKILL):
        for member in members:
            try:
                os.kill(member, name)
            except ProcessLookupError:
                continue
        time.sleep(1.0 if name == signal.SIGINT else 0.0)
    contender.process.wait()


def report(label: str, found: list[Contender]) -> None:
    """Print the medians, and what they are to ours and to the floor."""
    print(f"\n{label}")
    heads = ("req/s", "p50 ms", "p99 ms", "CPU us", "ours/it", "it/bare")
    print(" " * 24 + "".join(f"{head:>9}" for head in heads))
    medians = {
        contender.name: [
            statistics.median(column) for column in zip(*contender.rounds, strict=True)
        ]
        for contender in found
    }
    ours, bare = medians["neurond"], medians["bare ASGI"]
    for name, (rate, p50, p99, cpu) in medians.items():
        print(
            f"{name:24}{rate:9.0f}{p50:9.2f}{p99:9.2f}{cpu:9.0f}"
            f"{ours[0] / rate:9.2f}{cpu / bare[3]:9.2f}",
            flush=True,
        )
        for contender in found:
            if contender.name == name:
                contender.rounds.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--peer", action="append", default=[], help="NAME=VENV")
    parser.add_argument("--shape", nargs="*", default=["1x25", "32x25", "1x784"])
    parser.add_argument("--connections", nargs="*", type=int, default=[1, 16, 64])
    arguments = parser.parse_args()
    venvs = dict(part.split("=", 1) for part in arguments.peer)
    for shape in arguments.shape:
        count, inputs = map(int, shape.split("x"))
        assert inputs in WIDTHS
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "data"
            key = prepare(folder, inputs)
            found = contenders(folder, count, inputs, venvs, key)
            binary = next(part for part in found if part.name == "neurond, binary")
            try:
                answer = b""
                for at, contender in enumerate(found):
                    if contender is binary:  # the same process, asked otherwise
                        contender.process, contender.port = found[0].process, found[0].port
                        answers(contender)
                        continue
                    start(contender, 21000 + at, answer)
                    if contender.name == "neurond":
                        bring_in(contender, folder, key)
                    told = answers(contender)
                    answer = answer or told
                for connections in arguments.connections:
                    for contender in found:
                        load(contender, connections, 1, Path(name))
                        contender.rounds.clear()
                    for _ in range(arguments.rounds):
                        for contender in found:
                            load(contender, connections, arguments.seconds, Path(name))
                    report(f"{shape}, {connections} connections", found)
            finally:
                for contender in found:
                    if contender is not binary:
                        stop(contender)


def bring_in(contender: Contender, folder: Path, key: str) -> None:
    """Import the network once the server is up."""
    base = f"http://127.0.0.1:{contender.port}"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = (folder / "document.json").read_bytes()
    for _ in range(200):
        try:
            told = httpx.post(f"{base}/v1/networks/import?name=net", content=body, headers=headers)
            assert told.status_code == 201, told.text
            return
        except httpx.TransportError:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
