"""What is done to a gradient before the optimizer sees it."""

from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np

from core.configuration import require
from core.optimizers import Vectors
from core.tape import Tape, scalar


@final
@dataclass(frozen=True, slots=True)
class Regularization:
    """An l2 penalty, then clipping by the global norm (Pascanu et al., 2013).

    Attributes
    ----------
    l2
        Adds l2 * w to the gradient of every weight, not of biases: the derivative of l2 / 2 |w|^2.
    gradient_clip_norm
        Scales the whole gradient down to this Euclidean norm where it is longer.
    """

    l2: float = 0.0
    gradient_clip_norm: float | None = None

    def __post_init__(self) -> None:
        require("l2", self.l2, low=0.0)
        if self.gradient_clip_norm is not None:
            require("gradient_clip_norm", self.gradient_clip_norm, low=1e-30)

    def record(self, tape: Tape, vectors: Vectors) -> None:
        """Record what is done to the whole gradient."""
        g, scratch = vectors.gradient, vectors.scratch
        if self.l2:
            factors = tape.constant(lambda: vectors.decayed * np.asarray(self.l2, tape.dtype))
            tape.add(np.multiply, vectors.parameters, factors, scratch)
            tape.add(np.add, g, scratch, g)
        if self.gradient_clip_norm is not None:
            largest = float(np.finfo(tape.dtype).max)
            longest = scalar(min(self.gradient_clip_norm, largest), tape.dtype)
            norm = np.empty((), tape.dtype)
            tape.product(g, g, norm)
            tape.add(np.sqrt, norm, norm)
            tape.add(partial(np.maximum, norm, longest, out=norm))
            tape.add(np.divide, longest, norm, norm)
            tape.add(np.multiply, g, norm, g)
