"""The trainer: its state, its ends, and what it learns."""

import multiprocessing
from typing import Any

import numpy as np
import pytest

from core.batches import Rows
from core.configuration import build
from core.datasets import clean_digits, noisy_digits, sine, xor
from core.errors import ConfigurationError, DivergedError, FormatError, ShapeError
from core.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    MeanSquaredError,
)
from core.network import Network
from core.optimizers import OPTIMIZERS, SGD, Adam
from core.regularization import Regularization
from core.schedules import SCHEDULES, Cosine
from core.training import Trainer, split
from core.training_config import EarlyStopping, TrainingConfig

OPTIMIZER_CONFIGS = [
    {"type": "sgd", "learning_rate": 0.1},
    {"type": "sgd", "learning_rate": 0.05, "momentum": 0.9},
    {"type": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    {"type": "adam", "learning_rate": 0.01},
    {"type": "adamw", "learning_rate": 0.01},
    {"type": "rmsprop", "learning_rate": 0.01},
]


def made(widths: list[int], hidden: str, output: str, *, dropout: float = 0.0) -> Network:
    layers: list[dict[str, Any]] = []
    for units in widths[1:-1]:
        layers.append({"type": "dense", "units": units, "activation": hidden})
        if dropout:
            layers.append({"type": "dropout", "rate": dropout})
    layers.append({"type": "dense", "units": widths[-1], "activation": output})
    network = Network.from_spec({"input_shape": [widths[0]], "layers": layers})
    network.initialize(np.random.default_rng(7))
    return network


def trainer(optimizer: dict[str, Any], *, epochs: int = 12, schedule: str = "cosine") -> Trainer:
    digits = noisy_digits(203, seed=3)
    rows = Rows(digits.inputs, digits.targets)
    train, held_out = split(203, 0.2, seed=5)
    config = TrainingConfig(
        epochs=epochs,
        batch_size=16,
        loss=CrossEntropy(),
        optimizer=build(OPTIMIZERS, "optimizer", optimizer),
        schedule=build(SCHEDULES, "schedule", schedule),
        regularization=Regularization(1e-4, 5.0),
        early_stopping=EarlyStopping(patience=50),
        seed=11,
    )
    return Trainer(
        made([25, 12, 10], "relu", "softmax", dropout=0.2),
        Rows(rows.inputs[train], rows.targets[train]),
        config,
        Rows(rows.inputs[held_out].astype(np.float32), rows.targets[held_out]),
    )


def resumed(optimizer: dict[str, Any], state: bytes, schedule: str) -> tuple[bytes, bytes]:
    again = trainer(optimizer, schedule=schedule)
    again.restore(state)
    list(again)
    return again.state(), again.result().tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZER_CONFIGS, ids=lambda config: str(config))
def test_a_training_resumed_in_another_process_ends_in_the_same_bytes(
    optimizer: dict[str, Any],
) -> None:
    straight = trainer(optimizer)
    list(straight)
    interrupted = trainer(optimizer)
    interrupted.advance(5)

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        state, result = pool.apply(resumed, (optimizer, interrupted.state(), "cosine"))

    assert state == straight.state()
    assert result == straight.result().tobytes()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_resumes_to_the_same_bytes(schedule: str) -> None:
    straight = trainer(OPTIMIZER_CONFIGS[1], schedule=schedule)
    list(straight)
    interrupted = trainer(OPTIMIZER_CONFIGS[1], schedule=schedule)
    interrupted.advance(7)

    state, _ = resumed(OPTIMIZER_CONFIGS[1], interrupted.state(), schedule)

    assert state == straight.state()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_epochs_run_together_or_one_by_one_give_the_same_bytes(dropout: float) -> None:
    def whole() -> Trainer:
        corners = xor()
        config = TrainingConfig(300, 4, BinaryCrossEntropy(), SGD(0.5, 0.9), Cosine(), seed=3)
        network = made([2, 8, 1], "tanh", "sigmoid", dropout=dropout)
        return Trainer(network, Rows(corners.inputs, corners.targets), config)

    together, apart = whole(), whole()
    first = together.advance(300)
    second = list(apart)

    assert first == second
    assert together.state() == apart.state()


def test_xor_is_learned_from_ten_of_ten_seeds() -> None:
    corners = xor()
    for seed in range(10):
        network = made([2, 8, 1], "tanh", "sigmoid")
        network.initialize(np.random.default_rng(seed))
        config = TrainingConfig(5000, 4, BinaryCrossEntropy(), Adam(0.05), target_loss=0.005)
        training = Trainer(network, Rows(corners.inputs, corners.targets), config)

        last = training.advance(5000)[-1]

        assert last.train_loss < 0.01
        outputs = network.predict(corners.inputs)[:, 0]
        assert ((outputs > 0.5) == corners.targets).all()


@pytest.mark.slow
def test_the_sine_is_learned_to_two_hundredths() -> None:
    curve = sine(200)
    network = made([1, 32, 16, 1], "tanh", "linear")
    config = TrainingConfig(500, 32, MeanSquaredError(), Adam(0.005), Cosine(), seed=1)

    Trainer(network, Rows(curve.inputs, curve.targets), config).advance(500)

    error = np.abs(network.predict(curve.inputs) - np.sin(curve.inputs)).mean()
    assert error < 0.02


@pytest.mark.slow
def test_the_digits_are_learned() -> None:
    digits, fresh = noisy_digits(1000, seed=1), noisy_digits(2000, seed=99)
    network = made([25, 32, 16, 10], "relu", "softmax")
    config = TrainingConfig(300, 32, CrossEntropy(), SGD(0.5), seed=1)

    Trainer(network, Rows(digits.inputs, digits.targets), config).advance(300)

    assert (network.predict(fresh.inputs).argmax(axis=1) == fresh.targets).mean() > 0.9
    assert (network.predict(clean_digits()).argmax(axis=1) == np.arange(10)).all()


@pytest.mark.parametrize("batch_size", [1, 7, 32, 203])
def test_every_row_is_trained_whatever_the_batch_size(batch_size: int) -> None:
    rows = Rows(np.arange(203.0).reshape(-1, 1), np.zeros((203, 1)))
    network = made([1, 1], "linear", "linear")
    network.parameters[:] = 0.0
    network.parameters[0] = 1.0
    frozen = TrainingConfig(1, batch_size, MeanSquaredError(), SGD(0.0), seed=2)

    epoch = Trainer(network, rows, frozen).advance(1)[0]

    assert epoch.train_loss == pytest.approx(np.mean(np.arange(203.0) ** 2))


def test_early_stopping_keeps_the_best_weights() -> None:
    generator = np.random.default_rng(0)
    rows = Rows(generator.normal(size=(40, 3)), generator.normal(size=(40, 1)))
    held_out = Rows(generator.normal(size=(40, 3)).astype("f4"), generator.normal(size=(40, 1)))
    config = TrainingConfig(
        500, 8, MeanSquaredError(), Adam(0.02), early_stopping=EarlyStopping(patience=15), seed=1
    )
    training = Trainer(made([3, 24, 1], "relu", "linear"), rows, config, held_out)

    epochs = list(training)

    best = min(epochs, key=lambda epoch: epoch.validation_loss or 0.0)
    assert training.progress.stop_reason == "early_stopped"
    assert training.progress.best_epoch == best.epoch == epochs[-1].epoch - 15
    training.network.parameters[:] = training.result()
    loss = config.loss.value(training.network.forward(held_out.inputs), held_out.targets)
    assert loss == pytest.approx(best.validation_loss)


@pytest.mark.parametrize("batch_size", [16, 1000])
def test_divergence_is_raised_with_its_epoch_and_the_last_finite_weights(batch_size: int) -> None:
    generator = np.random.default_rng(0)
    rows = Rows(generator.normal(size=(64, 3)), generator.normal(size=(64, 1)))
    network = made([3, 8, 1], "relu", "linear")
    training = Trainer(
        network, rows, TrainingConfig(500, batch_size, MeanSquaredError(), SGD(30.0))
    )

    with pytest.raises(DivergedError) as caught:
        [training.advance(100) for _ in range(5)]

    assert caught.value.epoch == training.progress.epoch + 1
    assert np.isfinite(network.parameters).all()


def test_clipping_bounds_the_step_and_l2_shrinks_only_weights() -> None:
    rows = Rows(np.full((1, 1), 1000.0), np.full((1, 1), -1000.0))
    network = made([1, 1], "linear", "linear")
    network.parameters[:] = 0.0
    clipped = TrainingConfig(
        1, 1, MeanSquaredError(), SGD(1.0), regularization=Regularization(0.0, 0.5)
    )

    Trainer(network, rows, clipped).advance(1)

    assert np.linalg.norm(network.parameters) == pytest.approx(0.5, rel=1e-5)
    network.parameters[:] = [2.0, 3.0]
    still = Rows(np.zeros((1, 1)), np.full((1, 1), 3.0))
    shrink = TrainingConfig(1, 1, MeanSquaredError(), SGD(1.0), regularization=Regularization(0.25))
    Trainer(network, still, shrink).advance(1)
    np.testing.assert_allclose(network.parameters, [1.5, 3.0])


@pytest.mark.parametrize("batch_size", [16, 50, 1000])
@pytest.mark.parametrize("validates", [False, True])
@pytest.mark.parametrize("classifies", [False, True])
def test_a_wide_tape_learns_what_a_narrow_one_does(
    batch_size: int, validates: bool, classifies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = noisy_digits(203, seed=3)
    rows = Rows(digits.inputs, digits.targets if classifies else digits.inputs[:, :10])
    config = TrainingConfig(
        7, batch_size, CrossEntropy() if classifies else MeanSquaredError(), SGD(0.1, 0.9)
    )
    told, parameters = [], []

    for row_major in (256, 1):
        monkeypatch.setattr("core.program.ROW_MAJOR_INPUTS", row_major)
        network = made([25, 12, 10], "softmax", "softmax" if classifies else "linear")
        told.append(list(Trainer(network, rows, config, rows if validates else None)))
        parameters.append(network.parameters)

    np.testing.assert_allclose(parameters[0], parameters[1], rtol=1e-3, atol=1e-5)
    for narrow, wide_epoch in zip(*told, strict=True):
        assert narrow.train_loss == pytest.approx(wide_epoch.train_loss, rel=1e-4)
        assert narrow.train_accuracy == pytest.approx(wide_epoch.train_accuracy, abs=0.01)


def test_a_state_of_another_network_is_refused() -> None:
    one, other = trainer(OPTIMIZER_CONFIGS[0]), trainer(OPTIMIZER_CONFIGS[3])

    with pytest.raises(ShapeError):
        one.restore(other.state())
    with pytest.raises(FormatError):
        one.restore(b"\x02\0\0\0\0\0\0\0{}")


def test_no_rows_and_no_epochs_are_refused() -> None:
    network = made([1, 1], "linear", "linear")
    config = TrainingConfig(1, 1, MeanSquaredError(), SGD())

    with pytest.raises(ShapeError):
        Trainer(network, Rows(np.zeros((0, 1)), np.zeros((0, 1))), config)
    with pytest.raises(ConfigurationError):
        TrainingConfig(0, 1, MeanSquaredError(), SGD())


@pytest.mark.parametrize(("rows", "held_out"), [(1, 0), (2, 1), (10, 2), (100, 20)])
def test_a_split_leaves_at_least_one_row_on_each_side(rows: int, held_out: int) -> None:
    train, validate = split(rows, 0.2, seed=1)

    assert len(validate) == held_out
    assert sorted([*train, *validate]) == list(range(rows))
