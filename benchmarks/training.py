"""CPU time of training, compared with other frameworks.

    python -m benchmarks.training [--rounds 3] [--only W1 W2] [--original PATH]

Every contender trains the same epochs on the same rows with the same optimizer, on one BLAS thread,
in turn. The result is the median of the rounds. A peer that is not installed is reported.
`--original` names a script for Node.js that trains the original JavaScript network: it reads the
workload as JSON, trains, and prints the last loss.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

import argparse
import importlib
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np

from benchmarks import peers
from benchmarks.workloads import Workload, workloads
from core.losses import LOSSES
from core.network import Network
from core.optimizers import SGD, Adam, Optimizer
from core.schedules import Constant, Cosine
from core.training import Trainer
from core.training_config import TrainingConfig


def neurond(work: Workload) -> float:
    """Train with the engine of neurond, and return the last loss."""
    layers: list[dict[str, object]] = []
    for index, units in enumerate(work.widths[1:], 1):
        last = index == len(work.widths) - 1
        activation = work.output if last else work.hidden
        layers.append({"type": "dense", "units": units, "activation": activation})
        if work.dropout and not last:
            layers.append({"type": "dropout", "rate": work.dropout})
    network = Network.from_config({"input_shape": [work.widths[0]], "layers": layers})
    network.initialize(np.random.default_rng(1))
    optimizer: Optimizer = SGD(work.learning_rate, work.momentum)
    if work.optimizer == "adam":
        optimizer = Adam(work.learning_rate)
    config = TrainingConfig(
        work.epochs,
        work.batch,
        LOSSES[work.loss](),
        optimizer,
        schedule=Cosine() if work.cosine else Constant(),
    )
    return Trainer(network, work.rows, config).advance(work.epochs)[-1].train_loss


Contender = Callable[[Workload], float | None]


def measure(contenders: dict[str, Contender], work: Workload, rounds: int) -> None:
    """Print the median CPU time of each contender on one workload, and its ratio to neurond."""
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
            print(f"{work.name:4} {name:12} is not supported")
            continue
        median = statistics.median(seconds[name])
        ratios = [their / our for their, our in zip(seconds[name], seconds["neurond"], strict=True)]
        print(
            f"{work.name:4} {name:12} {median:8.4f} s  {statistics.median(ratios):6.2f} x"
            f"  (loss {loss:.4f})",
            flush=True,
        )
    print(f"{'':4} {'':12} ours {ours * 1e6 / work.epochs:.1f} us per epoch\n")


def main() -> None:
    """Run the requested workloads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--original", help="a script with the JavaScript network, run by node")
    options = parser.parse_args()
    contenders: dict[str, Contender] = {"neurond": neurond, "plain NumPy": peers.plain_numpy}
    for name, module, train in (
        ("PyTorch", "torch", peers.pytorch),
        ("scikit-learn", "sklearn.neural_network", peers.scikit_learn),
    ):
        try:
            importlib.import_module(module)  # here, so that training time excludes it
        except ImportError:
            print(f"{name} is not installed")
        else:
            contenders[name] = train
    if options.original:
        contenders["original"] = lambda work: peers.javascript(work, options.original)
    warnings.filterwarnings("ignore")
    for work in workloads():
        if not options.only or work.name in options.only:
            measure(contenders, work, options.rounds)


if __name__ == "__main__":
    main()
