"""The forward pass of training and the forward pass of inference agree."""

import numpy as np
import pytest

from core.activations import ACTIVATIONS
from core.arrays import Array
from core.batches import Rows
from core.losses import LOSSES
from core.network import Network
from core.program import Program, pack_rows_for


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("row_major", [256, 1])
def test_the_recorded_forward_pass_agrees_and_does_not_overflow(
    activation: str, dtype: str, scale: float, row_major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.program.ROW_MAJOR_INPUTS", row_major)
    config = {
        "input_shape": [6],
        "dtype": dtype,
        "layers": [
            {"type": "dense", "units": 5, "activation": activation},
            {"type": "dense", "units": 4, "activation": activation},
        ],
    }
    network = Network.from_config(config)
    network.initialize(np.random.default_rng(0))
    rows = (np.random.default_rng(1).normal(0.0, scale, (7, 6))).astype(dtype)
    order = np.array([5, 0, 3, 3, 6, 1])
    packed = pack_rows_for(network, Rows(rows, np.zeros((7, 4))))
    program = Program(network, LOSSES["mse"](), packed, batch=3, steps=2)
    program.batches.fill(order)

    with np.errstate(over="ignore"):
        program.replay(2)

    expected = np.stack([network.forward(rows[batch]).T for batch in order.reshape(2, 3)])
    assert np.isfinite(program.outputs).all()
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(program.outputs, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_are_finite_at_the_limits_of_their_range(loss: str, dtype: type) -> None:
    outputs: Array = np.array([[0.0, 1.0], [1.0, 0.0]], dtype)
    targets: Array = np.array([[1.0, 0.0], [1.0, 0.0]], dtype)
    if LOSSES[loss].required_activation is None:
        outputs = outputs * dtype(1e4)

    assert np.isfinite(LOSSES[loss]().value(outputs, targets))
