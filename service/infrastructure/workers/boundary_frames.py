"""Decision-boundary frames: the outputs of all units over the plane, recorded during training."""

import base64
from collections.abc import Mapping
from typing import Any, Final, final

from core.decision_boundary import activation_grids, quantize
from core.network import Network
from core.preprocessing import Preprocessing

FRAMES: Final = 100
"""Approximate number of frames of a complete training run."""


@final
class FrameSchedule:
    """The epochs that have a frame. They do not depend on whether a job was resumed.

    Parameters
    ----------
    boundary
        ``{"resolution", "x", "y"}`` as requested for the job.
    epochs
        Number of epochs of the job.
    """

    def __init__(self, boundary: Mapping[str, Any], epochs: int) -> None:
        self._x, self._y = tuple(boundary["x"]), tuple(boundary["y"])
        self._resolution = boundary["resolution"]
        self._stride = max(1, epochs // FRAMES)

    def includes(self, epoch: int) -> bool:
        """Return True if the epoch has a frame."""
        return epoch == 1 or epoch % self._stride == 0

    def epochs_until_next(self, epoch: int) -> int:
        """Return the number of epochs until the next frame."""
        return 1 if epoch == 0 else self._stride - epoch % self._stride

    def frame(self, network: Network, preprocessing: Preprocessing, epoch: int) -> dict[str, Any]:
        """Return the frame: for each unit a base64 grid of bytes, and the values of 0 and 255."""
        layers = []
        for grids in activation_grids(network, preprocessing, self._x, self._y, self._resolution):
            units = []
            for grid in grids:
                data, low, high = quantize(grid)
                units.append({"grid": base64.b64encode(data).decode(), "low": low, "high": high})
            layers.append(units)
        return {
            "epoch": epoch,
            "resolution": self._resolution,
            "x": list(self._x),
            "y": list(self._y),
            "layers": layers,
        }
