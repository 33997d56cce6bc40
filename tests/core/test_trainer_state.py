"""What a trainer keeps: the best weights, and a state that is exact wherever training stands."""

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


def network(dropout: float = 0.0) -> Network:
    layers: list[dict[str, Any]] = [{"type": "dense", "units": 8, "activation": "relu"}]
    if dropout:
        layers.append({"type": "dropout", "rate": dropout})
    layers.append({"type": "dense", "units": 1, "activation": "linear"})
    made = Network.from_spec({"input_shape": [3], "layers": layers})
    made.initialize(np.random.default_rng(7))
    return made


def loss_of(trainer: Trainer) -> float:
    trainer.network.parameters[:] = trainer.result()
    return trainer.config.loss.value(trainer.network.forward(ROWS.inputs), ROWS.targets)


def test_the_best_of_whole_batches_are_the_weights_whose_loss_it_was() -> None:
    # The loss of a batch is that of the weights before its step, which may lead far away.
    config = TrainingConfig(
        40, 64, MeanSquaredError(), SGD(0.6), early_stopping=EarlyStopping(patience=15)
    )
    training = Trainer(network(), ROWS, config)

    training.advance(40)

    assert loss_of(training) == pytest.approx(training.progress.best_loss, rel=1e-5)


@pytest.mark.parametrize("batch_size", [8, 64])
@pytest.mark.parametrize("stops", [None, EarlyStopping(patience=4000, min_delta=0.5)])
def test_a_target_is_reached_by_the_weights_that_are_kept(
    batch_size: int, stops: EarlyStopping | None
) -> None:
    config = TrainingConfig(
        5000, batch_size, MeanSquaredError(), Adam(0.02), early_stopping=stops, target_loss=0.9
    )
    validation = ROWS if batch_size == 8 else None
    training = Trainer(network(), ROWS, config, validation)

    training.advance(5000)

    assert training.progress.stop_reason == "target_reached"
    assert loss_of(training) <= 0.9


def test_patience_waits_for_improvements_that_count() -> None:
    config = TrainingConfig(
        500, 64, MeanSquaredError(), SGD(0.001), early_stopping=EarlyStopping(30, min_delta=1e9)
    )
    training = Trainer(network(), ROWS, config)

    training.advance(500)

    # The first epoch is better than nothing; small improvements after it move the best alone.
    assert training.progress.epoch == 31
    assert training.progress.best_epoch == 31


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("together", [2, 100, 500])
def test_a_stop_within_a_lap_leaves_the_state_of_a_stop_after_an_epoch(
    dropout: float, together: int
) -> None:
    def made() -> Trainer:
        stops = EarlyStopping(patience=4)
        config = TrainingConfig(
            500, 64, MeanSquaredError(), SGD(0.2, 0.9), early_stopping=stops, seed=2
        )
        return Trainer(network(dropout), ROWS, config)

    apart, lapped = made(), made()
    list(apart)
    while lapped.progress.stop_reason is None:
        lapped.advance(together)

    assert lapped.progress.stop_reason == "early_stopped"
    assert lapped.state() == apart.state()


@pytest.mark.parametrize(("batch_size", "rate"), [(16, 0.3), (64, 1.1)])
def test_a_divergence_leaves_the_state_before_it_and_comes_again(
    batch_size: int, rate: float
) -> None:
    def made() -> Trainer:
        config = TrainingConfig(500, batch_size, MeanSquaredError(), SGD(rate, 0.9), seed=4)
        return Trainer(network(0.2), ROWS, config)

    def last_finite(training: Trainer, epochs: int) -> tuple[int, bytes]:
        with pytest.raises(DivergedError) as caught:
            [training.advance(epochs) for _ in range(500)]
        return caught.value.epoch, training.state()

    one_by_one, lapped, restored = made(), made(), made()
    epoch, state = last_finite(one_by_one, 1)

    assert epoch > 2
    assert last_finite(lapped, 500) == (epoch, state)
    restored.restore(state)
    assert last_finite(restored, 7) == (epoch, state)
    restored.restore(made().state())
    assert restored.advance(1)[0].epoch == 1


def test_best_weights_from_before_an_interruption_come_back() -> None:
    def made() -> Trainer:
        stops = EarlyStopping(patience=100)
        config = TrainingConfig(60, 8, MeanSquaredError(), Adam(0.05), early_stopping=stops, seed=1)
        held_out = Rows(ROWS.inputs[:20] + 1.0, ROWS.targets[20:40])
        return Trainer(network(), ROWS, config, held_out)

    straight, before, after = made(), made(), made()
    straight.advance(60)
    before.advance(50)
    assert before.progress.best_epoch == straight.progress.best_epoch < 50

    after.restore(before.state())
    after.advance(10)

    assert after.result().tobytes() == straight.result().tobytes()


@pytest.mark.parametrize("missing", ["memory", "best_parameters", "progress", "generator"])
def test_a_state_that_is_not_whole_is_refused(missing: str) -> None:
    training = Trainer(network(), ROWS, TrainingConfig(3, 8, MeanSquaredError(), SGD(0.1)))
    arrays, metadata = decode(training.state())
    arrays.pop(missing, None)
    metadata.pop(missing, None)

    with pytest.raises(FormatError):
        training.restore(encode(arrays, metadata))


def test_a_gradient_that_is_too_long_for_its_dtype_is_a_divergence() -> None:
    rows = Rows(np.full((2, 3), 1e12), np.zeros((2, 1)))
    config = TrainingConfig(
        3, 2, MeanSquaredError(), SGD(0.1), regularization=Regularization(0.0, 1.0)
    )

    with pytest.raises(DivergedError):
        Trainer(network(), rows, config).advance(3)


def test_clipping_to_more_than_the_dtype_holds_is_no_clipping() -> None:
    parameters = []
    for norm in (None, 1e39):
        config = TrainingConfig(
            3, 8, MeanSquaredError(), SGD(0.1), regularization=Regularization(0.0, norm)
        )
        training = Trainer(network(), ROWS, config)
        training.advance(3)
        parameters.append(training.network.parameters.tobytes())

    assert parameters[0] == parameters[1]


def test_rows_are_trained_in_their_order_unless_they_are_shuffled() -> None:
    def trained(*, shuffle: bool, seed: int) -> bytes:
        config = TrainingConfig(2, 8, MeanSquaredError(), SGD(0.1), shuffle=shuffle, seed=seed)
        training = Trainer(network(), ROWS, config)
        training.advance(2)
        return training.network.parameters.tobytes()

    assert trained(shuffle=False, seed=1) == trained(shuffle=False, seed=2)
    assert trained(shuffle=True, seed=1) != trained(shuffle=True, seed=2)


def test_an_epoch_tells_what_was_measured() -> None:
    made = network()
    config = TrainingConfig(1, 24, MeanSquaredError(), SGD(0.0), shuffle=False)
    norms = []
    for start, end in ((0, 24), (24, 48), (48, 64)):
        part = Rows(ROWS.inputs[start:end].astype("f4"), ROWS.targets[start:end])
        program = Program(made, config.loss, pack_rows_for(made, part), end - start, 1)
        program.batches.fill(np.arange(end - start))
        program.replay(1)
        norms.append(float(np.linalg.norm(program.gradient)))

    epoch = Trainer(made, ROWS, config, ROWS).advance(1)[0]

    expected = config.loss.value(made.forward(ROWS.inputs.astype("f4")), ROWS.targets)
    assert epoch.train_loss == pytest.approx(expected, rel=1e-5)
    assert epoch.validation_loss == pytest.approx(expected, rel=1e-5)
    assert epoch.gradient_norm == pytest.approx(np.mean(norms), rel=1e-4)
    assert epoch.train_accuracy is None


@pytest.mark.parametrize("units", [1, 3])
def test_accuracies_count_the_rows_that_are_right(units: int) -> None:
    last = {"type": "dense", "units": units, "activation": "sigmoid" if units == 1 else "softmax"}
    made = Network.from_spec({"input_shape": [3], "layers": [last]})
    made.initialize(np.random.default_rng(3))
    inputs = ROWS.inputs.astype("f4")
    outputs = made.forward(inputs)
    right = outputs.argmax(axis=1) if units > 1 else (outputs[:, 0] > 0.5).astype(int)
    targets = right.copy()
    targets[:16] = (right[:16] + 1) % max(units, 2)
    loss = BinaryCrossEntropy() if units == 1 else CrossEntropy()

    for batch_size in (10, 64):
        rows = Rows(inputs, targets)
        config = TrainingConfig(1, batch_size, loss, SGD(0.0))
        epoch = Trainer(made, rows, config, Rows(inputs[:32], targets[:32])).advance(1)[0]
        assert (epoch.train_accuracy, epoch.validation_accuracy) == (0.75, 0.5)


def test_no_held_out_rows_are_no_validation() -> None:
    none = Rows(np.zeros((0, 3)), np.zeros((0, 1)))
    config = TrainingConfig(1, 8, MeanSquaredError(), SGD(0.1))

    assert Trainer(network(), ROWS, config, none).advance(1)[0].validation_loss is None


def test_targets_that_a_loss_cannot_have_are_refused() -> None:
    last = {"type": "dense", "units": 2, "activation": "sigmoid"}
    made = Network.from_spec({"input_shape": [3], "layers": [last]})
    config = TrainingConfig(1, 8, BinaryCrossEntropy(), SGD(0.1))
    wrong, right = Rows(ROWS.inputs, np.full((64, 2), 5.0)), Rows(ROWS.inputs, np.zeros((64, 2)))

    with pytest.raises(ConfigurationError):
        Trainer(made, wrong, config)
    with pytest.raises(ConfigurationError):
        Trainer(made, right, config, wrong)


@pytest.mark.parametrize("row_major", [256, 1])
def test_dropout_silences_forward_and_backward_alike(
    row_major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.program.ROW_MAJOR_INPUTS", row_major)
    layers = [
        {"type": "dense", "units": 6, "activation": "linear"},
        {"type": "dropout", "rate": 0.5},
        {"type": "dense", "units": 1, "activation": "linear"},
    ]
    made = Network.from_spec({"input_shape": [3], "layers": layers, "dtype": "float64"})
    made.initialize(np.random.default_rng(1))
    program = Program(made, MeanSquaredError(), pack_rows_for(made, ROWS), 64, 1)
    program.batches.fill(np.arange(64))
    program.draw_masks(np.random.Generator(np.random.SFC64(5)), 0, 1)
    ((masks, _),) = program._tape.masks
    mask = masks[0] if row_major == 1 else masks[0].T  # (rows, units)

    program.replay(1)

    (w1, b1), _, (w2, b2) = made.layer_weights()  # type: ignore[misc]
    hidden = (ROWS.inputs @ w1 + b1) * mask
    delta = 2.0 * (hidden @ w2 + b2 - ROWS.targets) / 64
    expected = ROWS.inputs.T @ ((delta @ w2.T) * mask)
    matrix = next(iter(made.dense(program.gradient)))[1]
    np.testing.assert_allclose(matrix[:-1], expected, rtol=1e-9, atol=1e-12)
    assert set(np.unique(mask)) == {0.0, 2.0}


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.99])
def test_masks_keep_their_share_and_the_mean(rate: float) -> None:
    tape = Tape(1000, 8, np.dtype("f4"))
    for _ in range(8):
        tape.begin_step()
        tape.mask(np.empty((50, 1000), "f4"), 1.0 - rate)

    tape.draw_masks(np.random.Generator(np.random.SFC64(1)), 0, 8)

    ((masks, _),) = tape.masks
    assert len(np.unique(masks)) == (1 if rate == 0.0 else 2)
    assert (masks > 0.0).mean() == pytest.approx(1.0 - rate, abs=0.005)
    assert masks.mean() == pytest.approx(1.0, abs=0.06)
