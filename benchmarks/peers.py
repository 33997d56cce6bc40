"""The peers of the training benchmark, each written like its users write it."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.workloads import Workload


def children_cpu() -> float:
    """Return the CPU seconds of finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def pytorch(work: Workload) -> float:
    """Train with eager PyTorch: nn.Sequential, an optimizer, and a loop over a shuffled tensor."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(1)
    kinds: dict[str, Any] = {"relu": nn.ReLU, "tanh": nn.Tanh}
    layers: list[nn.Module] = []
    for index, (inputs, units) in enumerate(zip(work.widths, work.widths[1:], strict=False), 1):
        layers.append(nn.Linear(inputs, units))
        if index < len(work.widths) - 1:
            layers.append(kinds[work.hidden]())
            if work.dropout:
                layers.append(nn.Dropout(work.dropout))
    model = nn.Sequential(*layers)
    x, y = torch.from_numpy(work.rows.inputs), torch.from_numpy(work.rows.targets)
    loss_of: nn.Module = nn.CrossEntropyLoss()
    if work.loss == "binary_cross_entropy":
        loss_of, y = nn.BCEWithLogitsLoss(), y.float().reshape(-1, 1)
    elif work.loss == "mse":
        loss_of = nn.MSELoss()
    optimizer: torch.optim.Optimizer = torch.optim.SGD(
        model.parameters(), work.learning_rate, momentum=work.momentum
    )
    if work.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), work.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, work.epochs)
    total = 0.0
    for _ in range(work.epochs):
        order = torch.randperm(len(x))
        total = 0.0
        for start in range(0, len(x), work.batch):
            rows = order[start : start + work.batch]
            optimizer.zero_grad()
            loss = loss_of(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        if work.cosine:
            schedule.step()
    return total / len(x)


def scikit_learn(work: Workload) -> float | None:
    """Train with the MLP of scikit-learn, which has no dropout."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if work.dropout:
        return None
    kind = MLPRegressor if work.loss == "mse" else MLPClassifier
    model = kind(
        hidden_layer_sizes=work.widths[1:-1],
        activation=work.hidden,
        solver=work.optimizer,
        learning_rate_init=work.learning_rate,
        momentum=work.momentum,
        nesterovs_momentum=False,
        alpha=0.0,
        batch_size=work.batch,
        max_iter=work.epochs,
        n_iter_no_change=work.epochs,
        tol=0.0,
        random_state=1,
    )
    targets = work.rows.targets.ravel()
    try:
        model.fit(work.rows.inputs, targets)
    except ValueError:  # its weights became non-finite
        return None
    return float(model.loss_)


def plain_numpy(work: Workload) -> float:
    """Train with textbook NumPy: row-major products, and new arrays at every step."""
    generator = np.random.default_rng(1)
    x, y = work.rows
    units = work.widths[-1]
    if y.ndim == 1:
        y = y.reshape(-1, 1).astype("f4") if units == 1 else np.eye(units, dtype="f4")[y]
    parameters = []
    for inputs, outputs in zip(work.widths, work.widths[1:], strict=False):
        scale = np.sqrt(2.0 / inputs)
        parameters.append((generator.normal(0, scale, (inputs, outputs))).astype("f4"))
        parameters.append(np.zeros(outputs, "f4"))
    memory = [[np.zeros_like(p), np.zeros_like(p)] for p in parameters]
    step, total = 0, 0.0
    for epoch in range(work.epochs):
        order = generator.permutation(len(x))
        wave = 0.5 * (1 + np.cos(np.pi * epoch / work.epochs)) if work.cosine else 1.0
        rate = np.float32(work.learning_rate * wave)
        total = 0.0
        for start in range(0, len(x), work.batch):
            rows = order[start : start + work.batch]
            step += 1
            total += _plain_step(
                work, parameters, memory, (x[rows], y[rows]), (rate, step, generator)
            )
    return total / len(x)


def _plain_step(
    work: Workload, parameters: list[Any], memory: list[Any], batch: Any, clock: Any
) -> float:
    """Run one forward pass, backward pass and update."""
    (x, y), (rate, step, generator) = batch, clock
    signals, masks, last = [x], [], len(parameters) // 2 - 1
    for layer in range(last + 1):
        z = signals[-1] @ parameters[2 * layer] + parameters[2 * layer + 1]
        if layer < last:
            a = np.maximum(z, 0) if work.hidden == "relu" else np.tanh(z)
            mask = None
            if work.dropout:
                mask = (generator.random(a.shape, "f4") > work.dropout) / np.float32(
                    1 - work.dropout
                )
                a = a * mask
            masks.append(mask)
            signals.append(a)
    if work.output == "softmax":
        powers = np.exp(z - z.max(axis=1, keepdims=True))
        p = powers / powers.sum(axis=1, keepdims=True)
        loss = -np.log(np.maximum((p * y).sum(axis=1), 1e-30)).sum()
        delta = (p - y) / len(x)
    elif work.output == "sigmoid":
        p = 1 / (1 + np.exp(-z))
        loss = -np.log(np.maximum(np.where(y > 0.5, p, 1 - p), 1e-30)).sum()
        delta = (p - y) / len(x)
    else:
        loss, delta = np.square(z - y).sum(), 2 * (z - y) / len(x)
    gradients = []
    for layer in range(last, -1, -1):
        gradients[:0] = [signals[layer].T @ delta, delta.sum(axis=0)]
        if layer:
            a = signals[layer]
            delta = delta @ parameters[2 * layer].T
            if masks[layer - 1] is not None:
                delta = delta * masks[layer - 1]
            delta = delta * (a > 0) if work.hidden == "relu" else delta * (1 - a * a)
    for p, g, (m, v) in zip(parameters, gradients, memory, strict=True):
        if work.optimizer == "adam":
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        else:
            m *= work.momentum
            m += g
            p -= rate * m
    return float(loss)


def javascript(work: Workload, script: str) -> float | None:
    """Train the JavaScript network in Node.js, with a script from the command line."""
    if shutil.which("node") is None or work.optimizer != "sgd" or work.dropout:
        return None
    targets = work.rows.targets
    if targets.ndim == 1 and work.widths[-1] > 1:
        targets = np.eye(work.widths[-1])[targets]
    document = {
        "widths": list(work.widths),
        "hidden": work.hidden,
        "output": work.output,
        "loss": work.loss,
        "inputs": work.rows.inputs.tolist(),
        "targets": targets.reshape(len(targets), -1).tolist(),
        "epochs": work.epochs,
        "batchSize": work.batch,
        "learningRate": work.learning_rate,
        "momentum": work.momentum,
    }
    done = subprocess.run(
        ["node", str(Path(script).resolve())],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        check=False,
    )
    return float(done.stdout.strip() or "nan") if done.returncode == 0 else None
