"""The row that the examples of the documentation use."""

from typing import Any

SEVEN: list[Any] = [1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
"""The digit seven as 5 x 5 pixels."""
