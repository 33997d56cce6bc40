"""Attributions against differences, and integrals against what they integrate."""

import numpy as np
import pytest

from core.decision_boundary import as_bytes, units_over_plane
from core.explanation import gradient, integrated_gradients
from core.inference import Forward
from core.network import Network
from core.preprocessing import Preprocessing, Standardization

SCALED = Preprocessing(Standardization(np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.5, 4.0])))


def network(last: str, units: int = 3) -> Network:
    spec = {
        "input_shape": [3],
        "layers": [
            {"type": "dense", "units": 6, "activation": "tanh"},
            {"type": "dropout", "rate": 0.5},
            {"type": "dense", "units": units, "activation": last},
        ],
        "dtype": "float64",
    }
    made = Network.from_spec(spec)
    made.initialize(np.random.default_rng(1))
    return made


@pytest.mark.parametrize("last", ["softmax", "sigmoid", "linear"])
@pytest.mark.parametrize("preprocessing", [Preprocessing(), SCALED])
def test_the_gradient_agrees_with_differences(last: str, preprocessing: Preprocessing) -> None:
    made = network(last)
    forward = Forward(made, preprocessing)
    rows = np.random.default_rng(2).normal(size=(4, 3))

    told = gradient(made, preprocessing, rows, 1)

    for column in range(3):
        step = np.zeros(3)
        step[column] = 1e-6
        slopes = (forward(rows + step)[:, 1] - forward(rows - step)[:, 1]) / 2e-6
        assert np.allclose(told.values[:, column], slopes, rtol=1e-5, atol=1e-8)
    assert np.allclose(told.outputs, forward(rows)[:, 1])


@pytest.mark.parametrize("preprocessing", [Preprocessing(), SCALED])
def test_integrated_gradients_add_up_to_the_difference(preprocessing: Preprocessing) -> None:
    made = network("softmax")
    rows = np.random.default_rng(3).normal(size=(5, 3))
    baseline = np.array([0.1, -0.1, 0.0])

    told = integrated_gradients(made, preprocessing, rows, 2, baseline)

    forward = Forward(made, preprocessing)
    difference = forward(rows)[:, 2] - forward(baseline[None])[0, 2]
    assert told.gaps is not None
    assert np.abs(told.gaps).max() < 1e-4
    assert np.allclose(told.values.sum(axis=1) + told.gaps, difference)


def test_of_a_straight_line_each_input_gets_its_own_share() -> None:
    made = Network.from_spec(
        {
            "input_shape": [2],
            "layers": [{"type": "dense", "units": 1, "activation": "linear"}],
            "dtype": "float64",
        }
    )
    made.parameters[:] = [3.0, -2.0, 7.0]

    told = integrated_gradients(
        made, Preprocessing(), np.array([[1.0, 1.0], [2.0, 0.0]]), 0, np.zeros(2)
    )

    assert np.allclose(told.values, [[3.0, -2.0], [6.0, 0.0]])


def test_the_plane_is_drawn_as_pictures_are() -> None:
    made = Network.from_spec(
        {
            "input_shape": [2],
            "layers": [{"type": "dense", "units": 2, "activation": "linear"}],
            "dtype": "float64",
        }
    )
    made.parameters[:] = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]  # the units repeat x and y

    (grids,) = units_over_plane(made, Preprocessing(), (0.0, 4.0), (10.0, 14.0), 5)

    assert grids[0][0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert grids[1][:, 0].tolist() == [14.0, 13.0, 12.0, 11.0, 10.0]
    data, low, high = as_bytes(grids[0])
    assert (low, high) == (0.0, 4.0)
    assert list(data[:5]) == [0, 64, 128, 191, 255]
    assert as_bytes(np.full((2, 2), 3.0)) == (bytes(4), 3.0, 4.0)
