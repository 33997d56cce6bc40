"""A data folder looked through, copied beside a running server, and brought back."""

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
def filled(serve: Callable[..., Server]) -> Server:
    server = serve(workers=1)
    client = server.client
    client.post("/v1/networks", json={"name": "n", "input_shape": [25], "layers": LAYERS})
    client.post("/v1/datasets", json={"name": "d", "builtin": "digits", "samples": 100})
    body = {"network": "n", "dataset": "d", "training": {"epochs": 20}}
    job = client.post("/v1/jobs", json=body).json()["id"]
    assert server.ended(job)["status"] == "succeeded"
    return server


def test_a_backup_beside_a_running_server_comes_back_whole(
    filled: Server, serve: Callable[..., Server], tmp_path: Path
) -> None:
    target, restored = tmp_path / "data.tar", tmp_path / "restored"
    rows = {"inputs": [[0.5] * 25]}
    before = filled.client.post("/v1/networks/n/classify", json=rows).json()

    made = run("backup", str(target), "--data-dir", str(filled.folder))
    brought = run("restore", str(target), "--data-dir", str(restored))
    checked = run("check", "--data-dir", str(restored))

    assert made.returncode == 0, made.stderr
    assert brought.returncode == 0, brought.stderr
    assert "sound" in checked.stdout
    counted = [told.stdout.split(",")[0] for told in (made, brought, checked)]
    assert counted == counted[:1] * 3
    assert not counted[0].startswith("0 ")
    assert run("check", "--data-dir", str(filled.folder)).returncode == 0
    again = serve("restored", workers=1)
    assert again.client.post("/v1/networks/n/classify", json=rows).json() == before
    assert len(again.client.get("/v1/jobs").json()["data"]) == 1


def test_damage_is_named(filled: Server) -> None:
    digest = filled.client.get("/v1/networks/n/versions/1").json()["weights_sha256"]
    blob = next(filled.folder.glob(f"blobs/*/*{digest[-20:]}"))
    blob.write_bytes(b"x" + blob.read_bytes()[1:])

    checked = run("check", "--data-dir", str(filled.folder))

    assert checked.returncode == 1
    assert "version 1 of" in checked.stderr
    assert digest in checked.stderr


def test_nothing_is_restored_over_data_or_from_something_else(
    filled: Server, tmp_path: Path
) -> None:
    target = tmp_path / "data.tar"
    assert run("backup", str(target), "--data-dir", str(filled.folder)).returncode == 0
    filled.stop()

    over = run("restore", str(target), "--data-dir", str(filled.folder))
    assert over.returncode == 2
    assert "holds data already" in over.stderr

    strange = tmp_path / "strange.tar"
    with tarfile.open(strange, "w") as archive:
        entry = tarfile.TarInfo("../escape")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    refused = run("restore", str(strange), "--data-dir", str(tmp_path / "new"))
    assert refused.returncode == 2
    assert not (tmp_path / "escape").exists()
    assert not (tmp_path / "new" / "neurond.sqlite3").exists()

    cut = tmp_path / "cut.tar"
    cut.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    assert run("restore", str(cut), "--data-dir", str(tmp_path / "new2")).returncode == 2
    nowhere = run("check", "--data-dir", str(tmp_path / "nowhere"))
    assert nowhere.returncode == 2


def test_keys_are_made_for_a_stopped_and_through_a_running_server(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    folder = tmp_path / "keyed"
    made = run("keys", "--data-dir", str(folder), "create", "boss", "--scope", "admin")
    assert made.returncode == 0, made.stderr
    admin = made.stdout.strip()
    server = serve("keyed", workers=1)
    assert server.client.get("/v1/networks").status_code == 401
    assert server.client.get("/readyz").json()["checks"]["access"] == "keys"

    through = subprocess.run(  # noqa: S603 - our own command
        [str(NEUROND), "keys", "--data-dir", str(folder), "create", "app", "--scope", "read"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "NEUROND_API_KEY": admin},
    )
    assert through.returncode == 0, through.stderr
    headers = {"Authorization": f"Bearer {through.stdout.strip()}"}
    assert server.client.get("/v1/networks", headers=headers).status_code == 200
    assert server.client.post("/v1/networks", headers=headers, json={}).status_code == 403
    refused = run("keys", "--data-dir", str(folder), "list")
    assert refused.returncode == 2
    assert "valid key" in refused.stderr


@pytest.mark.parametrize("command", [["list"], ["revoke", "key_1"]])
def test_keys_are_not_looked_for_where_nothing_is_kept(command: list[str], tmp_path: Path) -> None:
    refused = run("keys", "--data-dir", str(tmp_path / "nowhere"), *command)

    assert refused.returncode == 2
    assert "there is no database" in refused.stderr
    assert not (tmp_path / "nowhere").exists()


def test_an_open_address_without_a_key_is_refused(tmp_path: Path) -> None:
    refused = run("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path / "d"))  # noqa: S104

    assert refused.returncode == 2
    assert "no API key is configured" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
