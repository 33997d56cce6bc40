"""Requests that the OpenAPI page allows and forbids: ``python -m tests.fuzz.run --seconds 1200``.

Schemathesis makes them, in all its phases, and looks at every answer with all its checks. It comes
as two tenants that must not see each other's things, as an administrator, and as nobody.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from service.domain.keys import new_secret
from tests.acceptance.server import Server

CONFIG = """
hooks = "{hooks}"
request-timeout = 30.0
seed = {seed}
[auth.wfc]
path = "{users}"
peers = ["one", "other"]
# What a schema cannot say: rows as wide as the network, labels that there are, names that are free.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 400, 401, 403, 404, 406, 409, 412, 422]
# A parameter that is too long can make the head so; then the connection answers.
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 431]
"""

HOOKS = Path(__file__).parent / "hooks.py"
KEYS = "DELETE /v1/keys/{key}"
"""Not asked: it revokes the keys that the run itself comes with."""


def fuzz(folder: Path, seed: int, *bound: str) -> subprocess.CompletedProcess[str]:
    """Run against a server of its own; a status other than 0 tells of findings.

    Parameters
    ----------
    folder
        For the server's data and the run's files; an existing one.
    bound
        What ends it: ``--max-time`` and seconds, or ``--max-examples`` of each operation, which is
        the same on a fast machine and on a slow one.
    """
    admin = new_secret()
    environment = {
        "NEUROND_BOOTSTRAP_KEY": admin,
        "NEUROND_RATE_LIMIT_READ": "0",  # else the rates answer for everything
        "NEUROND_RATE_LIMIT_WRITE": "0",
        "NEUROND_RATE_LIMIT_UPLOAD": "0",
    }
    server = Server(folder / "data", workers=1, environment=environment).start()
    try:
        server.client.headers["Authorization"] = f"Bearer {admin}"
        keys = {tenant: _key(server, tenant) for tenant in ("one", "other")} | {"admin": admin}
        return _run(folder, server.url, keys, seed, bound)
    finally:
        server.client.close()
        server.stop()


def _key(server: Server, tenant: str) -> str:
    answer = server.client.post("/v1/keys", json={"name": tenant, "tenant": tenant})
    return str(answer.raise_for_status().json()["key"])


def _run(
    folder: Path, url: str, keys: dict[str, str], seed: int, bound: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    users = folder / "users.json"
    header = "Authorization"
    entries = [
        {"name": name, "fixedHeaders": [{"name": header, "value": f"Bearer {key}"}]}
        for name, key in keys.items()
    ]
    users.write_text(json.dumps({"auth": entries}))
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(hooks=HOOKS, users=users, seed=seed))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", f"{url}/openapi.json", "--checks", "all", *bound),
        *("--phases", "examples,coverage,fuzzing,stateful", "--exclude-name", KEYS),
        *("--no-color", "--continue-on-failure", "--warnings", "off"),
    ]
    return subprocess.run(  # noqa: S603 - our own command
        command,
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=3600,
    )


def main() -> int:
    """Run as long as is wanted and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = fuzz(Path(folder), options.seed, "--max-time", str(options.seconds))
        sys.stdout.write(done.stdout)
        sys.stdout.write((Path(folder) / "data.log").read_text()[-4000:])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
