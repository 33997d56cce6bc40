"""Check, back up and restore a data directory; create keys on the command line."""

import gzip
import io
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
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


def members(target: Path) -> dict[str, bytes]:
    """Return the files of a tar file."""
    with tarfile.open(target) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_a_backup_of_damaged_data_has_the_rest_and_is_restored_with_a_report(
    trained_server: Server, serve: Callable[..., Server], tmp_path: Path
) -> None:
    client, target, restored = trained_server.client, tmp_path / "data.tar", tmp_path / "restored"
    digests = [
        client.get(f"/v1/networks/n/versions/{number}").json()["weights_sha256"]
        for number in (0, 1)
    ]
    blob = next(trained_server.folder.glob(f"blobs/*/*{digests[1][-20:]}"))
    blob.write_bytes(b"x" + blob.read_bytes()[1:])

    backup = run("backup", str(target), "--data-dir", str(trained_server.folder))
    restore = run("restore", str(target), "--data-dir", str(restored))

    assert (backup.returncode, restore.returncode) == (1, 1)
    assert f"blob {digests[1]} is damaged" in backup.stderr
    assert "version 1 of" in restore.stderr
    assert f"blob {digests[1]} is missing" in restore.stderr
    assert f"blobs/{digests[0]}" in members(target)
    assert f"blobs/{digests[1]}" not in members(target)
    server = serve("restored", workers=1)
    row = {"inputs": [[0.5] * 25]}
    assert server.client.post("/v1/networks/n/versions/0/predict", json=row).status_code == 200
    damaged = server.client.post("/v1/networks/n/versions/1/predict", json=row)
    assert (damaged.status_code, damaged.json()["code"]) == (409, "weights_corrupt")


def archive_with(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for entry, data in entries:
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def link(kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo("blobs/" + "a" * 64)
    entry.type, entry.linkname = kind, "/etc/passwd"
    return entry


def declared(size: int, name: str = "neurond.sqlite3") -> bytes:
    """Return the header of a member of that size, without the member."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def long_header(size: int) -> bytes:
    """Return an extended header that declares that many bytes, and none of them."""
    entry = tarfile.TarInfo("././@PaxHeader")
    entry.type, entry.size = tarfile.XHDTYPE, size
    return entry.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20)


def sparse() -> bytes:
    """Return an archive whose member has a hole of a terabyte."""
    entry = tarfile.TarInfo("neurond.sqlite3")
    entry.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "neurond.sqlite3",
        "GNU.sparse.realsize": str(1 << 40),
    }
    data = b"1\n0\n0\n".ljust(512, b"\0")
    entry.size = len(data)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "no archive": lambda: b"nothing" * 1000,
    "empty": lambda: b"",
    "compressed": lambda: gzip.compress(bytes(200 << 20)),
    "symbolic link": lambda: archive_with((link(tarfile.SYMTYPE), b"")),
    "hard link": lambda: archive_with((link(tarfile.LNKTYPE), b"")),
    "device": lambda: archive_with((link(tarfile.CHRTYPE), b"")),
    "traversal": lambda: archive_with((tarfile.TarInfo("../neurond.sqlite3"), b"x")),
    "absolute": lambda: archive_with((tarfile.TarInfo("/neurond.sqlite3"), b"x")),
    "other file": lambda: archive_with((tarfile.TarInfo("lock"), b"x")),
    "wrong digest": lambda: archive_with((tarfile.TarInfo("blobs/" + "0" * 64), b"x")),
    "no database": lambda: archive_with(),
    "twice": lambda: archive_with(*[(tarfile.TarInfo("neurond.sqlite3"), b"x")] * 2),
    "not a database": lambda: archive_with((tarfile.TarInfo("neurond.sqlite3"), b"x" * 9000)),
    "truncated": lambda: declared(100_000) + bytes(5_000),
    "huge": lambda: declared(1 << 50),
    "huge blob": lambda: declared(1 << 40, "blobs/" + "0" * 64),
    "long header": lambda: long_header(3 << 30),
    "sparse": sparse,
}


PLANTED = {
    "device": "UPDATE versions SET weights_sha256 = '../../../../../../../../../dev/zero'",
    "number": "UPDATE versions SET weights_sha256 = 5",
    "bytes": "UPDATE versions SET weights_sha256 = x'00'",
    "column": "ALTER TABLE versions RENAME COLUMN weights_sha256 TO other",
    "view": "ALTER TABLE checkpoints RENAME TO c; CREATE VIEW checkpoints AS SELECT * FROM c",
    "trigger": "CREATE TRIGGER t AFTER INSERT ON jobs BEGIN DELETE FROM jobs; END",
}


@pytest.mark.parametrize("name", list(PLANTED))
def test_a_hostile_database_is_refused(trained_server: Server, tmp_path: Path, name: str) -> None:
    target, hostile = tmp_path / "data.tar", tmp_path / "hostile.tar"
    assert run("backup", str(target), "--data-dir", str(trained_server.folder)).returncode == 0
    content = members(target)
    planted = tmp_path / "planted.sqlite3"
    planted.write_bytes(content["neurond.sqlite3"])
    with closing(sqlite3.connect(planted)) as database:
        database.executescript(PLANTED[name])
    content["neurond.sqlite3"] = planted.read_bytes()
    hostile.write_bytes(archive_with(*((tarfile.TarInfo(n), d) for n, d in content.items())))

    restore = run("restore", str(hostile), "--data-dir", str(tmp_path / "new"))

    assert restore.returncode == 2, restore.stderr
    assert len(restore.stderr.strip().splitlines()) == 1, restore.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", list(HOSTILE))
@pytest.mark.parametrize("exists", [False, True])
def test_a_hostile_archive_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, name: str, *, exists: bool
) -> None:
    source, target = tmp_path / "hostile.tar", tmp_path / "target"
    source.write_bytes(HOSTILE[name]())
    if exists:
        target.mkdir()
    limited = [
        sys.executable, "-c",
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "sys.argv[0] = 'neurond'; from service.cli.main import neurond; neurond()",
    ]  # fmt: skip
    restore = subprocess.run(  # noqa: S603 - our own command
        [*limited, "restore", str(source), "--data-dir", str(target)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert restore.returncode == 2, restore.stderr
    assert len(restore.stderr.strip().splitlines()) == 1, restore.stderr
    assert target.exists() is exists
    left = {path.name for path in target.rglob("*")} if exists else set()
    assert left <= {"lock", "uploads"}


def test_data_is_closed_to_other_users(trained_server: Server) -> None:
    folder = trained_server.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_an_open_folder_of_an_earlier_version_is_closed(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir(mode=0o755)

    server = serve("data", workers=1)

    assert server.folder.stat().st_mode & 0o777 == 0o700
