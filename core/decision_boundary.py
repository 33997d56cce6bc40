"""Activations of every unit of a network with two inputs, on a grid over the input plane."""

import numpy as np

from core.arrays import Array
from core.layers import Dense
from core.network import Network
from core.preprocessing import Preprocessing

Range = tuple[float, float]


def activation_grids(
    network: Network, preprocessing: Preprocessing, x: Range, y: Range, resolution: int
) -> list[Array]:
    """Return the activations of each dense layer on a grid.

    Parameters
    ----------
    network
        A network with two inputs.
    preprocessing
        Preprocessing of its raw inputs and targets.
    x, y
        Ranges of the two inputs, as raw values (before preprocessing).
    resolution
        Grid points along each axis.

    Returns
    -------
    grids
        One array per dense layer, of shape (units, resolution, resolution). As in an image, the
        first row has the largest y and the first column the smallest x.
    """
    x_grid, y_grid = np.meshgrid(np.linspace(*x, resolution), np.linspace(*y[::-1], resolution))
    points = np.column_stack([x_grid.ravel(), y_grid.ravel()])
    if preprocessing.inputs is not None:
        points = preprocessing.inputs.apply(points)
    activation = points.astype(network.dtype)
    grids = []
    for layer, parameters in zip(network.layers, network.views(network.parameters), strict=True):
        activation = layer.forward(parameters, activation)
        if isinstance(layer, Dense):
            grids.append(activation.T.reshape(-1, resolution, resolution))
    if preprocessing.targets is not None:
        outputs = preprocessing.targets.invert(activation)
        grids[-1] = outputs.T.reshape(-1, resolution, resolution)
    return grids


def quantize(grid: Array) -> tuple[bytes, float, float]:
    """Return a grid as one byte per point, and the values that bytes 0 and 255 represent.

    Parameters
    ----------
    grid : (resolution, resolution)
    """
    finite = np.nan_to_num(grid.astype(np.float64))
    low, high = float(finite.min()), float(finite.max())
    span = high - low or 1.0
    return ((finite - low) / span * 255.0).round().astype(np.uint8).tobytes(), low, low + span
