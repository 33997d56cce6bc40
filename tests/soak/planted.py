"""A server that leaks memory with every prediction; the soak test must find the leak.

python -m tests.soak.planted --port ... --data-dir ...
"""

import sys
from typing import Any

from service.application.inference.loaded_model import InferenceStatistics
from service.cli.main import neurond

LEAKED: list[bytes] = []


def main() -> None:
    """Plant a leak of 64 bytes per call, and start the server with it."""
    original = InferenceStatistics.ran

    def ran(self: InferenceStatistics, rows: int, nanoseconds: int, requests: int) -> None:
        original(self, rows, nanoseconds, requests)
        LEAKED.extend(bytes(31) for _ in range(requests))

    leaky: Any = InferenceStatistics
    leaky.ran = ran
    neurond(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    main()
