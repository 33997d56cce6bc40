"""A real PostgreSQL server with its own data directory."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.server import free_port
from tests.waiting import block_until

PROGRAMS = Path("/usr/lib/postgresql")


def find_programs() -> Path | None:
    """Return the directory of the newest server's programs, or None if it is not installed."""
    matches = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return matches[-1].parent if matches else None


class Postgres:
    """A PostgreSQL server. It refuses to run as root, so root starts it as another user."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            self._user = {"user": account.pw_uid, "group": account.pw_gid}
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", str(folder / "data"), "-U", "neurond", "-A", "trust", "--no-sync")

    def url(self, database: str = "neurond") -> str:
        """Return the URL of a database."""
        return f"postgresql://neurond@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Create a database, and return its URL."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "neurond", database)
        return self.url(database)

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data")]
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "fsync": "off"}
        options |= {"unix_socket_directories": ""}
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, **self._user)  # type: ignore[call-overload]  # noqa: S603
        ready = [str(self.programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]

        def is_ready() -> bool:
            return subprocess.run(ready, check=False, stdout=quiet).returncode == 0  # noqa: S603

        block_until(is_ready, timeout=20.0)

    def stop(self) -> None:
        """Stop the server without waiting for its clients."""
        if self.process is not None:
            self.process.terminate()
            self.process.send_signal(2)
            self.process.wait(20)
            self.process = None

    def _run(self, program: str, *options: str) -> None:
        command = [str(self.programs / program), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._user)  # type: ignore[call-overload]  # noqa: S603


@contextmanager
def run_postgres() -> Iterator[Postgres]:
    """Run a server in a directory that its user may enter; skip without PostgreSQL."""
    directory = find_programs()
    if directory is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    # Only root may enter the directories of pytest.
    folder = Path(tempfile.mkdtemp(prefix="neurond-postgres-"))
    server = Postgres(folder, directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
