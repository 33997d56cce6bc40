"""The built-in data sets, generated from a seed."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from core.arrays import Array
from core.configuration import require
from core.errors import UnknownTypeError


class Dataset(NamedTuple):
    """Inputs and targets, with the names of the columns and the classes.

    Attributes
    ----------
    inputs : (rows, columns)
        In float64.
    targets : (rows,) or (rows, outputs)
        Class indices of shape (rows,) if there are labels, else float64 of shape (rows, outputs).
    columns
        Names of the input columns.
    labels
        Names of the classes. None for regression.
    """

    inputs: Array
    targets: Array
    columns: tuple[str, ...]
    labels: tuple[str, ...] | None


DIGIT_PATTERNS: Final = (
    (".###.", "#...#", "#...#", "#...#", ".###."),
    ("..#..", ".##..", "..#..", "..#..", ".###."),
    ("####.", "....#", ".###.", "#....", "#####"),
    ("####.", "....#", "..##.", "....#", "####."),
    ("#..#.", "#..#.", "#####", "...#.", "...#."),
    ("#####", "#....", "####.", "....#", "####."),
    ("#....", "#....", "#####", "#...#", "#####"),
    ("#####", "....#", "...#.", "..#..", "..#.."),
    (".###.", "#...#", ".###.", "#...#", ".###."),
    ("#####", "#...#", "#####", "....#", "....#"),
)
"""The ten digits on a grid of 5 x 5 pixels."""

FLIP_PROBABILITY: Final = 0.1
"""Probability that `noisy_digits` inverts a pixel."""


def clean_digits() -> Array:
    """Return the ten digits as an array of shape (10, 25) with values 0 and 1."""
    rows = ["".join(pattern) for pattern in DIGIT_PATTERNS]
    return np.array([[pixel == "#" for pixel in row] for row in rows], np.float64)


def noisy_digits(samples: int = 1000, *, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Return 5 x 5 digits with a tenth of the pixels inverted and Gaussian noise added.

    Parameters
    ----------
    samples
        Number of rows. Class counts differ by at most one.
    noise
        Standard deviation of the noise on each pixel. Results are clipped to [0, 1].
    seed
        Seed of the random generator.
    """
    generator = _generator(seed)
    digits = generator.permutation(np.arange(samples) % 10)
    pixels = clean_digits()[digits]
    flipped = generator.random(pixels.shape) < FLIP_PROBABILITY
    pixels = np.abs(pixels - flipped) + generator.normal(0.0, noise, pixels.shape)
    columns = tuple(f"pixel_{row}_{column}" for row in range(5) for column in range(5))
    return Dataset(np.clip(pixels, 0.0, 1.0), digits, columns, tuple("0123456789"))


def xor(samples: int = 4, *, noise: float = 0.0, seed: int = 0) -> Dataset:
    """Return the four corners of the exclusive or, repeated, with Gaussian noise on the inputs."""
    generator = _generator(seed)
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    corner_indices = np.arange(samples) % 4
    inputs = corners[corner_indices] + generator.normal(0.0, noise, (samples, 2))
    return Dataset(inputs, np.array([0, 1, 1, 0])[corner_indices], ("x", "y"), ("0", "1"))


def sine(samples: int = 200, *, noise: float = 0.0, seed: int = 0) -> Dataset:
    """Return one period of the sine, evenly spaced, with Gaussian noise on the targets."""
    generator = _generator(seed)
    x = np.linspace(-np.pi, np.pi, samples).reshape(-1, 1)
    return Dataset(x, np.sin(x) + generator.normal(0.0, noise, x.shape), ("x",), None)


def spirals(samples: int = 300, *, noise: float = 0.02, seed: int = 0) -> Dataset:
    """Return two interleaved spirals of one and a half turns, with Gaussian noise on the inputs."""
    generator = _generator(seed)
    arm = np.arange(samples) % 2
    distance = np.sqrt(generator.random(samples)) * 0.95 + 0.05
    angle = 3.0 * np.pi * distance + np.pi * arm
    inputs = distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    inputs += generator.normal(0.0, noise, inputs.shape)
    return Dataset(inputs, arm, ("x", "y"), ("0", "1"))


def moons(samples: int = 300, *, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Return two interleaved half circles, with Gaussian noise on the inputs."""
    generator = _generator(seed)
    moon = np.arange(samples) % 2
    angle = np.pi * generator.random(samples)
    upper = np.column_stack([np.cos(angle), np.sin(angle)])
    lower = np.column_stack([1.0 - np.cos(angle), 0.5 - np.sin(angle)])
    inputs = np.where(moon[:, None] == 0, upper, lower)
    inputs += generator.normal(0.0, noise, inputs.shape)
    return Dataset(inputs, moon, ("x", "y"), ("0", "1"))


def circles(samples: int = 300, *, noise: float = 0.05, seed: int = 0) -> Dataset:
    """Return two concentric circles, with Gaussian noise on the inputs."""
    generator = _generator(seed)
    ring = np.arange(samples) % 2
    angle = 2.0 * np.pi * generator.random(samples)
    radius = np.where(ring == 0, 1.0, 0.5)
    inputs = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    inputs += generator.normal(0.0, noise, inputs.shape)
    return Dataset(inputs, ring, ("x", "y"), ("0", "1"))


BUILTINS: Final[dict[str, Callable[..., Dataset]]] = {
    "digits": noisy_digits,
    "xor": xor,
    "sine": sine,
    "spirals": spirals,
    "moons": moons,
    "circles": circles,
}


def builtin(name: str, samples: int | None, noise: float | None, seed: int) -> Dataset:
    """Return a built-in data set by name.

    Parameters
    ----------
    name
        A key of `BUILTINS`.
    samples, noise
        None selects the default of the data set.
    seed
        Seed of the random generator.

    Raises
    ------
    UnknownTypeError
        If the name is unknown.
    ConfigurationError
        If there are fewer than two samples, or the noise is outside [0, 10].
    """
    if name not in BUILTINS:
        raise UnknownTypeError("builtin", name, BUILTINS, path=("builtin",))
    options: dict[str, float] = {"seed": seed}
    if samples is not None:
        require("samples", samples, low=2)
        options["samples"] = samples
    if noise is not None:
        require("noise", noise, low=0.0, high=10.0)
        options["noise"] = noise
    return BUILTINS[name](**options)


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))
