"""Check, back up and restore a data directory; create keys on the command line."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.server import Server

NEUROND = Path(sys.executable).with_name("neurond")
LAYERS = [{"type": "dense", "units": 10, "activation": "softmax"}]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [str(NEUROND), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def trained_server(serve: Callable[..., Server]) -> Server:
    server = serve(workers=1)
    client = server.client
    client.post("/v1/networks", json={"name": "n", "input_shape": [25], "layers": LAYERS})
    client.post("/v1/datasets", json={"name": "d", "builtin": "digits", "samples": 100})
    body = {"network": "n", "dataset": "d", "training": {"epochs": 20}}
    job = client.post("/v1/jobs", json=body).json()["id"]
    assert server.wait_until_finished(job)["status"] == "succeeded"
    return server


def test_a_backup_of_a_running_server_is_restored_completely(
    trained_server: Server, serve: Callable[..., Server], tmp_path: Path
) -> None:
    target, restored = tmp_path / "data.tar", tmp_path / "restored"
    rows = {"inputs": [[0.5] * 25]}
    before = trained_server.client.post("/v1/networks/n/classify", json=rows).json()

    backup = run("backup", str(target), "--data-dir", str(trained_server.folder))
    restore = run("restore", str(target), "--data-dir", str(restored))
    checked = run("check", "--data-dir", str(restored))

    assert backup.returncode == 0, backup.stderr
    assert restore.returncode == 0, restore.stderr
    assert "no problems found" in checked.stdout
    summaries = [completed.stdout.split(",")[0] for completed in (backup, restore, checked)]
    assert summaries == summaries[:1] * 3
    assert not summaries[0].startswith("0 ")
    assert run("check", "--data-dir", str(trained_server.folder)).returncode == 0
    restored_server = serve("restored", workers=1)
    assert restored_server.client.post("/v1/networks/n/classify", json=rows).json() == before
    assert len(restored_server.client.get("/v1/jobs").json()["data"]) == 1


def test_a_check_reports_corrupt_weights(trained_server: Server) -> None:
    digest = trained_server.client.get("/v1/networks/n/versions/1").json()["weights_sha256"]
    blob = next(trained_server.folder.glob(f"blobs/*/*{digest[-20:]}"))
    blob.write_bytes(b"x" + blob.read_bytes()[1:])

    checked = run("check", "--data-dir", str(trained_server.folder))

    assert checked.returncode == 1
    assert "version 1 of" in checked.stderr
    assert digest in checked.stderr


def test_restore_rejects_existing_data_and_invalid_archives(
    trained_server: Server, tmp_path: Path
) -> None:
    target = tmp_path / "data.tar"
    assert run("backup", str(target), "--data-dir", str(trained_server.folder)).returncode == 0
    trained_server.stop()

    overwriting = run("restore", str(target), "--data-dir", str(trained_server.folder))
    assert overwriting.returncode == 2
    assert "already contains data" in overwriting.stderr

    foreign = tmp_path / "foreign.tar"
    with tarfile.open(foreign, "w") as archive:
        entry = tarfile.TarInfo("../escape")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    refused = run("restore", str(foreign), "--data-dir", str(tmp_path / "new"))
    assert refused.returncode == 2
    assert not (tmp_path / "escape").exists()
    assert not (tmp_path / "new" / "neurond.sqlite3").exists()

    truncated = tmp_path / "cut.tar"
    truncated.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    assert run("restore", str(truncated), "--data-dir", str(tmp_path / "new2")).returncode == 2
    nowhere = run("check", "--data-dir", str(tmp_path / "nowhere"))
    assert nowhere.returncode == 2


def test_keys_are_created_offline_and_through_a_running_server(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    folder = tmp_path / "keyed"
    created = run("keys", "--data-dir", str(folder), "create", "boss", "--scope", "admin")
    assert created.returncode == 0, created.stderr
    admin = created.stdout.strip()
    server = serve("keyed", workers=1)
    assert server.client.get("/v1/networks").status_code == 401
    assert server.client.get("/readyz").json()["checks"]["access"] == "keys"

    created_online = subprocess.run(  # noqa: S603 - our own command
        [str(NEUROND), "keys", "--data-dir", str(folder), "create", "app", "--scope", "read"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "NEUROND_API_KEY": admin},
    )
    assert created_online.returncode == 0, created_online.stderr
    headers = {"Authorization": f"Bearer {created_online.stdout.strip()}"}
    assert server.client.get("/v1/networks", headers=headers).status_code == 200
    assert server.client.post("/v1/networks", headers=headers, json={}).status_code == 403
    refused = run("keys", "--data-dir", str(folder), "list")
    assert refused.returncode == 2
    assert "missing or invalid API key" in refused.stderr


@pytest.mark.parametrize("command", [["list"], ["revoke", "key_1"]])
def test_key_commands_fail_without_a_database(command: list[str], tmp_path: Path) -> None:
    refused = run("keys", "--data-dir", str(tmp_path / "nowhere"), *command)

    assert refused.returncode == 2
    assert "no database found" in refused.stderr
    assert not (tmp_path / "nowhere").exists()


def test_serving_a_public_address_without_a_key_fails(tmp_path: Path) -> None:
    refused = run("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path / "d"))  # noqa: S104

    assert refused.returncode == 2
    assert "no API key is configured" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
