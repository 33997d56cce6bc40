"""The results of a trainer: the best weights, and a state that is exact after every epoch."""

from typing import Any

import numpy as np
import pytest

from core.batches import Rows
from core.errors import ConfigurationError, DivergedError, FormatError
from core.losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError
from core.network import Network
from core.optimizers import SGD, Adam
from core.program import Program, pack_rows_for
from core.regularization import Regularization
from core.safetensors import decode, encode
from core.tape import Tape
from core.training import Trainer
from core.training_config import EarlyStopping, TrainingConfig

GENERATOR = np.random.default_rng(0)
ROWS = Rows(GENERATOR.normal(size=(64, 3)), GENERATOR.normal(size=(64, 1)))


def build_network(dropout: float = 0.0) -> Network:
    layers: list[dict[str, Any]] = [{"type": "dense", "units": 8, "activation": "relu"}]
    if dropout:
        layers.append({"type": "dropout", "rate": dropout})
    layers.append({"type": "dense", "units": 1, "activation": "linear"})
    network = Network.from_config({"input_shape": [3], "layers": layers})
    network.initialize(np.random.default_rng(7))
    return network


def loss_of(trainer: Trainer) -> float:
    trainer.network.parameters[:] = trainer.result()
    return trainer.config.loss.value(trainer.network.forward(ROWS.inputs), ROWS.targets)


def test_the_best_weights_of_full_batches_are_those_before_the_step() -> None:
    # The loss of a batch belongs to the weights before its step, which may be a large one.
    config = TrainingConfig(
        40, 64, MeanSquaredError(), SGD(0.6), early_stopping=EarlyStopping(patience=15)
    )
    trainer = Trainer(build_network(), ROWS, config)

    trainer.advance(40)

    assert loss_of(trainer) == pytest.approx(trainer.progress.best_loss, rel=1e-5)


@pytest.mark.parametrize("batch_size", [8, 64])
@pytest.mark.parametrize("early_stopping", [None, EarlyStopping(patience=4000, min_delta=0.5)])
def test_the_resulting_weights_reach_the_target_loss(
    batch_size: int, early_stopping: EarlyStopping | None
) -> None:
    config = TrainingConfig(
        5000,
        batch_size,
        MeanSquaredError(),
        Adam(0.02),
        early_stopping=early_stopping,
        target_loss=0.9,
    )
    validation = ROWS if batch_size == 8 else None
    trainer = Trainer(build_network(), ROWS, config, validation)

    trainer.advance(5000)

    assert trainer.progress.stop_reason == "target_reached"
    assert loss_of(trainer) <= 0.9


def test_patience_ignores_improvements_below_min_delta() -> None:
    config = TrainingConfig(
        500, 64, MeanSquaredError(), SGD(0.001), early_stopping=EarlyStopping(30, min_delta=1e9)
    )
    trainer = Trainer(build_network(), ROWS, config)

    trainer.advance(500)

    # Only the first epoch resets the patience. Later improvements only update the best epoch.
    assert trainer.progress.epoch == 31
    assert trainer.progress.best_epoch == 31


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("epochs_per_call", [2, 100, 500])
def test_a_stop_within_a_chunk_gives_the_same_state_as_single_epochs(
    dropout: float, epochs_per_call: int
) -> None:
    def build_trainer() -> Trainer:
        early_stopping = EarlyStopping(patience=4)
        config = TrainingConfig(
            500, 64, MeanSquaredError(), SGD(0.2, 0.9), early_stopping=early_stopping, seed=2
        )
        return Trainer(build_network(dropout), ROWS, config)

    epoch_by_epoch, chunked = build_trainer(), build_trainer()
    list(epoch_by_epoch)
    while chunked.progress.stop_reason is None:
        chunked.advance(epochs_per_call)

    assert chunked.progress.stop_reason == "early_stopped"
    assert chunked.state() == epoch_by_epoch.state()


@pytest.mark.parametrize(("batch_size", "rate"), [(16, 0.3), (64, 1.1)])
def test_a_divergence_restores_the_last_state_and_is_reproducible(
    batch_size: int, rate: float
) -> None:
    def build_trainer() -> Trainer:
        config = TrainingConfig(500, batch_size, MeanSquaredError(), SGD(rate, 0.9), seed=4)
        return Trainer(build_network(0.2), ROWS, config)

    def last_finite(trainer: Trainer, epochs: int) -> tuple[int, bytes]:
        with pytest.raises(DivergedError) as caught:
            [trainer.advance(epochs) for _ in range(500)]
        return caught.value.epoch, trainer.state()

    single, chunked, restored = build_trainer(), build_trainer(), build_trainer()
    epoch, state = last_finite(single, 1)

    assert epoch > 2
    assert last_finite(chunked, 500) == (epoch, state)
    restored.restore(state)
    assert last_finite(restored, 7) == (epoch, state)
    restored.restore(build_trainer().state())
    assert restored.advance(1)[0].epoch == 1


def test_best_weights_from_before_an_interruption_are_restored() -> None:
    def build_trainer() -> Trainer:
        early_stopping = EarlyStopping(patience=100)
        config = TrainingConfig(
            60, 8, MeanSquaredError(), Adam(0.05), early_stopping=early_stopping, seed=1
        )
        validation = Rows(ROWS.inputs[:20] + 1.0, ROWS.targets[20:40])
        return Trainer(build_network(), ROWS, config, validation)

    uninterrupted, before, after = build_trainer(), build_trainer(), build_trainer()
    uninterrupted.advance(60)
    before.advance(50)
    assert before.progress.best_epoch == uninterrupted.progress.best_epoch < 50

    after.restore(before.state())
    after.advance(10)

    assert after.result().tobytes() == uninterrupted.result().tobytes()


@pytest.mark.parametrize("missing", ["memory", "best_parameters", "progress", "generator"])
def test_an_incomplete_state_is_rejected(missing: str) -> None:
    trainer = Trainer(build_network(), ROWS, TrainingConfig(3, 8, MeanSquaredError(), SGD(0.1)))
    arrays, metadata = decode(trainer.state())
    arrays.pop(missing, None)
    metadata.pop(missing, None)

    with pytest.raises(FormatError):
        trainer.restore(encode(arrays, metadata))


def test_an_overflow_of_the_gradient_norm_is_a_divergence() -> None:
    rows = Rows(np.full((2, 3), 1e12), np.zeros((2, 1)))
    config = TrainingConfig(
        3, 2, MeanSquaredError(), SGD(0.1), regularization=Regularization(0.0, 1.0)
    )

    with pytest.raises(DivergedError):
        Trainer(build_network(), rows, config).advance(3)


def test_clipping_above_the_range_of_the_dtype_has_no_effect() -> None:
    parameters = []
    for norm in (None, 1e39):
        config = TrainingConfig(
            3, 8, MeanSquaredError(), SGD(0.1), regularization=Regularization(0.0, norm)
        )
        trainer = Trainer(build_network(), ROWS, config)
        trainer.advance(3)
        parameters.append(trainer.network.parameters.tobytes())

    assert parameters[0] == parameters[1]


def test_rows_are_trained_in_order_unless_shuffled() -> None:
    def trained(*, shuffle: bool, seed: int) -> bytes:
        config = TrainingConfig(2, 8, MeanSquaredError(), SGD(0.1), shuffle=shuffle, seed=seed)
        trainer = Trainer(build_network(), ROWS, config)
        trainer.advance(2)
        return trainer.network.parameters.tobytes()

    assert trained(shuffle=False, seed=1) == trained(shuffle=False, seed=2)
    assert trained(shuffle=True, seed=1) != trained(shuffle=True, seed=2)


def test_an_epoch_reports_losses_and_gradient_norms() -> None:
    network = build_network()
    config = TrainingConfig(1, 24, MeanSquaredError(), SGD(0.0), shuffle=False)
    norms = []
    for start, end in ((0, 24), (24, 48), (48, 64)):
        part = Rows(ROWS.inputs[start:end].astype("f4"), ROWS.targets[start:end])
        program = Program(network, config.loss, pack_rows_for(network, part), end - start, 1)
        program.batches.fill(np.arange(end - start))
        program.replay(1)
        norms.append(float(np.linalg.norm(program.gradient)))

    epoch = Trainer(network, ROWS, config, ROWS).advance(1)[0]

    expected = config.loss.value(network.forward(ROWS.inputs.astype("f4")), ROWS.targets)
    assert epoch.train_loss == pytest.approx(expected, rel=1e-5)
    assert epoch.validation_loss == pytest.approx(expected, rel=1e-5)
    assert epoch.gradient_norm == pytest.approx(np.mean(norms), rel=1e-4)
    assert epoch.train_accuracy is None


@pytest.mark.parametrize("units", [1, 3])
def test_accuracies_are_fractions_of_correct_rows(units: int) -> None:
    last = {"type": "dense", "units": units, "activation": "sigmoid" if units == 1 else "softmax"}
    network = Network.from_config({"input_shape": [3], "layers": [last]})
    network.initialize(np.random.default_rng(3))
    inputs = ROWS.inputs.astype("f4")
    outputs = network.forward(inputs)
    correct = outputs.argmax(axis=1) if units > 1 else (outputs[:, 0] > 0.5).astype(int)
    targets = correct.copy()
    targets[:16] = (correct[:16] + 1) % max(units, 2)
    loss = BinaryCrossEntropy() if units == 1 else CrossEntropy()

    for batch_size in (10, 64):
        rows = Rows(inputs, targets)
        config = TrainingConfig(1, batch_size, loss, SGD(0.0))
        epoch = Trainer(network, rows, config, Rows(inputs[:32], targets[:32])).advance(1)[0]
        assert (epoch.train_accuracy, epoch.validation_accuracy) == (0.75, 0.5)


def test_an_empty_validation_set_is_ignored() -> None:
    empty = Rows(np.zeros((0, 3)), np.zeros((0, 1)))
    config = TrainingConfig(1, 8, MeanSquaredError(), SGD(0.1))

    assert Trainer(build_network(), ROWS, config, empty).advance(1)[0].validation_loss is None


def test_targets_that_the_loss_does_not_support_are_rejected() -> None:
    last = {"type": "dense", "units": 2, "activation": "sigmoid"}
    network = Network.from_config({"input_shape": [3], "layers": [last]})
    config = TrainingConfig(1, 8, BinaryCrossEntropy(), SGD(0.1))
    invalid, valid = Rows(ROWS.inputs, np.full((64, 2), 5.0)), Rows(ROWS.inputs, np.zeros((64, 2)))

    with pytest.raises(ConfigurationError):
        Trainer(network, invalid, config)
    with pytest.raises(ConfigurationError):
        Trainer(network, valid, config, invalid)


@pytest.mark.parametrize("row_major", [256, 1])
def test_dropout_applies_the_same_mask_forward_and_backward(
    row_major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.program.ROW_MAJOR_INPUTS", row_major)
    layers = [
        {"type": "dense", "units": 6, "activation": "linear"},
        {"type": "dropout", "rate": 0.5},
        {"type": "dense", "units": 1, "activation": "linear"},
    ]
    network = Network.from_config({"input_shape": [3], "layers": layers, "dtype": "float64"})
    network.initialize(np.random.default_rng(1))
    program = Program(network, MeanSquaredError(), pack_rows_for(network, ROWS), 64, 1)
    program.batches.fill(np.arange(64))
    program.draw_masks(np.random.Generator(np.random.SFC64(5)), 0, 1)
    ((masks, _),) = program._tape.masks
    mask = masks[0] if row_major == 1 else masks[0].T  # (rows, units)

    program.replay(1)

    (w1, b1), _, (w2, b2) = network.layer_weights()  # type: ignore[misc]
    hidden = (ROWS.inputs @ w1 + b1) * mask
    delta = 2.0 * (hidden @ w2 + b2 - ROWS.targets) / 64
    expected = ROWS.inputs.T @ ((delta @ w2.T) * mask)
    matrix = next(iter(network.dense(program.gradient)))[1]
    np.testing.assert_allclose(matrix[:-1], expected, rtol=1e-9, atol=1e-12)
    assert set(np.unique(mask)) == {0.0, 2.0}


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.99])
def test_masks_have_the_configured_rate_and_mean_one(rate: float) -> None:
    tape = Tape(1000, 8, np.dtype("f4"))
    for _ in range(8):
        tape.begin_step()
        tape.mask(np.empty((50, 1000), "f4"), 1.0 - rate)

    tape.draw_masks(np.random.Generator(np.random.SFC64(1)), 0, 8)

    ((masks, _),) = tape.masks
    assert len(np.unique(masks)) == (1 if rate == 0.0 else 2)
    assert (masks > 0.0).mean() == pytest.approx(1.0 - rate, abs=0.005)
    assert masks.mean() == pytest.approx(1.0, abs=0.06)
