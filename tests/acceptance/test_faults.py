"""Real processes, killed for real."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.server import Server, alive

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
    answer = server.client.post("/v1/jobs", json=job)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def digest(server: Server, name: str) -> str:
    version = server.client.get(f"/v1/networks/{name}/versions/latest").json()
    return str(version["weights_sha256"])


def test_a_training_ends_in_the_same_bits_however_often_everything_is_killed(serve: Serve) -> None:
    server = serve(workers=1)
    twin = submit(server, name="twin")
    assert server.ended(twin)["status"] == "succeeded"
    job = submit(server, name="killed")

    server.reaches(job, "running", epoch=600)
    os.kill(server.workers_alive()[0], signal.SIGKILL)
    server.reaches(job, "running", epoch=1200)
    workers = server.workers_alive()
    server.kill()
    time.sleep(0.5)
    orphans = [pid for pid in workers if alive(pid)]
    server.start()
    server.reaches(job, "running", "succeeded", epoch=1800)
    assert server.client.post(f"/v1/jobs/{job}/pause").status_code in {200, 409}
    server.reaches(job, "paused", "succeeded")
    server.client.post(f"/v1/jobs/{job}/resume")
    ended = server.ended(job)

    assert orphans == []
    assert ended["status"] == "succeeded", ended
    assert ended["attempt"] == 3
    assert digest(server, "killed") == digest(server, "twin")
    history = server.client.get(f"/v1/jobs/{job}/history?max_points=100000").json()
    assert history["epoch"] == list(range(1, 3001))
    assert list((server.folder / "blobs" / "tmp").iterdir()) == []


def test_a_job_whose_workers_are_lost_three_times_fails_and_says_so(serve: Serve) -> None:
    server = serve(workers=1)
    job = submit(server, epochs=100_000)

    for _ in range(3):
        server.reaches(job, "running")
        for pid in server.workers_alive():
            os.kill(pid, signal.SIGKILL)
        while server.client.get(f"/v1/jobs/{job}").json()["status"] == "running":
            time.sleep(0.02)
    ended = server.ended(job)

    assert (ended["status"], ended["stop_reason"]) == ("failed", "interrupted")
    assert "signal 9" in ended["error"]["detail"]
    assert server.ended(submit(server, epochs=5))["status"] == "succeeded"


def test_killed_idle_workers_are_replaced_and_cost_no_job_anything(serve: Serve) -> None:
    server = serve(workers=2)
    for pid in server.workers_alive():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)

    ended = server.ended(submit(server, epochs=5))

    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)


def test_cancel_frees_the_cpu_within_a_second_even_in_a_long_epoch(serve: Serve) -> None:
    server = serve(workers=1)
    rows = {"name": "wide", "builtin": "digits", "samples": 200_000}
    assert server.client.post("/v1/datasets", json=rows).status_code == 201
    layers = [{"type": "dense", "units": 1024, "activation": "relu"}] * 2 + [LAYERS[-1]]
    body = {"name": "wide", "input_shape": [25], "layers": layers}
    server.client.post("/v1/networks", json=body)
    job = server.client.post("/v1/jobs", json={"network": "wide", "dataset": "wide"}).json()["id"]
    server.reaches(job, "running")
    worker = server.workers_alive()[0]
    time.sleep(0.5)

    begun = time.monotonic()
    server.client.post(f"/v1/jobs/{job}/cancel")
    ended = server.ended(job)
    while alive(worker):
        time.sleep(0.01)

    assert ended["status"] == "cancelled"
    assert time.monotonic() - begun < 2.0


class Load:
    """Clients that classify until the server no longer listens, and one that waits for a job."""

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
                    answer = client.post("/v1/networks/net/classify", json=body)
                except httpx.ConnectError:
                    return  # it no longer listens: nothing was accepted
                except httpx.TransportError as error:
                    self.broken.append(error)
                    return
                self.statuses.append(answer.status_code)

    def _wait(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=30.0) as client:
            self.statuses.append(client.get(f"/v1/jobs/{self._job}?wait=25").status_code)


def test_a_shutdown_loses_no_request_and_no_job(serve: Serve) -> None:
    server = serve(workers=1, NEUROND_DRAIN_SECONDS="0.3")
    job = submit(server, epochs=100_000)
    server.reaches(job, "running", epoch=10)
    load = Load(server, job)
    load.start()
    time.sleep(0.5)

    begun = time.monotonic()
    status = server.stop()
    took = time.monotonic() - begun
    load.join()

    assert status == 0
    assert took < 10.0
    assert set(load.statuses) == {200}
    assert load.broken == []
    server.start()
    resumed = server.reaches(job, "running")
    assert resumed["attempt"] == 1
    assert resumed["progress"]["epoch"] >= 10


def test_a_stream_goes_on_across_a_restart_without_gap_or_repeat(serve: Serve) -> None:
    server = serve(workers=1)
    job = submit(server, epochs=1500)
    seen: list[int] = []

    def follow(until: int) -> None:
        headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
        url = f"/v1/jobs/{job}/events"
        with server.client.stream("GET", url, headers=headers) as stream:
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    seen.append(int(line[4:]))
                    if len(seen) >= until:
                        return

    follow(300)
    server.stop()
    server.start()
    follow(600)
    server.kill()
    server.start()
    follow(10**9)

    assert seen == list(range(1, len(seen) + 1))
    events = server.client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": str(seen[-1])})
    assert events.status_code == 204


def refused(options: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "service", *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_what_cannot_be_served_ends_in_one_line_and_status_two(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    file = tmp_path / "file"
    file.write_text("")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "neurond.sqlite3").write_bytes(b"no database" * 500)
    lost = tmp_path / "lost"
    (lost / "blobs" / "ab").mkdir(parents=True)
    (lost / "blobs" / "ab" / "cd").write_bytes(b"weights")

    reasons = {
        (f"--port={server.port}", f"--data-dir={tmp_path / 'other'}"): "cannot listen",
        ("--port=0", f"--data-dir={server.folder}"): "held by another server",
        ("--port=0", f"--data-dir={file / 'below'}"): "cannot be written",
        ("--port=0", f"--data-dir={damaged}"): "neurond restore",
        ("--port=0", f"--data-dir={lost}"): "missing or empty",
        ("--port=99999",): "port",
    }

    with ThreadPoolExecutor(2) as pool:
        all_ended = list(pool.map(refused, reasons))

    for ended, reason in zip(all_ended, reasons.values(), strict=True):
        assert ended.returncode == 2, ended.stderr
        assert reason in ended.stderr
        assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert (lost / "blobs" / "ab" / "cd").exists()


def test_a_start_that_is_killed_at_any_moment_leaves_a_folder_that_starts(
    tmp_path: Path,
) -> None:
    def starts_after_a_kill(delay: float) -> None:
        server = Server(tmp_path / f"early-{delay}")
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "service", *server.options()], stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.kill()
        process.wait()
        server.start()
        assert server.client.get("/v1/networks").status_code == 200
        assert server.stop() == 0
        server.client.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(starts_after_a_kill, (0.3, 0.6, 0.8, 1.0, 1.2, 1.4)))
