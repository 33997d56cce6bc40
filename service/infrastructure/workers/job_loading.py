"""What an attempt begins with: network, rows, and the checkpoint it goes on from."""

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
from core.training import Trainer, split
from service.application.training.worker_protocol import TrainingTask


class TrainingError(Exception):
    """The job cannot be trained, however often it is tried."""

    def __init__(self, stop_reason: str, code: str, detail: str) -> None:
        self.stop_reason, self.code = stop_reason, code
        super().__init__(detail)


def prepare(task: TrainingTask) -> tuple[Network, Preprocessing, Rows, Rows | None]:
    """Return the network, what its inputs go through, and the rows to train and validate on."""
    training = task.training
    network = _base_network(task)
    inputs, targets = _load_rows(task.dataset, task.dataset_sha256)
    train, held_out = split(len(inputs), training["validation_fraction"], training["seed"])
    preprocessing = Preprocessing.from_document(task.preprocessing, network.inputs, network.units)
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
        raise TrainingError("error", "not_finite", f"a row is too large for {network.dtype.name}")
    targets = _targets(task, targets, preprocessing).astype(
        network.dtype if task.classes is None else np.intp
    )
    validation = Rows(inputs[held_out], targets[held_out]) if held_out.size else None
    return network, preprocessing, Rows(inputs[train], targets[train]), validation


def _base_network(task: TrainingTask) -> Network:
    """Return the network with the base version's weights."""
    network = Network.from_spec(task.spec)
    try:
        weights = Path(task.weights).read_bytes()
    except OSError as error:
        raise TrainingError(
            "error", "weights_missing", "the base version's weights are gone"
        ) from error
    if hashlib.sha256(weights).hexdigest() != task.weights_sha256:
        raise TrainingError(
            "error", "weights_corrupt", "the base version's weights have changed on disk"
        )
    network.load_bytes(weights)
    return network


def _targets(task: TrainingTask, targets: Array, preprocessing: Preprocessing) -> Array:
    """Return the targets as the network sees them: its classes, or scaled numbers."""
    if task.classes is not None:
        return np.array(task.classes)[targets.astype(np.intp)]
    return targets if preprocessing.targets is None else preprocessing.targets.apply(targets)


def _load_rows(path: str, sha256: str) -> tuple[Array, Array]:
    """Return the inputs and targets of a stored dataset, checked against its digest."""
    try:
        with Path(path).open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise TrainingError("error", "dataset_missing", "the dataset's rows are gone") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TrainingError("error", "dataset_corrupt", "the dataset's rows have changed on disk")
    arrays, _ = tensors.decode(data)  # type: ignore[arg-type]
    return arrays["inputs"], arrays["targets"]


def restore(trainer: Trainer, checkpoints: list[tuple[str, str]]) -> int:
    """Go on from the latest checkpoint that is whole, and return how many newer ones are not.

    Never silently from the beginning.
    """
    for corrupt_checkpoints, (path, digest) in enumerate(checkpoints):
        try:
            state = Path(path).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(state).hexdigest() == digest:
            try:
                trainer.restore(state)
            except FormatError as error:
                raise TrainingError("error", "checkpoint_corrupt", str(error)) from error
            return corrupt_checkpoints
    if checkpoints:
        raise TrainingError(
            "error", "checkpoint_corrupt", "no checkpoint of the job is whole any more"
        )
    return 0
