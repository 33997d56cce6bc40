"""Optimizers: every step follows the equations of its paper, over changing gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core.arrays import Array
from core.batches import Rows
from core.configuration import build
from core.losses import MeanSquaredError
from core.network import Network
from core.optimizers import OPTIMIZERS
from core.regularization import Regularization
from core.schedules import SCHEDULES
from core.training import Trainer
from core.training_config import TrainingConfig

STEPS = 5
INPUTS = np.random.default_rng(1).normal(size=(STEPS, 3))
TARGETS = np.random.default_rng(2).normal(size=(STEPS, 1))
WEIGHTS = np.array([1.0, 1.0, 1.0, 0.0])
"""One for weights and zero for the bias."""

Step = Callable[[Array, Array, dict[str, Array], int, float], Array]


def sgd(momentum: float, *, nesterov: bool) -> Step:
    def step(w: Array, g: Array, state: dict[str, Array], _: int, rate: float) -> Array:
        v = state["v"] = momentum * state.get("v", np.zeros_like(w)) + g
        direction: Array = g + momentum * v if nesterov else v
        return w - rate * direction

    return step


def adam(beta1: float, beta2: float, epsilon: float, decay: float = 0.0) -> Step:
    def step(w: Array, g: Array, state: dict[str, Array], count: int, rate: float) -> Array:
        state["m"] = beta1 * state.get("m", np.zeros_like(w)) + (1 - beta1) * g
        state["v"] = beta2 * state.get("v", np.zeros_like(w)) + (1 - beta2) * g**2
        m, v = state["m"] / (1 - beta1**count), state["v"] / (1 - beta2**count)
        stepped: Array = w - rate * decay * w * WEIGHTS - rate * m / (np.sqrt(v) + epsilon)
        return stepped

    return step


def rmsprop(decay: float, epsilon: float) -> Step:
    def step(w: Array, g: Array, state: dict[str, Array], _: int, rate: float) -> Array:
        state["v"] = decay * state.get("v", np.zeros_like(w)) + (1 - decay) * g**2
        stepped: Array = w - rate * g / (np.sqrt(state["v"]) + epsilon)
        return stepped

    return step


CASES: list[tuple[dict[str, Any], Step]] = [
    ({"type": "sgd"}, sgd(0.0, nesterov=False)),
    ({"type": "sgd", "momentum": 0.7}, sgd(0.7, nesterov=False)),
    ({"type": "sgd", "momentum": 0.7, "nesterov": True}, sgd(0.7, nesterov=True)),
    ({"type": "adam", "beta1": 0.8, "beta2": 0.95, "epsilon": 0.1}, adam(0.8, 0.95, 0.1)),
    (
        {"type": "adamw", "beta1": 0.8, "beta2": 0.95, "epsilon": 0.1, "weight_decay": 0.3},
        adam(0.8, 0.95, 0.1, 0.3),
    ),
    ({"type": "rmsprop", "decay": 0.6, "epsilon": 0.1}, rmsprop(0.6, 0.1)),
]


def test_the_cases_cover_every_optimizer() -> None:
    assert {config["type"] for config, _ in CASES} == set(OPTIMIZERS)


@pytest.mark.parametrize(("config", "step"), CASES, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("block", [65_536, 3])
@pytest.mark.parametrize("l2", [0.0, 0.2])
def test_an_optimizer_follows_the_equations_of_its_paper(
    config: dict[str, Any], step: Step, block: int, l2: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.program.BLOCK", block)
    layers = [{"type": "dense", "units": 1, "activation": "linear"}]
    network = Network.from_config({"input_shape": [3], "layers": layers, "dtype": "float64"})
    network.initialize(np.random.default_rng(3))
    network.parameters[-1] = 0.5
    optimizer = build(OPTIMIZERS, "optimizer", {**config, "learning_rate": 0.1})
    training_config = TrainingConfig(
        2,
        1,
        MeanSquaredError(),
        optimizer,
        schedule=build(SCHEDULES, "schedule", {"type": "exponential", "decay": 0.5}),
        regularization=Regularization(l2),
        shuffle=False,
    )
    w, state, count = network.parameters.copy(), dict[str, Array](), 0
    for rate in (0.1, 0.05):
        for x, y in zip(INPUTS, TARGETS, strict=True):
            count += 1
            row = np.append(x, 1.0)
            w = step(w, 2.0 * (row @ w - y) * row + l2 * w * WEIGHTS, state, count, rate)

    Trainer(network, Rows(INPUTS, TARGETS), training_config).advance(2)

    np.testing.assert_allclose(network.parameters, w, rtol=1e-10)
