"""Every layer, activation and loss: the recorded gradient against central differences."""

from collections.abc import Iterator
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from core.activations import ACTIVATIONS, LeakyReLU, Linear, ReLU
from core.arrays import Array
from core.batches import Rows
from core.errors import ConfigurationError
from core.gradient_check import TOLERANCE, gradient_check
from core.layers import LAYERS, Dense
from core.losses import LOSSES
from core.network import Network

PAIRS = [
    (output, loss)
    for loss in LOSSES
    for output in ACTIVATIONS
    if LOSSES[loss].after in {None, output}
]


def network(inputs: int, hidden: str, units: int, output: str, outputs: int, seed: int) -> Network:
    spec = {
        "input_shape": [inputs],
        "dtype": "float64",
        "layers": [
            {"type": "dropout", "rate": 0.25},
            {"type": "dense", "units": units, "activation": hidden},
            {"type": "dropout", "rate": 0.5},
            {"type": "dense", "units": outputs, "activation": output},
        ],
    }
    made = Network.from_spec(spec)
    made.initialize(np.random.default_rng(seed))
    for _, matrix in made.dense(made.parameters):  # biases that are not zero
        matrix[-1] = np.random.default_rng(seed + 1).normal(0.0, 0.5, matrix.shape[1])
    return made


def nearest_kink(made: Network, inputs: Array) -> float:
    """Return how close a rectifier's input is to zero, where there is no derivative."""
    nearest = np.inf
    for layer, part in zip(made.layers, made.views(made.parameters), strict=True):
        if isinstance(layer, Dense) and isinstance(layer.activation, ReLU | LeakyReLU):
            z = replace(layer, activation=Linear()).forward(part, inputs)
            nearest = min(nearest, float(np.abs(z).min()))
        inputs = layer.forward(part, inputs)
    return nearest


@pytest.fixture(scope="module", params=[256, 1], ids=["narrow", "wide"])
def tape(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.program.ROW_MAJOR_INPUTS", request.param)
        yield


@pytest.mark.usefixtures("tape")
@pytest.mark.parametrize("hidden", ACTIVATIONS)
@pytest.mark.parametrize(("output", "loss"), PAIRS)
@settings(max_examples=4, deadline=None)
@given(
    inputs=st.integers(1, 5),
    units=st.integers(1, 6),
    outputs=st.integers(1, 4),
    rows=st.integers(1, 6),
    seed=st.integers(0, 2**20),
)
def test_the_recorded_gradient_is_the_derivative_of_the_forward_pass(
    hidden: str, output: str, loss: str, inputs: int, units: int, outputs: int, rows: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    made = network(inputs, hidden, units, output, outputs, seed)
    targets: Array = generator.uniform(0.05, 0.95, (rows, outputs))
    if loss == "cross_entropy":
        targets /= targets.sum(axis=1, keepdims=True)
        targets = generator.integers(0, outputs, rows) if seed % 2 and outputs > 1 else targets
    data = Rows(generator.normal(0.0, 1.0, (rows, inputs)), targets)
    assume(nearest_kink(made, data.inputs) > 1e-4)
    if loss == "mae":
        assume(np.abs(made.forward(data.inputs) - targets).min() > 1e-4)

    checks = gradient_check(made, LOSSES[loss](), data)

    worst = max(checks, key=lambda check: check.largest_relative_error)
    assert worst.largest_relative_error <= TOLERANCE, worst


def test_the_checks_run_over_every_layer_there_is() -> None:
    assert set(LAYERS) == {"dense", "dropout"}


def test_a_wrong_gradient_is_found() -> None:
    made = network(3, "tanh", 4, "linear", 2, 1)
    data = Rows(np.ones((2, 3)), np.zeros((2, 2)))
    wrong = LOSSES["mse"]()
    honest = type(wrong).record_gradient

    def twice(self, tape, outputs, targets, gradient):  # type: ignore[no-untyped-def]
        honest(self, tape, outputs, targets, gradient)
        tape.add(np.add, gradient, gradient, gradient)

    type(wrong).record_gradient = twice  # type: ignore[method-assign]
    try:
        checks = gradient_check(made, wrong, data)
    finally:
        type(wrong).record_gradient = honest  # type: ignore[method-assign]

    assert max(check.largest_relative_error for check in checks) > 0.1


def test_cross_entropy_refuses_targets_that_are_no_distribution() -> None:
    made = network(2, "tanh", 2, "softmax", 2, 1)

    with pytest.raises(ConfigurationError, match="sum to 1"):
        gradient_check(made, LOSSES["cross_entropy"](), Rows(np.ones((1, 2)), np.ones((1, 2))))


@pytest.mark.parametrize("loss", [name for name in LOSSES if LOSSES[name].after])
def test_a_loss_refuses_outputs_that_it_is_not_made_for(loss: str) -> None:
    with pytest.raises(ConfigurationError, match="needs a last layer with"):
        LOSSES[loss]().check_output("linear")
