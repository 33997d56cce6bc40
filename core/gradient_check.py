"""Backpropagation held against central differences.

dL/dw is about (8 (L(w + h) - L(w - h)) - (L(w + 2h) - L(w - 2h))) / 12h, with an error of order
h^4. The analytic gradient is the one that training records; the differences use the plain forward
pass, so the two share no code.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.arrays import Array
from core.batches import Rows
from core.errors import NonFiniteError
from core.losses import Loss
from core.network import Network
from core.program import Program, pack_rows_for

TOLERANCE: Final = 1e-6
STEPS: Final = (1e-4, 1e-5, 1e-6)
"""Tried in turn until one agrees: a kink within reach of a step spoils that step only."""

MAX_CHECKED_PER_PART: Final = 200
"""Entries of one weight matrix or bias vector that are checked; more are sampled."""

WORK: Final = 4e9
"""Multiplications that a check may take, about two seconds: of a large network it sees less."""


@dataclass(frozen=True, slots=True)
class PartCheck:
    """The check of one layer's weights or biases.

    Attributes
    ----------
    layer, parameter
        Where: the layer's index, "weights" or "biases".
    largest_relative_error
        max |a - n| / max(|a|, |n|, floor), over the entries that were checked.
    at
        Index of that entry, (input, unit) for weights and (unit,) for biases.
    checked
        Number of entries looked at.
    """

    layer: int
    parameter: str
    largest_relative_error: float
    at: tuple[int, ...]
    analytic: float
    numeric: float
    checked: int


def analytic_gradient(network: Network, loss: Loss, rows: Rows) -> Array:
    """Return the recorded gradient, (n,), without dropout's silencing.

    Raises
    ------
    ConfigurationError
        When the loss cannot follow the last activation.
    """
    loss.check_output(network.output_activation)
    loss.check_targets(rows.targets, network.units)
    program = Program(network, loss, pack_rows_for(network, rows), len(rows.inputs), 1)
    program.batches.fill(np.arange(len(rows.inputs)))
    program.disable_dropout()
    program.replay(1)
    return program.gradient


def gradient_check(network: Network, loss: Loss, rows: Rows, *, seed: int = 0) -> list[PartCheck]:
    """Return, for each layer's weights and biases, the largest disagreement.

    Parameters
    ----------
    network
        Float64; a float32 network cannot tell a wrong gradient from its own rounding.
    loss
        Of which the gradient is taken.
    rows
        A few preprocessed rows.
    seed
        Chooses which entries are looked at where there are more than `MAX_CHECKED_PER_PART`.

    Notes
    -----
    Relative errors are taken against at least 1e-4 of the largest gradient, and at least 1e-5:
    below that, the differences hold nothing but rounding.
    """
    gradient = analytic_gradient(network, loss, rows)
    if not np.isfinite(gradient).all():
        raise NonFiniteError("the gradient for these rows")
    each = 4.0 * len(STEPS) * len(rows.inputs) * max(gradient.size, 2000) * 2 * len(network.layers)
    most = max(5, min(MAX_CHECKED_PER_PART, int(WORK / each)))
    floor = max(1e-4 * float(np.abs(gradient).max(initial=0.0)), 1e-5)
    generator = np.random.Generator(np.random.SFC64(seed))
    gradients = dict(network.dense(gradient))
    checks = []
    for layer, matrix in network.dense(network.parameters):
        for parameter, part in (("weights", np.s_[:-1]), ("biases", np.s_[-1:])):
            values, analytic = matrix[part], gradients[layer][part]
            checked = min(values.size, most)
            entries = generator.choice(values.size, checked, replace=False)
            found = []
            for source, unit in (divmod(int(entry), values.shape[1]) for entry in entries):
                exact = float(analytic[source, unit])
                at = (source, unit) if parameter == "weights" else (unit,)

                def difference(
                    step: float, values: Array = values, at: Any = (source, unit)
                ) -> float:
                    return _central_difference(network, loss, rows, values, at, step)

                error, numeric = _disagreement(exact, difference, floor)
                found.append(PartCheck(layer, parameter, error, at, exact, numeric, checked))
            checks.append(max(found, key=lambda check: check.largest_relative_error))
    return checks


def _disagreement(
    exact: float, difference: Callable[[float], float], floor: float
) -> tuple[float, float]:
    """Return the smallest relative error that any step gives, and its difference."""
    best = (math.inf, math.nan)
    for step in STEPS:
        numeric = difference(step)
        best = min(best, (abs(exact - numeric) / max(abs(exact), abs(numeric), floor), numeric))
        if best[0] <= TOLERANCE:
            break
    return best


def _central_difference(
    network: Network,
    loss: Loss,
    rows: Rows,
    values: Array,
    at: tuple[int, int],
    step: float,
) -> float:
    """Return the five-point difference for one entry, which is put back."""
    original = float(values[at])
    step *= max(1.0, abs(original))
    around = []
    for offset in (2.0, 1.0, -1.0, -2.0):
        values[at] = original + offset * step
        around.append(loss.value(network.forward(rows.inputs), rows.targets))
    values[at] = original
    return (8.0 * (around[1] - around[2]) - (around[0] - around[3])) / (12.0 * step)
