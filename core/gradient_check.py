"""Compare backpropagation with central differences.

dL/dw is about (8 (L(w + h) - L(w - h)) - (L(w + 2h) - L(w - 2h))) / 12h, with an error of order
h^4. The analytic gradient is the one that training records. The differences use the plain forward
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
"""Step sizes, tried in order until one agrees. A kink near a point affects only large steps."""

MAX_CHECKED_PER_PART: Final = 200
"""Maximum number of entries checked per weight matrix or bias vector. Larger ones are sampled."""

MAX_MULTIPLICATIONS: Final = 4e9
"""Budget of a check, about two seconds. For a large network fewer entries are checked."""


@dataclass(frozen=True, slots=True)
class PartCheck:
    """The result for the weights or the biases of one layer.

    Attributes
    ----------
    layer, parameter
        Index of the layer, and "weights" or "biases".
    largest_relative_error
        max |a - n| / max(|a|, |n|, floor) over the checked entries, for analytic gradient a and
        numeric gradient n.
    at
        Index of that entry: (input, unit) for weights and (unit,) for biases.
    analytic, numeric
        The two gradients of that entry.
    checked
        Number of checked entries.
    """

    layer: int
    parameter: str
    largest_relative_error: float
    at: tuple[int, ...]
    analytic: float
    numeric: float
    checked: int


def analytic_gradient(network: Network, loss: Loss, rows: Rows) -> Array:
    """Return the recorded gradient with dropout disabled.

    Parameters
    ----------
    network
        The network, with n parameters.
    loss
        The loss to differentiate.
    rows
        Preprocessed inputs, (rows, inputs), and targets.

    Returns
    -------
    gradient : (n,)

    Raises
    ------
    ConfigurationError
        If the loss requires another output activation or other targets.
    """
    loss.check_output(network.output_activation)
    loss.check_targets(rows.targets, network.units)
    program = Program(network, loss, pack_rows_for(network, rows), len(rows.inputs), 1)
    program.batches.fill(np.arange(len(rows.inputs)))
    program.disable_dropout()
    program.replay(1)
    return program.gradient


def gradient_check(network: Network, loss: Loss, rows: Rows, *, seed: int = 0) -> list[PartCheck]:
    """Return the largest error for the weights and the biases of each layer.

    Parameters
    ----------
    network
        A float64 network. Rounding errors in float32 would hide errors of the gradient.
    loss
        The loss to differentiate.
    rows
        A few preprocessed inputs, (rows, inputs), with their targets.
    seed
        Seed for the sample of entries, if a part has more than `MAX_CHECKED_PER_PART`.

    Raises
    ------
    ConfigurationError
        If the loss requires another output activation or other targets.
    NonFiniteError
        If the gradient is not finite.

    Notes
    -----
    The denominator of a relative error is at least 1e-4 of the largest gradient and at least 1e-5.
    Below that, the differences consist of rounding errors.
    """
    gradient = analytic_gradient(network, loss, rows)
    if not np.isfinite(gradient).all():
        raise NonFiniteError("the gradient for these rows")
    cost_per_entry = (
        4.0 * len(STEPS) * len(rows.inputs) * max(gradient.size, 2000) * 2 * len(network.layers)
    )
    limit = max(5, min(MAX_CHECKED_PER_PART, int(MAX_MULTIPLICATIONS / cost_per_entry)))
    floor = max(1e-4 * float(np.abs(gradient).max(initial=0.0)), 1e-5)
    generator = np.random.Generator(np.random.SFC64(seed))
    gradients = dict(network.dense(gradient))
    checks = []
    for layer, matrix in network.dense(network.parameters):
        for parameter, part in (("weights", np.s_[:-1]), ("biases", np.s_[-1:])):
            values, analytic = matrix[part], gradients[layer][part]
            checked = min(values.size, limit)
            entries = generator.choice(values.size, checked, replace=False)
            entry_checks = []
            for source, unit in (divmod(int(entry), values.shape[1]) for entry in entries):
                exact = float(analytic[source, unit])
                at = (source, unit) if parameter == "weights" else (unit,)

                def difference(
                    step: float, values: Array = values, at: Any = (source, unit)
                ) -> float:
                    return _central_difference(network, loss, rows, values, at, step)

                error, numeric = _disagreement(exact, difference, floor)
                entry_checks.append(PartCheck(layer, parameter, error, at, exact, numeric, checked))
            checks.append(max(entry_checks, key=lambda check: check.largest_relative_error))
    return checks


def _disagreement(
    exact: float, difference: Callable[[float], float], floor: float
) -> tuple[float, float]:
    """Return the smallest relative error over all steps, and the numeric gradient of that step."""
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
    """Return the five-point difference for one entry. The entry is restored afterwards."""
    original = float(values[at])
    step *= max(1.0, abs(original))
    losses = []
    for offset in (2.0, 1.0, -1.0, -2.0):
        values[at] = original + offset * step
        losses.append(loss.value(network.forward(rows.inputs), rows.targets))
    values[at] = original
    return (8.0 * (losses[1] - losses[2]) - (losses[0] - losses[3])) / (12.0 * step)
