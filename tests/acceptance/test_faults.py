"""Kills, shutdowns and failed starts of real server processes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.server import Server, is_alive
from tests.waiting import block_until

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]
LAYERS = [
    {"type": "dense", "units": 32, "activation": "relu"},
    {"type": "dropout", "rate": 0.1},
    {"type": "dense", "units": 10, "activation": "softmax"},
]
TRAINING: dict[str, Any] = {
    "epochs": 3000,
    "seed": 5,
    "optimizer": {"type": "adam", "learning_rate": 0.003},
    "early_stopping": {"patience": 100_000},
}


def submit(server: Server, *, name: str = "net", **training: Any) -> str:
    body = {"name": name, "input_shape": [25], "layers": LAYERS, "seed": 3}
    assert server.client.post("/v1/networks", json=body).status_code in {201, 409}
    data = {"name": "digits", "builtin": "digits", "samples": 600, "seed": 2}
    assert server.client.post("/v1/datasets", json=data).status_code in {201, 409}
    job = {"network": name, "dataset": "digits", "training": TRAINING | training}
    response = server.client.post("/v1/jobs", json=job)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def status(server: Server, job: str) -> str:
    return str(server.client.get(f"/v1/jobs/{job}").json()["status"])


def digest(server: Server, name: str) -> str:
    version = server.client.get(f"/v1/networks/{name}/versions/latest").json()
    return str(version["weights_sha256"])


def test_an_interrupted_training_is_bit_identical_to_an_uninterrupted_one(serve: Serve) -> None:
    server = serve(workers=1)
    reference = submit(server, name="reference")
    assert server.wait_until_finished(reference)["status"] == "succeeded"
    job = submit(server, name="killed")

    server.wait_for_status(job, "running", epoch=600)
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for_status(job, "running", epoch=1200)
    workers = server.worker_pids()
    server.kill()
    block_until(lambda: not any(map(is_alive, workers)), timeout=0.5)
    server.start()
    server.wait_for_status(job, "running", "succeeded", epoch=1800)
    assert server.client.post(f"/v1/jobs/{job}/pause").status_code in {200, 409}
    was_paused = server.wait_for_status(job, "paused", "succeeded")["status"] == "paused"
    server.client.post(f"/v1/jobs/{job}/resume")
    ended = server.wait_until_finished(job)

    assert ended["status"] == "succeeded", ended
    assert ended["attempt"] == 3 + was_paused
    assert digest(server, "killed") == digest(server, "reference")
    history = server.client.get(f"/v1/jobs/{job}/history?max_points=100000").json()
    assert history["epoch"] == list(range(1, 3001))
    assert list((server.folder / "blobs" / "tmp").iterdir()) == []


def test_a_job_fails_with_the_signal_after_three_killed_workers(serve: Serve) -> None:
    server = serve(workers=1)
    job = submit(server, epochs=100_000)

    for _ in range(3):
        server.wait_for_status(job, "running")
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        block_until(lambda: status(server, job) != "running")
    ended = server.wait_until_finished(job)

    assert (ended["status"], ended["stop_reason"]) == ("failed", "interrupted")
    assert "signal 9" in ended["error"]["detail"]
    assert server.wait_until_finished(submit(server, epochs=5))["status"] == "succeeded"


def test_killed_idle_workers_are_replaced_before_the_next_job(serve: Serve) -> None:
    server = serve(workers=2)
    killed = server.worker_pids()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    block_until(lambda: len(set(server.worker_pids()) - set(killed)) == 2)

    ended = server.wait_until_finished(submit(server, epochs=5))

    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)


def test_a_cancel_in_a_long_epoch_ends_the_worker_within_two_seconds(serve: Serve) -> None:
    server = serve(workers=1)
    rows = {"name": "wide", "builtin": "digits", "samples": 200_000}
    assert server.client.post("/v1/datasets", json=rows).status_code == 201
    layers = [{"type": "dense", "units": 1024, "activation": "relu"}] * 2 + [LAYERS[-1]]
    body = {"name": "wide", "input_shape": [25], "layers": layers}
    server.client.post("/v1/networks", json=body)
    job = server.client.post("/v1/jobs", json={"network": "wide", "dataset": "wide"}).json()["id"]
    server.wait_for_status(job, "running")
    worker = server.worker_pids()[0]
    time.sleep(0.5)  # into the first epoch

    begun = time.monotonic()
    server.client.post(f"/v1/jobs/{job}/cancel")
    ended = server.wait_until_finished(job)
    block_until(lambda: not is_alive(worker))

    assert ended["status"] == "cancelled"
    assert time.monotonic() - begun < 2.0


class Load:
    """Two clients that classify until the server stops listening, and one that waits for a job."""

    def __init__(self, server: Server, job: str) -> None:
        self.statuses: list[int] = []
        self.broken: list[httpx.TransportError] = []
        targets = [self._classify, self._classify, self._wait]
        self._server, self._job = server, job
        self._threads = [threading.Thread(target=target) for target in targets]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _classify(self) -> None:
        body = {"inputs": [[0.5] * 25]}
        with httpx.Client(base_url=self._server.url, timeout=10.0) as client:
            while True:
                try:
                    response = client.post("/v1/networks/net/classify", json=body)
                except httpx.ConnectError:
                    return  # the server stopped listening before it accepted the request
                except httpx.TransportError as error:
                    self.broken.append(error)
                    return
                self.statuses.append(response.status_code)

    def _wait(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=30.0) as client:
            self.statuses.append(client.get(f"/v1/jobs/{self._job}?wait=25").status_code)


def test_a_shutdown_completes_requests_and_requeues_the_job(serve: Serve) -> None:
    server = serve(workers=1, NEUROND_DRAIN_SECONDS="0.3")
    job = submit(server, epochs=100_000)
    server.wait_for_status(job, "running", epoch=10)
    load = Load(server, job)
    load.start()
    block_until(lambda: len(load.statuses) > 100)

    begun = time.monotonic()
    status = server.stop()
    seconds = time.monotonic() - begun
    load.join()

    assert status == 0
    assert seconds < 10.0
    assert set(load.statuses) == {200}
    assert load.broken == []
    server.start()
    resumed = server.wait_for_status(job, "running")
    assert resumed["attempt"] == 2
    assert resumed["progress"]["epoch"] >= 10


def test_a_stream_resumes_across_restarts_without_gaps_or_repeats(serve: Serve) -> None:
    server = serve(workers=1)
    job = submit(server, epochs=1500)
    event_ids: list[int] = []

    def follow(count: int) -> None:
        headers = {"Last-Event-ID": str(event_ids[-1])} if event_ids else {}
        url = f"/v1/jobs/{job}/events"
        with server.client.stream("GET", url, headers=headers) as stream:
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    event_ids.append(int(line[4:]))
                    if len(event_ids) >= count:
                        return

    follow(300)
    server.stop()
    server.start()
    follow(600)
    server.kill()
    server.start()
    follow(10**9)

    assert event_ids == list(range(1, len(event_ids) + 1))
    events = server.client.get(
        f"/v1/jobs/{job}/events", headers={"Last-Event-ID": str(event_ids[-1])}
    )
    assert events.status_code == 204


def run_server(options: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "service", *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_failed_start_prints_one_line_and_exits_with_status_two(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    file = tmp_path / "file"
    file.write_text("")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "neurond.sqlite3").write_bytes(b"not a database" * 500)
    lost = tmp_path / "lost"
    (lost / "blobs" / "ab").mkdir(parents=True)
    (lost / "blobs" / "ab" / "cd").write_bytes(b"weights")

    reasons = {
        (f"--port={server.port}", f"--data-dir={tmp_path / 'other'}"): "cannot listen",
        ("--port=0", f"--data-dir={server.folder}"): "in use by another server",
        ("--port=0", f"--data-dir={file / 'below'}"): "cannot be written to",
        ("--port=0", f"--data-dir={damaged}"): "neurond restore",
        ("--port=0", f"--data-dir={lost}"): "missing or empty",
        ("--port=99999",): "port",
    }

    with ThreadPoolExecutor(2) as pool:
        completed = list(pool.map(run_server, reasons))

    for process, reason in zip(completed, reasons.values(), strict=True):
        assert process.returncode == 2, process.stderr
        assert reason in process.stderr
        assert len(process.stderr.strip().splitlines()) == 1, process.stderr
    assert (lost / "blobs" / "ab" / "cd").exists()


def test_a_server_starts_after_its_first_start_was_killed(
    tmp_path: Path,
) -> None:
    def starts_after_a_kill(delay: float) -> None:
        server = Server(tmp_path / f"early-{delay}")
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "service", *server.options()], stderr=subprocess.DEVNULL
        )
        time.sleep(delay)  # the moment of the kill
        process.kill()
        process.wait()
        server.start()
        assert server.client.get("/v1/networks").status_code == 200
        assert server.stop() == 0
        server.client.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(starts_after_a_kill, (0.3, 0.6, 0.8, 1.0, 1.2, 1.4)))


BROKEN = """
import sys
from service.infrastructure.workers import pool
pool.WORKER_COMMAND = ("-c", "raise SystemExit(3)")
pool.REPLACEMENT_SECONDS = 0.0
from service.cli.main import neurond
neurond()
"""


class BrokenServer(Server):
    """A server whose workers exit at once."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", BROKEN, "serve"]

    def _is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/healthz").status_code == 200
        return False


def test_a_server_whose_workers_cannot_start_is_not_ready(tmp_path: Path) -> None:
    server = BrokenServer(tmp_path / "data", workers=2).start()
    try:
        for _ in range(5):
            response = server.client.get("/readyz")
            assert response.status_code == 503
            assert "worker" in response.json()["detail"]
            assert "\nneurond_workers 0.0" in server.client.get("/metrics").text
            time.sleep(0.3)
    finally:
        server.client.close()
        server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 48 MiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603
        pytest.skip("mounting a file system requires root")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=False)  # noqa: S603, S607


def test_a_full_disk_recovers_through_the_api_alone(small_disk: Path) -> None:
    server = Server(small_disk / "data", workers=1).start()
    client = server.client
    try:
        job = submit(server, epochs=100_000)
        block_until(lambda: status(server, job) == "running", timeout=20)
        names: list[str] = []
        data = {"builtin": "digits", "samples": 8000}  # 1.7 MB
        while client.post("/v1/datasets", json={**data, "seed": len(names)}).status_code == 201:
            names.append(client.get("/v1/datasets?limit=1").json()["data"][0]["id"])
        (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free))
        assert client.post("/v1/datasets", json=data).status_code == 507

        row = {"inputs": [[0.5] * 25]}
        assert client.post("/v1/networks/net/predict", json=row).status_code == 200
        assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200
        for name in names:
            assert client.delete(f"/v1/datasets/{name}").status_code == 204, name

        created: list[int] = []

        def has_room() -> bool:
            new = {**data, "seed": 1000 + len(created)}  # not one that is stored
            if client.post("/v1/datasets", json=new).status_code == 201:
                created.append(1)
            return len(created) == len(names)

        block_until(has_room, timeout=60)
        assert server.wait_until_finished(job)["status"] == "cancelled"
        assert client.get("/readyz").status_code == 200
    finally:
        client.close()
        server.stop()


class FewFiles(Server):
    """A server with limits of open files: 300, and ``hard``."""

    hard = 0

    def command(self) -> list[str]:
        limits = f"ulimit -Sn 300; ulimit -Hn {self.hard}; exec"
        return ["/bin/sh", "-c", f'{limits} "$@"', "sh", *super().command()]


@pytest.mark.parametrize(("hard", "connections"), [(4000, 3000), (600, 344)])
def test_the_limit_of_open_files_is_raised_for_connections(
    tmp_path: Path, hard: int, connections: int
) -> None:
    environment = {"NEUROND_MAX_CONNECTIONS": "3000"}
    server = FewFiles(tmp_path / "data", workers=1, environment=environment)
    server.hard = hard
    server.start()
    assert server.process is not None
    try:
        limits = Path(f"/proc/{server.process.pid}/limits").read_text().splitlines()
        line = next(line for line in limits if line.startswith("Max open files"))
        assert int(line.split()[3]) == min(hard, 3256)
        log = (tmp_path / "data.log").read_text()
        assert (f"allows only {connections}" in log) is (connections < 3000)
    finally:
        server.client.close()
        server.stop()
