"""What the garbage collector of a server has to look at."""

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


def test_what_was_imported_is_not_looked_through_while_serving(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", SERVE_AND_COUNT, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=True,
    )

    out_of_sight, looked_at = map(int, done.stdout.split())
    assert out_of_sight > 50_000
    assert looked_at < 5_000
