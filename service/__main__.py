"""``python -m service`` is ``neurond serve``."""

import sys

from service.cli.main import neurond

neurond(["serve", *sys.argv[1:]])
