"""How a command ends that cannot do its work."""

import sys
from typing import Final, NoReturn

import click

EXIT_FAILURE: Final = 2
"""Exit status of a command that cannot begin."""


def fail(reason: object) -> NoReturn:
    """End the process with one line on stderr and `EXIT_FAILURE`."""
    click.echo(f"neurond: {reason}", err=True)
    sys.exit(EXIT_FAILURE)
