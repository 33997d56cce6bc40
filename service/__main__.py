"""Run ``neurond serve`` for ``python -m service``."""

import sys

from service.cli.main import neurond

neurond(["serve", *sys.argv[1:]])
