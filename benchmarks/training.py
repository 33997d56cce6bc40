"""Training beside its peers: CPU seconds of the same work, run in turn, and the ratios.

    python -m benchmarks.training [--rounds 3] [--only W1 W2] [--original PATH]

Every contender does the same epochs on the same rows with the same optimizer, on one BLAS
thread, and reports the loss of every epoch. The median of the rounds counts. A peer that is not
installed is named as such. `--original` names a checkout of the JavaScript network.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.pop("OPENBLAS_CORETYPE", None)

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import peers
from core.datasets import noisy_digits
from core.losses import LOSSES
from core.network import Network
from core.optimizers import SGD, Adam, Optimizer
from core.schedules import Constant, Cosine
from core.training import Plan, Rows, Trainer


@dataclass(frozen=True)
class Workload:
    """The same training for every contender."""

    name: str
    widths: tuple[int, ...]
    hidden: str
    output: str
    loss: str
    optimizer: str
    learning_rate: float
    momentum: float
    dropout: float
    cosine: bool
    batch: int
    epochs: int
    rows: Rows


def workloads() -> list[Workload]:
    """Return the six workloads of the project's measurements."""
    generator = np.random.default_rng(0)
    digits = noisy_digits(1000, noise=0.1, seed=0)
    digit_rows = Rows(digits.inputs.astype("f4"), digits.targets)
    xor = Rows(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "f4"), np.array([0, 1, 1, 0]))
    line = np.linspace(-np.pi, np.pi, 200).reshape(-1, 1)
    sine = Rows(line.astype("f4"), np.sin(line).astype("f4"))
    pixels = Rows(generator.random((60_000, 784), "f4"), generator.integers(0, 10, 60_000))
    digit = ((25, 32, 16, 10), "relu", "softmax", "cross_entropy")
    return [
        Workload("W1", *digit, "sgd", 0.5, 0.0, 0.0, False, 32, 300, digit_rows),
        Workload("W1b", *digit, "sgd", 0.05, 0.9, 0.2, True, 32, 300, digit_rows),
        Workload("W1c", *digit, "adam", 0.001, 0.0, 0.0, False, 32, 300, digit_rows),
        Workload(
            "W2", (2, 8, 1), "tanh", "sigmoid", "binary_cross_entropy",
            "sgd", 0.5, 0.0, 0.0, False, 4, 5000, xor,
        ),
        Workload(
            "W3", (1, 32, 16, 1), "tanh", "linear", "mse",
            "sgd", 0.01, 0.9, 0.0, False, 32, 500, sine,
        ),
        Workload(
            "W4a", (784, 128, 10), "relu", "softmax", "cross_entropy",
            "sgd", 0.1, 0.9, 0.0, False, 128, 1, pixels,
        ),
    ]  # fmt: skip


def neurond(work: Workload) -> float:
    """Train with this project's engine and return the last loss."""
    layers: list[dict[str, object]] = []
    for index, units in enumerate(work.widths[1:], 1):
        last = index == len(work.widths) - 1
        activation = work.output if last else work.hidden
        layers.append({"type": "dense", "units": units, "activation": activation})
        if work.dropout and not last:
            layers.append({"type": "dropout", "rate": work.dropout})
    network = Network.from_spec({"input_shape": [work.widths[0]], "layers": layers})
    network.initialize(np.random.default_rng(1))
    optimizer: Optimizer = SGD(work.learning_rate, work.momentum)
    if work.optimizer == "adam":
        optimizer = Adam(work.learning_rate)
    plan = Plan(
        work.epochs,
        work.batch,
        LOSSES[work.loss](),
        optimizer,
        schedule=Cosine() if work.cosine else Constant(),
    )
    return Trainer(network, work.rows, plan).advance(work.epochs)[-1].train_loss


Contender = Callable[[Workload], float | None]


def measure(contenders: dict[str, Contender], work: Workload, rounds: int) -> None:
    """Print each contender's median CPU time on one workload, and its ratio to ours."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    losses: dict[str, float | None] = {}
    for _ in range(rounds):
        for name, train in contenders.items():
            before = time.process_time() + peers.children_cpu()
            losses[name] = train(work)
            seconds[name].append(time.process_time() + peers.children_cpu() - before)
    ours = statistics.median(seconds["neurond"])
    for name, loss in losses.items():
        if loss is None:
            print(f"{work.name:4} {name:12} cannot do this")
            continue
        median = statistics.median(seconds[name])
        ratios = [their / our for their, our in zip(seconds[name], seconds["neurond"], strict=True)]
        print(
            f"{work.name:4} {name:12} {median:8.4f} s  {statistics.median(ratios):6.2f} x"
            f"  (loss {loss:.4f})",
            flush=True,
        )
    print(f"{'':4} {'':12} ours {ours * 1e6 / work.epochs:.1f} us an epoch\n")


def main() -> None:
    """Run the workloads that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--original", help="a checkout of the JavaScript network, run by node")
    options = parser.parse_args()
    contenders: dict[str, Contender] = {"neurond": neurond, "plain NumPy": peers.plain_numpy}
    for name, module, train in (
        ("PyTorch", "torch", peers.pytorch),
        ("scikit-learn", "sklearn", peers.scikit_learn),
    ):
        if importlib.util.find_spec(module):
            contenders[name] = train
        else:
            print(f"{name} is not installed")
    if options.original:
        contenders["original"] = lambda work: peers.original(work, options.original)
    warnings.filterwarnings("ignore")
    for work in workloads():
        if not options.only or work.name in options.only:
            measure(contenders, work, options.rounds)


if __name__ == "__main__":
    main()
