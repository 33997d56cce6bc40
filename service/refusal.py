"""How every command ends that cannot do its work."""

import sys
from typing import Final, NoReturn

import click

UNUSABLE: Final = 2
"""Exit status when a command cannot begin."""


def refuse(reason: object) -> NoReturn:
    """End with one line and the status for it."""
    click.echo(f"neurond: {reason}", err=True)
    sys.exit(UNUSABLE)
