"""Frames of a training: what every unit says across the plane, every so many epochs."""

import base64
from collections.abc import Mapping
from typing import Any, Final, final

from core.decision_boundary import as_bytes, units_over_plane
from core.network import Network
from core.preprocessing import Preprocessing

FRAMES: Final = 100
"""About how many a whole training has."""


@final
class FrameSchedule:
    """Says which epochs have a frame, the same ones however often a job is resumed.

    Parameters
    ----------
    boundary
        ``{"resolution", "x", "y"}`` as the job asked for it.
    """

    def __init__(self, boundary: Mapping[str, Any], epochs: int) -> None:
        self._x, self._y = tuple(boundary["x"]), tuple(boundary["y"])
        self._resolution = boundary["resolution"]
        self._stride = max(1, epochs // FRAMES)

    def includes(self, epoch: int) -> bool:
        """Tell whether an epoch has a frame."""
        return epoch == 1 or epoch % self._stride == 0

    def epochs_until_next(self, epoch: int) -> int:
        """Return how many epochs there are to the next frame."""
        return 1 if epoch == 0 else self._stride - epoch % self._stride

    def frame(self, network: Network, preprocessing: Preprocessing, epoch: int) -> dict[str, Any]:
        """Return the frame: a grid of bytes for each unit, in base 64, and what they stand for."""
        layers = []
        for grids in units_over_plane(network, preprocessing, self._x, self._y, self._resolution):
            units = []
            for grid in grids:
                data, low, high = as_bytes(grid)
                units.append({"grid": base64.b64encode(data).decode(), "low": low, "high": high})
            layers.append(units)
        return {
            "epoch": epoch,
            "resolution": self._resolution,
            "x": list(self._x),
            "y": list(self._y),
            "layers": layers,
        }
