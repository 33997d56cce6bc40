"""Forward passes of one row and of many rows, and how far they agree."""

import threading

import numpy as np
import pytest

from core.errors import NonFiniteError, ShapeError
from core.inference import ROUNDING, Forward
from core.network import Network
from core.preprocessing import Preprocessing, Standardization


def build_network(widths: list[int], dtype: str = "float32", last: str = "softmax") -> Network:
    layers = [
        {"type": "dense", "units": units, "activation": "relu" if index else last}
        for index, units in reversed(list(enumerate(reversed(widths[1:]))))
    ]
    network = Network.from_config({"input_shape": widths[:1], "layers": layers, "dtype": dtype})
    network.initialize(np.random.default_rng(1))
    for _, matrix in network.dense(network.parameters):
        matrix[-1] = np.random.default_rng(2).normal(0.0, 0.3, matrix.shape[1])
    return network


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("widths", [[1, 1], [2, 8, 1], [25, 32, 16, 10], [784, 128, 10]])
def test_outputs_of_a_row_are_nearly_independent_of_its_batch(
    widths: list[int], dtype: str
) -> None:
    forward = Forward(build_network(widths, dtype, "linear"), Preprocessing())
    rows = np.random.default_rng(2).normal(size=(200, widths[0]))
    joint = forward(rows)
    scale = float(np.abs(joint).max())

    for batch in (1, 2, 3, 5, 16, 64):
        parts = [forward(rows[start : start + batch]) for start in range(0, 200, batch)]
        separate = np.vstack(parts)
        assert float(np.abs(separate - joint).max()) <= ROUNDING[dtype] * scale, batch


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("widths", [[6, 5, 4], [700, 80, 10]])
def test_any_number_of_rows_uses_the_same_equations(rows: int, widths: list[int]) -> None:
    network = build_network(widths, "float64", "tanh")
    inputs = np.random.default_rng(3).normal(size=(rows, widths[0]))

    assert np.allclose(
        Forward(network, Preprocessing())(inputs), network.forward(inputs), atol=1e-12
    )


def test_few_rows_of_a_large_network_are_bit_identical_to_single_rows() -> None:
    forward = Forward(build_network([784, 128, 10]), Preprocessing())
    rows = np.random.default_rng(4).normal(size=(3, 784))

    alone = np.vstack([forward(row[None]) for row in rows])

    assert forward(rows).tobytes() == alone.tobytes()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_rectifier_propagates_non_finite_values(count: int, sign: float) -> None:
    network = build_network([1, 2, 1], "float64", "relu")
    network.parameters[:] = 0.0
    network.parameters[:2] = 1e300
    network.parameters[4:6] = sign, -sign  # infinity minus infinity

    with pytest.raises(NonFiniteError):
        Forward(network, Preprocessing())(np.full((count, 1), 1e10))


@pytest.mark.parametrize("kind", ["sigmoid", "relu", "leaky_relu", "tanh", "softmax", "linear"])
def test_one_row_uses_the_same_equations(kind: str) -> None:
    network = build_network([6, 5, 4], "float64", kind)
    rows = np.random.default_rng(3).normal(size=(1, 6))

    assert np.allclose(Forward(network, Preprocessing())(rows), network.forward(rows), atol=1e-14)


def test_outputs_of_a_single_row_are_reproducible_bit_by_bit() -> None:
    forward = Forward(build_network([25, 32, 10]), Preprocessing())
    rows = np.random.default_rng(4).normal(size=(50, 25))
    first = [forward(row[None]).tobytes() for row in rows]

    again = [forward(row[None]).tobytes() for row in rows[::-1]]

    assert again[::-1] == first


def test_preprocessing_is_applied_to_inputs_and_outputs() -> None:
    network = build_network([3, 4, 2], "float64", "linear")
    scaling = Standardization(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 8.0]))
    target_scaling = Standardization(np.array([10.0, 20.0]), np.array([3.0, 5.0]))
    rows = np.random.default_rng(5).normal(size=(4, 3))

    outputs = Forward(network, Preprocessing(scaling, target_scaling))(rows)

    expected = (
        network.forward((rows - scaling.mean) / scaling.scale) * target_scaling.scale
        + target_scaling.mean
    )
    assert np.allclose(outputs, expected, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_non_finite_inputs_are_rejected(count: int, value: float) -> None:
    forward = Forward(build_network([3, 4, 2]), Preprocessing())
    rows = np.zeros((count, 3))
    rows[-1, 1] = value

    with pytest.raises(NonFiniteError) as caught:
        forward(rows)
    assert caught.value.path[0] == count - 1


def test_non_finite_outputs_are_rejected() -> None:
    network = build_network([1, 1], "float32", "linear")
    network.parameters[:] = [1e30, 0.0]

    with pytest.raises(NonFiniteError, match="outputs for row 0"):
        Forward(network, Preprocessing())(np.array([[1e30]]))


def test_large_finite_inputs_are_accepted() -> None:
    network = build_network([2, 2], "float32", "softmax")

    outputs = Forward(network, Preprocessing())(np.array([[1e30, -1e30]]))

    assert np.isfinite(outputs).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (2, 4), (1, 3, 1), (3,)])
@pytest.mark.parametrize("scaled", [False, True])
def test_rows_of_another_shape_are_rejected(shape: tuple[int, ...], scaled: bool) -> None:
    scaling = Standardization(np.zeros(3), np.ones(3)) if scaled else None
    forward = Forward(build_network([3, 2]), Preprocessing(scaling))

    with pytest.raises(ShapeError):
        forward(np.zeros(shape))


def test_threads_can_share_a_network() -> None:
    forward = Forward(build_network([25, 64, 10]), Preprocessing())
    rows = np.random.default_rng(6).normal(size=(8, 25))
    alone = [forward(row[None]).tobytes() for row in rows]
    wrong: list[int] = []

    def predict_repeatedly(index: int) -> None:
        wrong.extend(
            index for _ in range(300) if forward(rows[index][None]).tobytes() != alone[index]
        )

    threads = [threading.Thread(target=predict_repeatedly, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
