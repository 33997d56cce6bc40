"""A real PostgreSQL server in a folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.server import free_port

PROGRAMS = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """Return where the newest server's programs are."""
    found = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """A server; it refuses to run as root, so it runs as somebody else there."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self._run("initdb", "-D", str(folder / "data"), "-U", "neurond", "-A", "trust", "--no-sync")

    def url(self, database: str = "neurond") -> str:
        """Return the address of a database."""
        return f"postgresql://neurond@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make a database, and return its address."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "neurond", database)
        return self.url(database)

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data")]
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "fsync": "off"}
        options |= {"unix_socket_directories": ""}
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, **self._user)  # type: ignore[call-overload]  # noqa: S603
        ready = [str(self.programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        for _ in range(200):
            if subprocess.run(ready, check=False, stdout=quiet).returncode == 0:  # noqa: S603
                return
            time.sleep(0.05)
        raise TimeoutError

    def stop(self) -> None:
        """End at once, connections or not."""
        if self.process is not None:
            self.process.terminate()
            self.process.send_signal(2)
            self.process.wait(20)
            self.process = None

    def _run(self, program: str, *options: str) -> None:
        command = [str(self.programs / program), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._user)  # type: ignore[call-overload]  # noqa: S603


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server in a folder that its user may enter; skip what needs one where there is none."""
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="neurond-postgres-"))  # pytest's are root's alone
    server = Postgres(folder, found)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
