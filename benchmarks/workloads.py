"""The workloads of the training benchmark."""

from dataclasses import dataclass

import numpy as np

from core.batches import Rows
from core.datasets import noisy_digits


@dataclass(frozen=True)
class Workload:
    """A training that every contender runs."""

    name: str
    widths: tuple[int, ...]
    hidden: str
    output: str
    loss: str
    optimizer: str
    learning_rate: float
    momentum: float
    dropout: float
    cosine: bool
    batch: int
    epochs: int
    rows: Rows


def workloads() -> list[Workload]:
    """Return the six workloads."""
    generator = np.random.default_rng(0)
    digits = noisy_digits(1000, noise=0.1, seed=0)
    digit_rows = Rows(digits.inputs.astype("f4"), digits.targets)
    xor = Rows(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "f4"), np.array([0, 1, 1, 0]))
    line = np.linspace(-np.pi, np.pi, 200).reshape(-1, 1)
    sine = Rows(line.astype("f4"), np.sin(line).astype("f4"))
    pixels = Rows(generator.random((60_000, 784), "f4"), generator.integers(0, 10, 60_000))
    digit = ((25, 32, 16, 10), "relu", "softmax", "cross_entropy")
    return [
        Workload("W1", *digit, "sgd", 0.5, 0.0, 0.0, False, 32, 300, digit_rows),
        Workload("W1b", *digit, "sgd", 0.05, 0.9, 0.2, True, 32, 300, digit_rows),
        Workload("W1c", *digit, "adam", 0.001, 0.0, 0.0, False, 32, 300, digit_rows),
        Workload(
            "W2", (2, 8, 1), "tanh", "sigmoid", "binary_cross_entropy",
            "sgd", 0.5, 0.0, 0.0, False, 4, 5000, xor,
        ),
        Workload(
            "W3", (1, 32, 16, 1), "tanh", "linear", "mse",
            "sgd", 0.01, 0.9, 0.0, False, 32, 500, sine,
        ),
        Workload(
            "W4a", (784, 128, 10), "relu", "softmax", "cross_entropy",
            "sgd", 0.1, 0.9, 0.0, False, 128, 1, pixels,
        ),
    ]  # fmt: skip
