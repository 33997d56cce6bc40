"""Changes to a gradient before the optimizer uses it."""

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
    """An L2 penalty, followed by clipping to a global norm (Pascanu et al., 2013).

    Attributes
    ----------
    l2
        Adds l2 * w, the derivative of l2 / 2 |w|^2, to the gradient of weights but not of biases.
    gradient_clip_norm
        Scales the gradient down to this Euclidean norm if its norm is larger.
    """

    l2: float = 0.0
    gradient_clip_norm: float | None = None

    def __post_init__(self) -> None:
        require("l2", self.l2, low=0.0)
        if self.gradient_clip_norm is not None:
            require("gradient_clip_norm", self.gradient_clip_norm, low=1e-30)

    def record(self, tape: Tape, vectors: Vectors) -> None:
        """Record the changes to the gradient, in place.

        Parameters
        ----------
        tape
            Receives the calls.
        vectors
            Parameters, gradient and scratch space, (n,) each.
        """
        g, scratch = vectors.gradient, vectors.scratch
        if self.l2:
            factors = tape.constant(lambda: vectors.decayed * np.asarray(self.l2, tape.dtype))
            tape.add(np.multiply, vectors.parameters, factors, scratch)
            tape.add(np.add, g, scratch, g)
        if self.gradient_clip_norm is not None:
            dtype_max = float(np.finfo(tape.dtype).max)
            max_norm = scalar(min(self.gradient_clip_norm, dtype_max), tape.dtype)
            norm = np.empty((), tape.dtype)
            tape.product(g, g, norm)
            tape.add(np.sqrt, norm, norm)
            tape.add(partial(np.maximum, norm, max_norm, out=norm))
            tape.add(np.divide, max_norm, norm, norm)
            tape.add(np.multiply, g, norm, g)
