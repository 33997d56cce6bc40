"""Forward passes: one row through a tape, many through products, and how far the two agree."""

import threading

import numpy as np
import pytest

from core.errors import NonFiniteError, ShapeError
from core.inference import ROUNDING, Forward
from core.network import Network
from core.preprocessing import Preprocessing, Standardization


def network(widths: list[int], dtype: str = "float32", last: str = "softmax") -> Network:
    layers = [
        {"type": "dense", "units": units, "activation": "relu" if index else last}
        for index, units in reversed(list(enumerate(reversed(widths[1:]))))
    ]
    made = Network.from_spec({"input_shape": widths[:1], "layers": layers, "dtype": dtype})
    made.initialize(np.random.default_rng(1))
    for _, matrix in made.dense(made.parameters):
        matrix[-1] = np.random.default_rng(2).normal(0.0, 0.3, matrix.shape[1])
    return made


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("widths", [[1, 1], [2, 8, 1], [25, 32, 16, 10], [784, 128, 10]])
def test_a_rows_answer_hardly_depends_on_its_company(widths: list[int], dtype: str) -> None:
    forward = Forward(network(widths, dtype, "linear"), Preprocessing())
    rows = np.random.default_rng(2).normal(size=(200, widths[0]))
    together = forward(rows)
    scale = float(np.abs(together).max())

    for batch in (1, 2, 3, 5, 16, 64):
        parts = [forward(rows[at : at + batch]) for at in range(0, 200, batch)]
        apart = np.vstack(parts)
        assert float(np.abs(apart - together).max()) <= ROUNDING[dtype] * scale, batch


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("widths", [[6, 5, 4], [700, 80, 10]])
def test_however_many_rows_go_through_the_same_equations(rows: int, widths: list[int]) -> None:
    made = network(widths, "float64", "tanh")
    inputs = np.random.default_rng(3).normal(size=(rows, widths[0]))

    assert np.allclose(Forward(made, Preprocessing())(inputs), made.forward(inputs), atol=1e-12)


def test_few_rows_of_a_large_network_have_the_bits_of_each_alone() -> None:
    forward = Forward(network([784, 128, 10]), Preprocessing())
    rows = np.random.default_rng(4).normal(size=(3, 784))

    alone = np.vstack([forward(row[None]) for row in rows])

    assert forward(rows).tobytes() == alone.tobytes()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_rectifier_hides_nothing_that_is_not_finite(count: int, sign: float) -> None:
    made = network([1, 2, 1], "float64", "relu")
    made.parameters[:] = 0.0
    made.parameters[:2] = 1e300
    made.parameters[4:6] = sign, -sign  # infinity less infinity

    with pytest.raises(NonFiniteError):
        Forward(made, Preprocessing())(np.full((count, 1), 1e10))


@pytest.mark.parametrize("kind", ["sigmoid", "relu", "leaky_relu", "tanh", "softmax", "linear"])
def test_one_row_goes_through_the_same_equations(kind: str) -> None:
    made = network([6, 5, 4], "float64", kind)
    rows = np.random.default_rng(3).normal(size=(1, 6))

    assert np.allclose(Forward(made, Preprocessing())(rows), made.forward(rows), atol=1e-14)


def test_a_row_alone_is_the_same_bits_every_time() -> None:
    forward = Forward(network([25, 32, 10]), Preprocessing())
    rows = np.random.default_rng(4).normal(size=(50, 25))
    first = [forward(row[None]).tobytes() for row in rows]

    again = [forward(row[None]).tobytes() for row in rows[::-1]]

    assert again[::-1] == first


def test_preprocessing_is_applied_both_ways() -> None:
    made = network([3, 4, 2], "float64", "linear")
    scaling = Standardization(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 8.0]))
    back = Standardization(np.array([10.0, 20.0]), np.array([3.0, 5.0]))
    rows = np.random.default_rng(5).normal(size=(4, 3))

    told = Forward(made, Preprocessing(scaling, back))(rows)

    by_hand = made.forward((rows - scaling.mean) / scaling.scale) * back.scale + back.mean
    assert np.allclose(told, by_hand, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_is_refused(count: int, value: float) -> None:
    forward = Forward(network([3, 4, 2]), Preprocessing())
    rows = np.zeros((count, 3))
    rows[-1, 1] = value

    with pytest.raises(NonFiniteError) as caught:
        forward(rows)
    assert caught.value.path[0] == count - 1


def test_outputs_that_leave_the_finite_numbers_are_refused() -> None:
    made = network([1, 1], "float32", "linear")
    made.parameters[:] = [1e30, 0.0]

    with pytest.raises(NonFiniteError, match="outputs for row 0"):
        Forward(made, Preprocessing())(np.array([[1e30]]))


def test_large_finite_numbers_pass() -> None:
    made = network([2, 2], "float32", "softmax")

    told = Forward(made, Preprocessing())(np.array([[1e30, -1e30]]))

    assert np.isfinite(told).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (2, 4), (1, 3, 1), (3,)])
@pytest.mark.parametrize("scaled", [False, True])
def test_rows_of_another_width_are_refused(shape: tuple[int, ...], scaled: bool) -> None:
    scaling = Standardization(np.zeros(3), np.ones(3)) if scaled else None
    forward = Forward(network([3, 2]), Preprocessing(scaling))

    with pytest.raises(ShapeError):
        forward(np.zeros(shape))


def test_threads_share_a_network() -> None:
    forward = Forward(network([25, 64, 10]), Preprocessing())
    rows = np.random.default_rng(6).normal(size=(8, 25))
    alone = [forward(row[None]).tobytes() for row in rows]
    wrong: list[int] = []

    def ask(index: int) -> None:
        wrong.extend(
            index for _ in range(300) if forward(rows[index][None]).tobytes() != alone[index]
        )

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
