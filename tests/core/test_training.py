"""The trainer: resumption, stop reasons, and learning on small data sets."""

import multiprocessing
from itertools import pairwise
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
from core.training import Trainer
from core.training_config import EarlyStopping, TrainingConfig
from core.validation import split

OPTIMIZER_CONFIGS = [
    {"type": "sgd", "learning_rate": 0.1},
    {"type": "sgd", "learning_rate": 0.05, "momentum": 0.9},
    {"type": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    {"type": "adam", "learning_rate": 0.01},
    {"type": "adamw", "learning_rate": 0.01},
    {"type": "rmsprop", "learning_rate": 0.01},
]


def build_network(widths: list[int], hidden: str, output: str, *, dropout: float = 0.0) -> Network:
    layers: list[dict[str, Any]] = []
    for units in widths[1:-1]:
        layers.append({"type": "dense", "units": units, "activation": hidden})
        if dropout:
            layers.append({"type": "dropout", "rate": dropout})
    layers.append({"type": "dense", "units": widths[-1], "activation": output})
    network = Network.from_config({"input_shape": [widths[0]], "layers": layers})
    network.initialize(np.random.default_rng(7))
    return network


def build_trainer(
    optimizer: dict[str, Any], *, epochs: int = 12, schedule: str = "cosine"
) -> Trainer:
    digits = noisy_digits(203, seed=3)
    rows = Rows(digits.inputs, digits.targets)
    train, validation = split(203, 0.2, seed=5)
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
        build_network([25, 12, 10], "relu", "softmax", dropout=0.2),
        Rows(rows.inputs[train], rows.targets[train]),
        config,
        Rows(rows.inputs[validation].astype(np.float32), rows.targets[validation]),
    )


def resumed(optimizer: dict[str, Any], state: bytes, schedule: str) -> tuple[bytes, bytes]:
    restored = build_trainer(optimizer, schedule=schedule)
    restored.restore(state)
    list(restored)
    return restored.state(), restored.result().tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZER_CONFIGS, ids=lambda config: str(config))
def test_training_resumed_in_another_process_is_bit_identical(
    optimizer: dict[str, Any],
) -> None:
    uninterrupted = build_trainer(optimizer)
    list(uninterrupted)
    interrupted = build_trainer(optimizer)
    interrupted.advance(5)

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        state, result = pool.apply(resumed, (optimizer, interrupted.state(), "cosine"))

    assert state == uninterrupted.state()
    assert result == uninterrupted.result().tobytes()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_resumes_bit_for_bit(schedule: str) -> None:
    uninterrupted = build_trainer(OPTIMIZER_CONFIGS[1], schedule=schedule)
    list(uninterrupted)
    interrupted = build_trainer(OPTIMIZER_CONFIGS[1], schedule=schedule)
    interrupted.advance(7)

    state, _ = resumed(OPTIMIZER_CONFIGS[1], interrupted.state(), schedule)

    assert state == uninterrupted.state()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_epochs_in_one_call_or_separately_are_bit_identical(dropout: float) -> None:
    def build_full_batch_trainer() -> Trainer:
        corners = xor()
        config = TrainingConfig(300, 4, BinaryCrossEntropy(), SGD(0.5, 0.9), Cosine(), seed=3)
        network = build_network([2, 8, 1], "tanh", "sigmoid", dropout=dropout)
        return Trainer(network, Rows(corners.inputs, corners.targets), config)

    joint, separate = build_full_batch_trainer(), build_full_batch_trainer()
    first = joint.advance(300)
    second = list(separate)

    assert first == second
    assert joint.state() == separate.state()


def test_xor_is_learned_with_ten_of_ten_seeds() -> None:
    corners = xor()
    for seed in range(10):
        network = build_network([2, 8, 1], "tanh", "sigmoid")
        network.initialize(np.random.default_rng(seed))
        config = TrainingConfig(5000, 4, BinaryCrossEntropy(), Adam(0.05), target_loss=0.005)
        trainer = Trainer(network, Rows(corners.inputs, corners.targets), config)

        last = trainer.advance(5000)[-1]

        assert last.train_loss < 0.01
        outputs = network.predict(corners.inputs)[:, 0]
        assert ((outputs > 0.5) == corners.targets).all()


@pytest.mark.slow
def test_the_sine_is_learned_with_an_error_below_two_hundredths() -> None:
    curve = sine(200)
    network = build_network([1, 32, 16, 1], "tanh", "linear")
    config = TrainingConfig(500, 32, MeanSquaredError(), Adam(0.005), Cosine(), seed=1)

    Trainer(network, Rows(curve.inputs, curve.targets), config).advance(500)

    error = np.abs(network.predict(curve.inputs) - np.sin(curve.inputs)).mean()
    assert error < 0.02


@pytest.mark.slow
def test_the_digits_are_learned() -> None:
    digits, fresh = noisy_digits(1000, seed=1), noisy_digits(2000, seed=99)
    network = build_network([25, 32, 16, 10], "relu", "softmax")
    config = TrainingConfig(300, 32, CrossEntropy(), SGD(0.5), seed=1)

    Trainer(network, Rows(digits.inputs, digits.targets), config).advance(300)

    assert (network.predict(fresh.inputs).argmax(axis=1) == fresh.targets).mean() > 0.9
    assert (network.predict(clean_digits()).argmax(axis=1) == np.arange(10)).all()


@pytest.mark.parametrize("batch_size", [1, 7, 32, 203])
def test_every_row_is_trained_for_any_batch_size(batch_size: int) -> None:
    rows = Rows(np.arange(203.0).reshape(-1, 1), np.zeros((203, 1)))
    network = build_network([1, 1], "linear", "linear")
    network.parameters[:] = 0.0
    network.parameters[0] = 1.0
    frozen = TrainingConfig(1, batch_size, MeanSquaredError(), SGD(0.0), seed=2)

    epoch = Trainer(network, rows, frozen).advance(1)[0]

    assert epoch.train_loss == pytest.approx(np.mean(np.arange(203.0) ** 2))


def test_early_stopping_returns_the_best_weights() -> None:
    generator = np.random.default_rng(0)
    rows = Rows(generator.normal(size=(40, 3)), generator.normal(size=(40, 1)))
    validation = Rows(generator.normal(size=(40, 3)).astype("f4"), generator.normal(size=(40, 1)))
    config = TrainingConfig(
        500, 8, MeanSquaredError(), Adam(0.02), early_stopping=EarlyStopping(patience=15), seed=1
    )
    trainer = Trainer(build_network([3, 24, 1], "relu", "linear"), rows, config, validation)

    epochs = list(trainer)

    best = min(epochs, key=lambda epoch: epoch.validation_loss or 0.0)
    assert trainer.progress.stop_reason == "early_stopped"
    assert trainer.progress.best_epoch == best.epoch == epochs[-1].epoch - 15
    trainer.network.parameters[:] = trainer.result()
    loss = config.loss.value(trainer.network.forward(validation.inputs), validation.targets)
    assert loss == pytest.approx(best.validation_loss)


@pytest.mark.parametrize("batch_size", [16, 1000])
def test_divergence_reports_its_epoch_and_restores_the_last_finite_weights(batch_size: int) -> None:
    generator = np.random.default_rng(0)
    rows = Rows(generator.normal(size=(64, 3)), generator.normal(size=(64, 1)))
    network = build_network([3, 8, 1], "relu", "linear")
    trainer = Trainer(network, rows, TrainingConfig(500, batch_size, MeanSquaredError(), SGD(30.0)))

    with pytest.raises(DivergedError) as caught:
        [trainer.advance(100) for _ in range(5)]

    assert caught.value.epoch == trainer.progress.epoch + 1
    assert np.isfinite(network.parameters).all()


def test_clipping_bounds_the_step_and_l2_affects_only_weights() -> None:
    rows = Rows(np.full((1, 1), 1000.0), np.full((1, 1), -1000.0))
    network = build_network([1, 1], "linear", "linear")
    network.parameters[:] = 0.0
    clipped = TrainingConfig(
        1, 1, MeanSquaredError(), SGD(1.0), regularization=Regularization(0.0, 0.5)
    )

    Trainer(network, rows, clipped).advance(1)

    assert np.linalg.norm(network.parameters) == pytest.approx(0.5, rel=1e-5)
    network.parameters[:] = [2.0, 3.0]
    zero_inputs = Rows(np.zeros((1, 1)), np.full((1, 1), 3.0))
    decaying = TrainingConfig(
        1, 1, MeanSquaredError(), SGD(1.0), regularization=Regularization(0.25)
    )
    Trainer(network, zero_inputs, decaying).advance(1)
    np.testing.assert_allclose(network.parameters, [1.5, 3.0])


@pytest.mark.parametrize("batch_size", [16, 50, 1000])
@pytest.mark.parametrize("with_validation", [False, True])
@pytest.mark.parametrize("classification", [False, True])
def test_row_major_and_feature_major_tapes_agree(
    batch_size: int, with_validation: bool, classification: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = noisy_digits(203, seed=3)
    rows = Rows(digits.inputs, digits.targets if classification else digits.inputs[:, :10])
    config = TrainingConfig(
        7, batch_size, CrossEntropy() if classification else MeanSquaredError(), SGD(0.1, 0.9)
    )
    epochs, parameters = [], []

    for row_major in (256, 1):
        monkeypatch.setattr("core.program.ROW_MAJOR_INPUTS", row_major)
        network = build_network([25, 12, 10], "softmax", "softmax" if classification else "linear")
        epochs.append(list(Trainer(network, rows, config, rows if with_validation else None)))
        parameters.append(network.parameters)

    np.testing.assert_allclose(parameters[0], parameters[1], rtol=1e-3, atol=1e-5)
    for feature_major, row_major_epoch in zip(*epochs, strict=True):
        assert feature_major.train_loss == pytest.approx(row_major_epoch.train_loss, rel=1e-4)
        assert feature_major.train_accuracy == pytest.approx(
            row_major_epoch.train_accuracy, abs=0.01
        )


def test_a_state_of_another_trainer_is_rejected() -> None:
    trainer, other_trainer = (
        build_trainer(OPTIMIZER_CONFIGS[0]),
        build_trainer(OPTIMIZER_CONFIGS[3]),
    )

    with pytest.raises(ShapeError):
        trainer.restore(other_trainer.state())
    with pytest.raises(FormatError):
        trainer.restore(b"\x02\0\0\0\0\0\0\0{}")


def test_empty_training_sets_and_zero_epochs_are_rejected() -> None:
    network = build_network([1, 1], "linear", "linear")
    config = TrainingConfig(1, 1, MeanSquaredError(), SGD())

    with pytest.raises(ShapeError):
        Trainer(network, Rows(np.zeros((0, 1)), np.zeros((0, 1))), config)
    with pytest.raises(ConfigurationError):
        TrainingConfig(0, 1, MeanSquaredError(), SGD())


def test_fractions_of_a_split_are_prefixes_of_one_order() -> None:
    classes = np.random.default_rng(0).integers(0, 3, 200)
    parts = [set(split(200, fraction, 7, classes)[1]) for fraction in (0.05, 0.1, 0.2, 0.5)]

    assert all(small < large for small, large in pairwise(parts))
    assert parts[2] != set(split(200, 0.2, 8, classes)[1])


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.33, 0.5])
def test_a_split_keeps_the_share_of_every_class(fraction: float) -> None:
    classes = np.repeat([0, 1, 2], [700, 250, 50])[np.random.default_rng(1).permutation(1000)]

    train, validation = split(1000, fraction, 3, classes)

    shares = np.bincount(classes[validation], minlength=3) / np.bincount(classes)
    assert np.abs(shares - fraction).max() < 0.011
    assert not set(train) & set(validation)
    assert len(train) + len(validation) == 1000


def test_a_class_with_a_single_row_is_trained_on() -> None:
    classes = np.array([0] * 50 + [1] * 49 + [2])

    for seed in range(20):
        assert 99 in split(100, 0.4, seed, classes)[0]


@pytest.mark.parametrize(("rows", "validation"), [(1, 0), (2, 1), (10, 2), (100, 20)])
def test_a_split_leaves_at_least_one_row_on_each_side(rows: int, validation: int) -> None:
    train, validate = split(rows, 0.2, seed=1)

    assert len(validate) == validation
    assert sorted([*train, *validate]) == list(range(rows))
