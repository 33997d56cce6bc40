"""Losses: values computed by hand, limits, and target validation."""

import math

import numpy as np
import pytest

from core.arrays import Array
from core.errors import ConfigurationError
from core.losses import LOSSES, BinaryCrossEntropy, CrossEntropy, Huber, Loss

OUTPUTS: Array = np.array([[0.5, 3.0], [0.25, 0.0]])
TARGETS: Array = np.array([[1.0, 1.0], [0.0, 0.5]])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (LOSSES["mse"](), (0.5**2 + 2.0**2 + 0.25**2 + 0.5**2) / 4),
        (LOSSES["mae"](), (0.5 + 2.0 + 0.25 + 0.5) / 4),
        (Huber(), (0.5**2 / 2 + (2.0 - 0.5) + 0.25**2 / 2 + 0.5**2 / 2) / 4),
        (Huber(0.5), (0.125 + 0.5 * (2.0 - 0.25) + 0.25**2 / 2 + 0.125) / 4),
    ],
    ids=lambda value: str(value),
)
def test_a_regression_loss_averages_rows_and_outputs(loss: Loss, expected: float) -> None:
    assert loss.value(OUTPUTS, TARGETS) == pytest.approx(expected)


def test_cross_entropy_sums_a_rows_outputs_and_averages_rows() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    expected = -(math.log(0.25) + math.log(0.8)) / 2

    assert CrossEntropy().value(probabilities, np.array([1, 1])) == pytest.approx(expected)
    soft = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert CrossEntropy().value(probabilities, soft) == pytest.approx(expected)


def test_binary_cross_entropy_averages_independent_outputs() -> None:
    probabilities = np.array([[0.9, 0.2]])
    expected = -(math.log(0.9) + math.log(0.8)) / 2

    assert BinaryCrossEntropy().value(probabilities, np.array([[1.0, 0.0]])) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_binary_cross_entropy_is_continuous_where_a_probability_rounds_to_one(
    dtype: str, target: float
) -> None:
    z = np.linspace(-40.0, 40.0, 801)
    probabilities = (1.0 / (1.0 + np.exp(-z))).astype(dtype).reshape(-1, 1)

    losses = BinaryCrossEntropy().elements(probabilities, np.full_like(probabilities, target))

    assert np.abs(np.diff(losses[:, 0])).max() < 1.5
    exact = np.logaddexp(0.0, z if target == 0.0 else -z)
    near = np.abs(z) < 15.0
    np.testing.assert_allclose(losses[near, 0], exact[near], rtol=0.2)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("targets", [[[3.0, -2.0]], [[5.0, 0.0]], [[math.nan, 1.0]]])
def test_targets_that_are_not_probabilities_are_rejected(
    loss: str, targets: list[list[float]]
) -> None:
    with pytest.raises(ConfigurationError, match="from 0 to 1"):
        LOSSES[loss]().check_targets(np.array(targets), 2)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("indices", "units"), [([0, 3], 3), ([-1], 3), ([2], 1)])
def test_unknown_classes_are_rejected(loss: str, indices: list[int], units: int) -> None:
    with pytest.raises(ConfigurationError, match="requires classes from 0"):
        LOSSES[loss]().check_targets(np.array(indices), units)


def test_valid_targets_are_accepted() -> None:
    CrossEntropy().check_targets(np.array([[0.25, 0.75], [1.0, 0.0]]), 2)
    BinaryCrossEntropy().check_targets(np.array([[0.25, 0.5]]), 2)
    LOSSES["mse"]().check_targets(np.array([[-5.0, 1e9]]), 2)
    BinaryCrossEntropy().check_targets(np.array([0, 1]), 1)
