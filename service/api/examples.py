"""A row that every example of the documentation asks about."""

from typing import Any

SEVEN: list[Any] = [1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
"""The digit seven, five by five."""
