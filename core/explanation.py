"""Which inputs an output came from: its gradient, and the gradient integrated along a path."""

from typing import Final, NamedTuple

import numpy as np

from core.arrays import Array
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing
from core.tape import ActivationBuffer, Tape

STEPS: Final = 256
"""Points along the path of integrated gradients; the gap tells whether they were enough."""

CHUNK: Final = 1024
"""Rows that go through the network at once."""


class Attributions(NamedTuple):
    """What each input added to one output.

    Attributes
    ----------
    values
        (rows, inputs), in units of the output per unit of raw input for "gradient", in units of
        the output for "integrated_gradients".
    outputs, baseline_outputs
        (rows,), the explained output for each row, and for what it was compared with.
    gaps
        (rows,), of integrated gradients: outputs - baseline_outputs - the sum of values, which
        an exact integral makes zero.
    """

    values: Array
    outputs: Array
    baseline_outputs: Array | None = None
    gaps: Array | None = None


def gradient(
    network: Network, preprocessing: Preprocessing, rows: Array, unit: int
) -> Attributions:
    """Return d output / d input at each raw row, (rows, inputs) float64 (Simonyan et al., 2014)."""
    exact = _in_float64(network)
    slopes = _slopes(exact, preprocessing, _prepared(preprocessing, rows), unit)
    outputs = Forward(exact, preprocessing)(rows)[:, unit]
    return Attributions(slopes, outputs)


def integrated_gradients(
    network: Network, preprocessing: Preprocessing, rows: Array, unit: int, baseline: Array
) -> Attributions:
    """Return (x - baseline) times the mean gradient along the line (Sundararajan et al., 2017).

    The integral is a midpoint sum over `STEPS` points, in float64.
    """
    exact = _in_float64(network)
    forward = Forward(exact, preprocessing)
    middles = (np.arange(STEPS) + 0.5) / STEPS
    values = np.empty_like(rows)
    for index, row in enumerate(rows):
        path = baseline + middles[:, None] * (row - baseline)
        slopes = _slopes(exact, preprocessing, _prepared(preprocessing, path), unit)
        values[index] = (row - baseline) * slopes.mean(axis=0)
    outputs = forward(rows)[:, unit]
    at_baseline = np.full(len(rows), forward(baseline.reshape(1, -1))[0, unit])
    gaps = outputs - at_baseline - values.sum(axis=1)
    return Attributions(values, outputs, at_baseline, gaps)


def _in_float64(network: Network) -> Network:
    """Return the network in float64, so that rounding cannot pass for an attribution."""
    exact = Network.from_spec({**network.spec(), "dtype": "float64"})
    exact.parameters[:] = network.parameters
    return exact


def _prepared(preprocessing: Preprocessing, rows: Array) -> Array:
    return rows if preprocessing.inputs is None else preprocessing.inputs.apply(rows)


def _slopes(network: Network, preprocessing: Preprocessing, rows: Array, unit: int) -> Array:
    """Return d output / d raw input, by the backward pass that training records."""
    parts = [_backward(network, rows[at : at + CHUNK], unit) for at in range(0, len(rows), CHUNK)]
    slopes = np.vstack(parts)
    if preprocessing.inputs is not None:
        slopes /= preprocessing.inputs.scale
    if preprocessing.targets is not None:
        slopes *= preprocessing.targets.scale[unit]
    return slopes


def _backward(network: Network, rows: Array, unit: int) -> Array:
    """Return d output / d input of the network itself for up to `CHUNK` rows."""
    tape = Tape(len(rows), 1, network.dtype, training=False)
    tape.begin_step()
    augmented = np.vstack([rows.T, np.ones((1, len(rows)))])
    signal = ActivationBuffer(augmented, augmented[:-1])
    unused = network.views(np.empty_like(network.parameters))
    recorded = network.record(tape, signal, network.views(network.parameters), unused)
    delta = np.zeros((network.units, len(rows)))
    delta[unit] = 1.0
    for part in reversed(recorded):
        part.through_activation(delta)
        upstream = part.backward(delta, True)  # noqa: FBT003 - the recorder's own signature
        assert upstream is not None  # noqa: S101 - it was asked for
        delta = upstream
    tape.end_step()
    tape.replay(1)
    return delta.T.copy()
