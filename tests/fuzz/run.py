"""Fuzzing with valid and invalid requests: ``python -m tests.fuzz.run --seconds 1200``.

Schemathesis generates the requests from the OpenAPI document in all its phases, and applies all
its checks. It authenticates as two tenants and as an administrator, and sends anonymous requests.
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
# A schema cannot express the width of rows, existing labels and unused names.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 400, 401, 403, 404, 406, 409, 412, 422]
# A parameter may make the request head too large. The HTTP protocol then rejects it with 431.
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 431]
"""

HOOKS = Path(__file__).parent / "hooks.py"
KEYS = "DELETE /v1/keys/{key}"
"""Excluded, because it revokes the keys of the run."""


def fuzz(folder: Path, seed: int, *bound: str) -> subprocess.CompletedProcess[str]:
    """Fuzz a new server, and return the process; its exit status is not 0 if a check failed.

    Parameters
    ----------
    folder
        Existing directory for the data of the server and the files of the run.
    bound
        Limit of the run: ``--max-time`` in seconds, or ``--max-examples`` per operation, which
        does not depend on the speed of the machine.
    """
    admin = new_secret()
    environment = {
        "NEUROND_BOOTSTRAP_KEY": admin,
        "NEUROND_RATE_LIMIT_READ": "0",  # otherwise most responses are 429
        "NEUROND_RATE_LIMIT_WRITE": "0",
        "NEUROND_RATE_LIMIT_UPLOAD": "0",
    }
    server = Server(folder / "data", workers=1, environment=environment).start()
    try:
        server.client.headers["Authorization"] = f"Bearer {admin}"
        keys = {tenant: _create_key(server, tenant) for tenant in ("one", "other")} | {
            "admin": admin
        }
        return _run(folder, server.url, keys, seed, bound)
    finally:
        server.client.close()
        server.stop()


def _create_key(server: Server, tenant: str) -> str:
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
    """Run for the requested time, and print the results."""
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
