"""Loads the inputs of an attempt: network, rows, and the checkpoint to resume from."""

import errno
import hashlib
import mmap
from pathlib import Path

import numpy as np

from core import safetensors as tensors
from core.arrays import Array
from core.batches import Rows
from core.errors import EngineError, FormatError
from core.network import Network
from core.preprocessing import Preprocessing, Standardization
from core.training import Trainer
from core.validation import split
from service.application.training.worker_protocol import TrainingTask


class TrainingError(Exception):
    """The job cannot be trained, and retrying does not help."""

    def __init__(self, stop_reason: str, code: str, detail: str) -> None:
        self.stop_reason, self.code = stop_reason, code
        super().__init__(detail)


def prepare(task: TrainingTask) -> tuple[Network, Preprocessing, Rows, Rows | None]:
    """Return the network, its preprocessing, the training rows and the validation rows, if any."""
    training = task.training
    network = _base_network(task)
    inputs, targets = _load_rows(task.dataset, task.dataset_sha256)
    if task.columns is not None:
        inputs = inputs[:, task.columns]
    classes = None if task.classes is None else targets.astype(np.intp)
    # One split for each dataset, whatever network and seed: training again leaks no rows.
    seed = int(task.dataset_sha256, 16)
    train, validate = split(len(inputs), training["validation_fraction"], seed, classes)
    preprocessing = Preprocessing.from_config(task.preprocessing, network.inputs, network.units)
    if training["standardize"] and preprocessing.inputs is None:
        scales_targets = task.classes is None and network.output_activation == "linear"
        try:
            preprocessing = Preprocessing(
                Standardization.fit(inputs[train]),
                Standardization.fit(targets[train]) if scales_targets else None,
            )
        except EngineError as error:
            raise TrainingError("error", "not_finite", str(error)) from error
    if preprocessing.inputs is not None:
        inputs = preprocessing.inputs.apply(inputs)
    inputs = inputs.astype(network.dtype)
    if not np.isfinite(inputs).all():
        raise TrainingError(
            "error", "not_finite", f"a value in the dataset is too large for {network.dtype.name}"
        )
    targets = _targets(task, targets, preprocessing).astype(
        network.dtype if task.classes is None else np.intp
    )
    validation = Rows(inputs[validate], targets[validate]) if validate.size else None
    return network, preprocessing, Rows(inputs[train], targets[train]), validation


def _base_network(task: TrainingTask) -> Network:
    """Return the network with the base version's weights."""
    network = Network.from_config(task.config)
    try:
        weights = Path(task.weights).read_bytes()
    except OSError as error:
        raise _read_error(error, "weights", "the weights of the base version") from error
    if hashlib.sha256(weights).hexdigest() != task.weights_sha256:
        raise TrainingError(
            "error", "weights_corrupt", "the weights of the base version are damaged"
        )
    network.load_bytes(weights)
    return network


def _targets(task: TrainingTask, targets: Array, preprocessing: Preprocessing) -> Array:
    """Return the targets of the network: class indices, or standardised values."""
    if task.classes is not None:
        return np.array(task.classes)[targets.astype(np.intp)]
    return targets if preprocessing.targets is None else preprocessing.targets.apply(targets)


def _load_rows(path: str, sha256: str) -> tuple[Array, Array]:
    """Return inputs and targets of a stored dataset, after verifying its digest."""
    try:
        with Path(path).open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise _read_error(error, "dataset", "the rows of the dataset") from error
    except ValueError as error:  # an empty file cannot be mapped
        raise TrainingError(
            "error", "dataset_corrupt", "the rows of the dataset are damaged"
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TrainingError("error", "dataset_corrupt", "the rows of the dataset are damaged")
    arrays, _ = tensors.decode(data)
    return arrays["inputs"], arrays["targets"]


def _read_error(error: OSError, kind: str, name: str) -> Exception:
    """Return the exception for a file that cannot be read, which says what the system said."""
    if error.errno == errno.ENOMEM:
        return MemoryError()
    if isinstance(error, FileNotFoundError):
        return TrainingError("error", f"{kind}_missing", f"{name} are missing")
    return TrainingError("error", f"{kind}_unreadable", f"{name} cannot be read: {error.strerror}")


def restore(trainer: Trainer, checkpoints: list[tuple[str, str]]) -> int:
    """Resume from the latest intact checkpoint, and return the number of newer, damaged ones.

    Raises
    ------
    TrainingError
        If there are checkpoints, but none of them can be used. Training does not restart silently.
    """
    for corrupt_checkpoints, (path, digest) in enumerate(checkpoints):
        try:
            state = Path(path).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _read_error(error, "checkpoint", "a checkpoint of the job") from error
        if hashlib.sha256(state).hexdigest() == digest:
            try:
                trainer.restore(state)
            except FormatError as error:
                raise TrainingError("error", "checkpoint_corrupt", str(error)) from error
            return corrupt_checkpoints
    if checkpoints:
        raise TrainingError(
            "error", "checkpoint_corrupt", "all checkpoints of the job are damaged or missing"
        )
    return 0
