"""The network that every contender serves: 25-32-16-10 or 784-128-10, seeded."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
WIDTHS = {25: (25, 32, 16, 10), 784: (784, 128, 10)}


def parameters(inputs: int) -> list[tuple[Array, Array]]:
    """Return weights (inputs, units) and biases of each layer."""
    generator = np.random.default_rng(7)
    widths = WIDTHS[inputs]
    return [
        (
            (generator.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32),
            generator.standard_normal(b).astype(np.float32) * np.float32(0.1),
        )
        for a, b in pairwise(widths)
    ]


def forward(layers: list[tuple[Array, Array]], x: Array) -> Array:
    """Return the probabilities, (rows, 10)."""
    for weights, biases in layers[:-1]:
        x = np.maximum(x @ weights + biases, 0.0)
    z = x @ layers[-1][0] + layers[-1][1]
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
