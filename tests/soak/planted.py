"""A server that leaks a little with every prediction, to see that the soak finds it.

python -m tests.soak.planted --port ... --data-dir ...
"""

import sys
from typing import Any

from service.application.inference.loaded_model import InferenceStatistics
from service.cli.main import neurond

LEASED: list[bytes] = []


def main() -> None:
    """Plant the leak, 64 bytes a call, and start the server with it."""
    honest = InferenceStatistics.ran

    def ran(self: InferenceStatistics, rows: int, nanoseconds: int, requests: int) -> None:
        honest(self, rows, nanoseconds, requests)
        LEASED.extend(bytes(31) for _ in range(requests))

    leaky: Any = InferenceStatistics
    leaky.ran = ran
    neurond(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    main()
