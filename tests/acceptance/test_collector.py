"""The objects that the garbage collector of a server traverses."""

import subprocess
import sys
from pathlib import Path

SERVE_AND_COUNT = """
import gc, sys
from service.cli import main as cli

def run(self, sockets):
    print(gc.get_freeze_count(), len(gc.get_objects()))
    self.started = True

cli.GracefulServer.run = run
cli.neurond(["serve", "--port", "0", "--data-dir", sys.argv[1]])
"""


def test_most_objects_are_frozen_while_serving(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", SERVE_AND_COUNT, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=True,
    )

    frozen, tracked = map(int, done.stdout.split())
    assert frozen > 50_000
    assert tracked < 5_000
