"""Compare recorded gradients with central differences for every layer, activation and loss."""

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
    if LOSSES[loss].required_activation in {None, output}
]


def build_network(
    inputs: int, hidden: str, units: int, output: str, outputs: int, seed: int
) -> Network:
    config = {
        "input_shape": [inputs],
        "dtype": "float64",
        "layers": [
            {"type": "dropout", "rate": 0.25},
            {"type": "dense", "units": units, "activation": hidden},
            {"type": "dropout", "rate": 0.5},
            {"type": "dense", "units": outputs, "activation": output},
        ],
    }
    network = Network.from_config(config)
    network.initialize(np.random.default_rng(seed))
    for _, matrix in network.dense(network.parameters):  # non-zero biases
        matrix[-1] = np.random.default_rng(seed + 1).normal(0.0, 0.5, matrix.shape[1])
    return network


def nearest_kink(network: Network, inputs: Array) -> float:
    """Return the distance of the closest rectifier input from zero, where it has a kink."""
    nearest = np.inf
    for layer, part in zip(network.layers, network.views(network.parameters), strict=True):
        if isinstance(layer, Dense) and isinstance(layer.activation, ReLU | LeakyReLU):
            z = replace(layer, activation=Linear()).forward(part, inputs)
            nearest = min(nearest, float(np.abs(z).min()))
        inputs = layer.forward(part, inputs)
    return nearest


@pytest.fixture(scope="module", params=[256, 1], ids=["feature_major", "row_major"])
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
    network = build_network(inputs, hidden, units, output, outputs, seed)
    targets: Array = generator.uniform(0.05, 0.95, (rows, outputs))
    if loss == "cross_entropy":
        targets /= targets.sum(axis=1, keepdims=True)
        targets = generator.integers(0, outputs, rows) if seed % 2 and outputs > 1 else targets
    data = Rows(generator.normal(0.0, 1.0, (rows, inputs)), targets)
    assume(nearest_kink(network, data.inputs) > 1e-4)
    if loss == "mae":
        assume(np.abs(network.forward(data.inputs) - targets).min() > 1e-4)

    checks = gradient_check(network, LOSSES[loss](), data)

    worst = max(checks, key=lambda check: check.largest_relative_error)
    assert worst.largest_relative_error <= TOLERANCE, worst


def test_the_checks_cover_every_layer() -> None:
    assert set(LAYERS) == {"dense", "dropout"}


def test_a_wrong_gradient_is_detected() -> None:
    network = build_network(3, "tanh", 4, "linear", 2, 1)
    data = Rows(np.ones((2, 3)), np.zeros((2, 2)))
    wrong = LOSSES["mse"]()
    original = type(wrong).record_gradient

    def doubled_gradient(self, tape, outputs, targets, gradient):  # type: ignore[no-untyped-def]
        original(self, tape, outputs, targets, gradient)
        tape.add(np.add, gradient, gradient, gradient)

    type(wrong).record_gradient = doubled_gradient  # type: ignore[method-assign]
    try:
        checks = gradient_check(network, wrong, data)
    finally:
        type(wrong).record_gradient = original  # type: ignore[method-assign]

    assert max(check.largest_relative_error for check in checks) > 0.1


def test_cross_entropy_rejects_targets_that_do_not_sum_to_one() -> None:
    network = build_network(2, "tanh", 2, "softmax", 2, 1)

    with pytest.raises(ConfigurationError, match="sum to 1"):
        gradient_check(network, LOSSES["cross_entropy"](), Rows(np.ones((1, 2)), np.ones((1, 2))))


@pytest.mark.parametrize("loss", [name for name in LOSSES if LOSSES[name].required_activation])
def test_a_loss_rejects_an_unsupported_output_activation(loss: str) -> None:
    with pytest.raises(ConfigurationError, match="requires the output activation"):
        LOSSES[loss]().check_output("linear")
