"""Compare gradients with differences, and integrated gradients with the integrated function."""

import numpy as np
import pytest

from core.decision_boundary import activation_grids, quantize
from core.explanation import gradient, integrated_gradients
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing, Standardization

SCALED = Preprocessing(Standardization(np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.5, 4.0])))


def build_network(last: str, units: int = 3) -> Network:
    config = {
        "input_shape": [3],
        "layers": [
            {"type": "dense", "units": 6, "activation": "tanh"},
            {"type": "dropout", "rate": 0.5},
            {"type": "dense", "units": units, "activation": last},
        ],
        "dtype": "float64",
    }
    network = Network.from_config(config)
    network.initialize(np.random.default_rng(1))
    return network


@pytest.mark.parametrize("last", ["softmax", "sigmoid", "linear"])
@pytest.mark.parametrize("preprocessing", [Preprocessing(), SCALED])
def test_the_gradient_agrees_with_differences(last: str, preprocessing: Preprocessing) -> None:
    network = build_network(last)
    forward = Forward(network, preprocessing)
    rows = np.random.default_rng(2).normal(size=(4, 3))

    attributions = gradient(network, preprocessing, rows, 1)

    for column in range(3):
        step = np.zeros(3)
        step[column] = 1e-6
        differences = (forward(rows + step)[:, 1] - forward(rows - step)[:, 1]) / 2e-6
        assert np.allclose(attributions.values[:, column], differences, rtol=1e-5, atol=1e-8)
    assert np.allclose(attributions.outputs, forward(rows)[:, 1])


@pytest.mark.parametrize("preprocessing", [Preprocessing(), SCALED])
def test_integrated_gradients_add_up_to_the_difference(preprocessing: Preprocessing) -> None:
    network = build_network("softmax")
    rows = np.random.default_rng(3).normal(size=(5, 3))
    baseline = np.array([0.1, -0.1, 0.0])

    attributions = integrated_gradients(network, preprocessing, rows, 2, baseline)

    forward = Forward(network, preprocessing)
    difference = forward(rows)[:, 2] - forward(baseline[None])[0, 2]
    assert attributions.gaps is not None
    assert np.abs(attributions.gaps).max() < 1e-4
    assert np.allclose(attributions.values.sum(axis=1) + attributions.gaps, difference)


def test_inputs_of_a_linear_network_receive_their_own_contributions() -> None:
    network = Network.from_config(
        {
            "input_shape": [2],
            "layers": [{"type": "dense", "units": 1, "activation": "linear"}],
            "dtype": "float64",
        }
    )
    network.parameters[:] = [3.0, -2.0, 7.0]

    attributions = integrated_gradients(
        network, Preprocessing(), np.array([[1.0, 1.0], [2.0, 0.0]]), 0, np.zeros(2)
    )

    assert np.allclose(attributions.values, [[3.0, -2.0], [6.0, 0.0]])


def test_grids_are_ordered_like_images() -> None:
    network = Network.from_config(
        {
            "input_shape": [2],
            "layers": [{"type": "dense", "units": 2, "activation": "linear"}],
            "dtype": "float64",
        }
    )
    network.parameters[:] = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]  # the two units are x and y

    (grids,) = activation_grids(network, Preprocessing(), (0.0, 4.0), (10.0, 14.0), 5)

    assert grids[0][0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert grids[1][:, 0].tolist() == [14.0, 13.0, 12.0, 11.0, 10.0]
    data, low, high = quantize(grids[0])
    assert (low, high) == (0.0, 4.0)
    assert list(data[:5]) == [0, 64, 128, 191, 255]
    assert quantize(np.full((2, 2), 3.0)) == (bytes(4), 3.0, 4.0)
