"""The contenders: servers, and the requests that are sent to them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]


LENGTH = "Inference-Header-Content-Length"
VERTEX_ROUTE = "/vertex/predict"


@dataclass
class Contender:
    """A server, and the request with rows that is sent to it."""

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
    """Return all contenders, with requests of `count` rows of `inputs` numbers."""
    rows = rows_of(count, inputs)
    rows_as_lists = rows.tolist()
    native = json.dumps({"inputs": rows_as_lists}).encode()
    ours = [sys.executable, "-m", "service", "--port={port}", f"--data-dir={folder}", "--workers=1"]
    auth = {"Authorization": f"Bearer {key}"}
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32"}
    header = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": rows.nbytes}}],
            "outputs": [{"name": "output", "parameters": {"binary_data": True}}],
        }
    ).encode()
    infer = json.dumps({"inputs": [{**tensor, "data": rows.ravel().tolist()}]}).encode()
    instances = json.dumps({"instances": rows_as_lists}).encode()
    records = json.dumps({"dataframe_split": {"data": rows_as_lists}}).encode()
    uvicorn = [sys.executable, "-m", "uvicorn", "--port={port}", "--log-level=warning"]
    quiet = ["--no-access-log"]
    result = [
        Contender("neurond", ours, "/v1/networks/net/classify", native, json_headers() | auth),
        Contender(
            "neurond, binary",
            ours,
            "/v2/models/net/infer",
            header + rows.tobytes(),
            {LENGTH: str(len(header))} | auth,
        ),
        *(
            Contender(f"neurond, {name}", ours, path, body, json_headers() | auth)
            for name, path, body in (
                ("Open Inference", "/v2/models/net/infer", infer),
                ("KServe V1", "/v1/models/net:predict", instances),
                ("SageMaker", "/models/net/invoke", instances),
                ("MLflow", "/invocations", records),
                ("Vertex AI", VERTEX_ROUTE, instances),
                ("Azure ML", "/score", json.dumps({"input_data": rows_as_lists}).encode()),
            )
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
        result.append(
            Contender(
                "FastAPI + scikit-learn",
                [python, *uvicorn[1:], *quiet, "benchmarks.serving.idiomatic:app"],
                "/sklearn",
                native,
                json_headers(),
                {"PEER_SKLEARN": "1"},
            )
        )
    result += peers(folder, rows, venvs)
    for contender in result:
        contender.environment |= {"PEER_INPUTS": str(inputs), "AIP_PREDICT_ROUTE": VERTEX_ROUTE}
    return result


def variant(name: str, folder: Path, key: str, environment: dict[str, str]) -> Contender:
    """Return the server with other settings, and a request for one row of 25 numbers."""
    body = json.dumps({"inputs": rows_of(1, 25).tolist()}).encode()
    command = [sys.executable, "-m", "service", "--port={port}", f"--data-dir={folder}"]
    headers = json_headers() | {"Authorization": f"Bearer {key}"}
    path = "/v1/networks/net/classify"
    return Contender(name, command, path, body, headers, environment)


def peers(folder: Path, rows: Any, venvs: dict[str, str]) -> list[Contender]:
    """Return the peers with a virtual environment."""
    rows_as_lists = rows.tolist()
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP32"}
    infer = json.dumps({"inputs": [{**tensor, "data": rows.ravel().tolist()}]}).encode()
    instances = json.dumps({"instances": rows_as_lists}).encode()
    bento_body = json.dumps({"x": rows_as_lists}).encode()
    result = []

    def peer(name: str, venv: str, command: list[str], path: str, body: bytes, **env: str) -> None:
        if venv in venvs:
            program = str(Path(venvs[venv], "bin", command[0]))
            result.append(
                Contender(name, [program, *command[1:]], path, body, json_headers(), dict(env))
            )

    for name, settings in (("MLServer", {}), ("MLServer, tuned", TUNED)):
        settings_folder = folder.parent / name.replace(", ", "-").lower()
        (settings_folder / "net").mkdir(parents=True, exist_ok=True)
        (settings_folder / "settings.json").write_text(json.dumps(settings))
        implementation = "benchmarks.serving.mlserver_runtime.Network"
        settings_of_model = {"name": "net", "implementation": implementation}
        (settings_folder / "net" / "model-settings.json").write_text(json.dumps(settings_of_model))
        peer(
            name,
            "mlserver",
            ["mlserver", "start", str(settings_folder)],
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
            json.dumps({"inputs": rows_as_lists}).encode(),
            PATH=f"{venvs['mlflow']}/bin:{os.environ['PATH']}",
        )
    peer(
        "BentoML",
        "bentoml",
        ["bentoml", "serve", "benchmarks.serving.bentoml_service:Network", "--port={port}"],
        "/predict",
        bento_body,
        BENTOML_DO_NOT_TRACK="True",
    )
    peer(
        "LitServe",
        "litserve",
        ["python", "-m", "benchmarks.serving.litserve_api", "{port}"],
        "/predict",
        bento_body,
    )
    return result


TUNED = {"debug": False, "parallel_workers": 0, "metrics_endpoint": None, "gzip_enabled": False}
