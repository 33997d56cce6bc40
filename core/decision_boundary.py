"""What every unit of a network over two inputs says across the plane."""

import numpy as np

from core.arrays import Array
from core.layers import Dense
from core.network import Network
from core.preprocessing import Preprocessing

Range = tuple[float, float]


def units_over_plane(
    network: Network, preprocessing: Preprocessing, x: Range, y: Range, resolution: int
) -> list[Array]:
    """Return the activations of each dense layer, (units, resolution, resolution).

    The first row of a grid is the largest y, as a picture is drawn; the first column the least x.

    Parameters
    ----------
    x, y
        The part of the plane, in raw inputs.
    """
    across, up = np.meshgrid(np.linspace(*x, resolution), np.linspace(*y[::-1], resolution))
    points = np.column_stack([across.ravel(), up.ravel()])
    if preprocessing.inputs is not None:
        points = preprocessing.inputs.apply(points)
    activation = points.astype(network.dtype)
    grids = []
    for layer, part in zip(network.layers, network.views(network.parameters), strict=True):
        activation = layer.forward(part, activation)
        if isinstance(layer, Dense):
            grids.append(activation.T.reshape(-1, resolution, resolution))
    if preprocessing.targets is not None:
        back = preprocessing.targets.invert(activation)
        grids[-1] = back.T.reshape(-1, resolution, resolution)
    return grids


def as_bytes(grid: Array) -> tuple[bytes, float, float]:
    """Return a grid as one byte a point, and the numbers that 0 and 255 stand for."""
    finite = np.nan_to_num(grid.astype(np.float64))
    low, high = float(finite.min()), float(finite.max())
    span = high - low or 1.0
    return ((finite - low) / span * 255.0).round().astype(np.uint8).tobytes(), low, low + span
