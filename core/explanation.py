"""Attribute an output to the inputs: its gradient, and gradients integrated along a path."""

from typing import Final, NamedTuple

import numpy as np

from core.arrays import Array
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing
from core.tape import ActivationBuffer, Tape

STEPS: Final = 256
"""Points along the path of integrated gradients. `Attributions.gaps` shows whether they suffice."""

CHUNK_ROWS: Final = 1024
"""Rows per pass through the network."""


class Attributions(NamedTuple):
    """The contribution of each input to one output.

    Attributes
    ----------
    values : (rows, inputs)
        For "gradient", in units of the output per unit of the raw input. For
        "integrated_gradients", in units of the output.
    outputs : (rows,)
        The explained output of each row.
    baseline_outputs : (rows,)
        The explained output at the baseline. None for "gradient".
    gaps : (rows,)
        outputs - baseline_outputs - sum of values, zero for an exact integral. None for "gradient".
    """

    values: Array
    outputs: Array
    baseline_outputs: Array | None = None
    gaps: Array | None = None


def gradient(
    network: Network, preprocessing: Preprocessing, rows: Array, unit: int
) -> Attributions:
    """Return d output / d input at each row (Simonyan et al., 2014), in float64.

    Parameters
    ----------
    network
        The network to explain.
    preprocessing
        Preprocessing of its raw inputs and targets.
    rows : (rows, inputs)
        Raw inputs.
    unit
        Index of the output to explain.
    """
    exact = _to_float64(network)
    gradients = _input_gradients(exact, preprocessing, _preprocess(preprocessing, rows), unit)
    outputs = Forward(exact, preprocessing)(rows)[:, unit]
    return Attributions(gradients, outputs)


def integrated_gradients(
    network: Network, preprocessing: Preprocessing, rows: Array, unit: int, baseline: Array
) -> Attributions:
    """Return (x - baseline) times the mean gradient along the line (Sundararajan et al., 2017).

    The integral is a midpoint sum over `STEPS` points, in float64.

    Parameters
    ----------
    network
        The network to explain.
    preprocessing
        Preprocessing of its raw inputs and targets.
    rows : (rows, inputs)
        Raw inputs.
    unit
        Index of the output to explain.
    baseline : (inputs,)
        Raw inputs at which the path starts.
    """
    exact = _to_float64(network)
    forward = Forward(exact, preprocessing)
    midpoints = (np.arange(STEPS) + 0.5) / STEPS
    values = np.empty_like(rows)
    for index, row in enumerate(rows):
        path = baseline + midpoints[:, None] * (row - baseline)
        gradients = _input_gradients(exact, preprocessing, _preprocess(preprocessing, path), unit)
        values[index] = (row - baseline) * gradients.mean(axis=0)
    outputs = forward(rows)[:, unit]
    baseline_outputs = np.full(len(rows), forward(baseline.reshape(1, -1))[0, unit])
    gaps = outputs - baseline_outputs - values.sum(axis=1)
    return Attributions(values, outputs, baseline_outputs, gaps)


def _to_float64(network: Network) -> Network:
    """Return a copy of the network in float64, to keep rounding errors out of attributions."""
    exact = Network.from_config({**network.config(), "dtype": "float64"})
    exact.parameters[:] = network.parameters
    return exact


def _preprocess(preprocessing: Preprocessing, rows: Array) -> Array:
    return rows if preprocessing.inputs is None else preprocessing.inputs.apply(rows)


def _input_gradients(
    network: Network, preprocessing: Preprocessing, rows: Array, unit: int
) -> Array:
    """Return d output / d raw input, (rows, inputs), by the recorded backward pass."""
    parts = [
        _backward(network, rows[start : start + CHUNK_ROWS], unit)
        for start in range(0, len(rows), CHUNK_ROWS)
    ]
    gradients = np.vstack(parts)
    if preprocessing.inputs is not None:
        gradients /= preprocessing.inputs.scale
    if preprocessing.targets is not None:
        gradients *= preprocessing.targets.scale[unit]
    return gradients


def _backward(network: Network, rows: Array, unit: int) -> Array:
    """Return d output / d network input, (rows, inputs), for at most `CHUNK_ROWS` rows."""
    tape = Tape(len(rows), 1, network.dtype, training=False)
    tape.begin_step()
    augmented = np.vstack([rows.T, np.ones((1, len(rows)))])
    activation = ActivationBuffer(augmented, augmented[:-1])
    unused_gradients = network.views(np.empty_like(network.parameters))
    recorded = network.record(tape, activation, network.views(network.parameters), unused_gradients)
    delta = np.zeros((network.units, len(rows)))
    delta[unit] = 1.0
    for layer in reversed(recorded):
        layer.through_activation(delta)
        upstream = layer.backward(delta, True)  # noqa: FBT003 - signature of `Recorded.backward`
        assert upstream is not None  # noqa: S101 - the input gradient was requested
        delta = upstream
    tape.end_step()
    tape.replay(1)
    return delta.T.copy()
