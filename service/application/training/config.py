"""Training configuration: the values that a client sent, completed with defaults.

The defaults were chosen by measurements on raw tables, images and functions. See
docs/explanation/defaults.md for the figures.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from core.configuration import build, describe
from core.errors import EngineError
from core.losses import LOSSES
from core.optimizers import OPTIMIZERS
from core.regularization import Regularization
from core.schedules import SCHEDULES
from core.training_config import EarlyStopping, TrainingConfig
from service.domain.datasets import Dataset, Task
from service.domain.errors import InvalidRequestError, pointer
from service.domain.features import column_order
from service.domain.networks import NetworkRecord

DEFAULT_BATCH_SIZE: Final = 32
DEFAULT_STEPS: Final = 3000
"""Approximate number of steps from which the default number of epochs is computed."""
MIN_DEFAULT_EPOCHS: Final = 30
MAX_DEFAULT_EPOCHS: Final = 300
DEFAULT_OPTIMIZER: Final = {"type": "adamw", "learning_rate": 0.01, "weight_decay": 0.3}
DEFAULT_VALIDATION_FRACTION: Final = 0.2
MIN_ROWS_TO_VALIDATE: Final = 50
"""A fifth of fewer rows is too few to validate on.

By default, training then uses all rows and does not stop early.
"""
EARLY_STOPPING_PATIENCE: Final = 0.2
"""Fraction of the epochs that the default early stopping waits for an improvement."""


def default_loss(output_activation: str, task: Task) -> str:
    """Return the default loss for an output activation and a task."""
    if output_activation == "softmax":
        return "cross_entropy"
    return (
        "binary_cross_entropy"
        if output_activation == "sigmoid" and task == "classification"
        else "mse"
    )


def resolve_training_config(
    requested: Mapping[str, Any],
    network: NetworkRecord,
    dataset: Dataset,
    *,
    standardized: bool | None,
    random_seed: int,
) -> dict[str, Any]:
    """Return the complete training config, with defaults filled in.

    Parameters
    ----------
    requested
        The values that the client sent. None and a missing value mean the default, but an explicit
        None for ``early_stopping`` disables it.
    standardized
        True if the base version's inputs are standardized; None if it is untrained.
    random_seed
        The seed to use if the client sent none.

    Raises
    ------
    InvalidRequestError
        If a value is invalid; the error names the value.
    """
    rows = dataset.rows
    validates = rows >= MIN_ROWS_TO_VALIDATE
    fraction = requested.get("validation_fraction")
    if fraction is None:
        fraction = DEFAULT_VALIDATION_FRACTION if validates else 0.0
    batch = requested.get("batch_size") or DEFAULT_BATCH_SIZE
    steps_per_epoch = math.ceil(rows * (1.0 - fraction) / batch)
    default_epochs = MAX_DEFAULT_EPOCHS
    if validates:
        epochs_for_steps = math.ceil(DEFAULT_STEPS / steps_per_epoch)
        default_epochs = max(MIN_DEFAULT_EPOCHS, min(MAX_DEFAULT_EPOCHS, epochs_for_steps))
    epochs = requested.get("epochs") or default_epochs
    early_stopping = requested.get("early_stopping")
    loss, optimizer, schedule = map(requested.get, ("loss", "optimizer", "schedule"))
    if loss is None:
        loss = default_loss(network.output_activation, dataset.task)
    # An explicit number of epochs disables the default early stopping.
    is_default = "early_stopping" not in requested and not requested.get("epochs")
    if is_default and fraction > 0.0 and validates:
        patience = max(10, round(epochs * EARLY_STOPPING_PATIENCE))
        early_stopping = {"patience": patience, "min_delta": 0.0}
    standardize = requested.get("standardize")
    if standardized:
        standardize = True  # the weights were trained on standardized inputs
    elif standardize is None:
        standardize = standardized is None
    boundary = requested.get("boundary")
    if boundary is not None and network.input_shape != [2]:
        problem = (
            f"boundary frames require a network with 2 inputs, got {network.input_shape[0]} inputs"
        )
        raise InvalidRequestError.at("/training/boundary", "shape_mismatch", problem)
    return {
        "epochs": epochs,
        "batch_size": batch,
        "loss": _complete(LOSSES, "loss", loss),
        "optimizer": _complete(
            OPTIMIZERS, "optimizer", DEFAULT_OPTIMIZER if optimizer is None else optimizer
        ),
        "schedule": _complete(SCHEDULES, "schedule", "cosine" if schedule is None else schedule),
        "validation_fraction": fraction,
        "early_stopping": None
        if early_stopping is None
        else {"patience": 20, "min_delta": 0.0, **early_stopping},
        "l2": requested.get("l2") or 0.0,
        "gradient_clip_norm": requested.get("gradient_clip_norm"),
        "shuffle": requested.get("shuffle") is not False,
        "standardize": standardize,
        "seed": random_seed if requested.get("seed") is None else requested["seed"],
        "limits": {"seconds": None, "target_loss": None, **(requested.get("limits") or {})},
        **({} if boundary is None else {"boundary": boundary}),
    }


def _complete(table: Mapping[str, type[Any]], kind: str, config: object) -> Any:
    """Return a component's config with its defaults; a loss without options is just its name."""
    try:
        described = describe(build(table, kind, config))
        plain = kind == "loss" and described == describe(build(table, kind, described["type"]))
    except EngineError as error:
        location = pointer("training", kind, *error.path)
        raise InvalidRequestError.at(location, "invalid_value", str(error)) from None
    return described["type"] if plain else described


def training_config_from(training: Mapping[str, Any]) -> TrainingConfig:
    """Return the engine's training config for a complete ``training`` config."""
    stopping = training["early_stopping"]
    return TrainingConfig(
        epochs=training["epochs"],
        batch_size=training["batch_size"],
        loss=build(LOSSES, "loss", training["loss"]),
        optimizer=build(OPTIMIZERS, "optimizer", training["optimizer"]),
        schedule=build(SCHEDULES, "schedule", training["schedule"]),
        regularization=Regularization(training["l2"], training["gradient_clip_norm"]),
        early_stopping=stopping and EarlyStopping(**stopping),
        shuffle=training["shuffle"],
        seed=training["seed"],
        target_loss=training["limits"]["target_loss"],
    )


def check_compatibility(
    network: NetworkRecord, dataset: Dataset, training: Mapping[str, Any]
) -> list[int] | None:
    """Check that loss and dataset fit the network; return the result of `classes_of`.

    Raises
    ------
    InvalidRequestError
        If the loss or the dataset does not fit the network.
    """
    try:
        training_config_from(training).loss.check_output(network.output_activation)
    except EngineError as error:
        location = pointer("training", *error.path)
        raise InvalidRequestError.at(location, "invalid_value", str(error)) from None
    return classes_of(network, dataset)


def classes_of(network: NetworkRecord, dataset: Dataset) -> list[int] | None:
    """Return the network's class for each of the dataset's labels; None for regression.

    Raises
    ------
    InvalidRequestError
        If the dataset does not fit the network.
    """
    columns_of(network, dataset)
    if dataset.task == "regression":
        if dataset.outputs != network.units:
            problem = (
                f"the network has {network.units} outputs, "
                f"but the dataset has {dataset.outputs} target columns"
            )
            raise InvalidRequestError.at(_targets_of(dataset), "shape_mismatch", problem)
        return None
    return _classes(network, dataset)


def columns_of(network: NetworkRecord, dataset: Dataset) -> list[int] | None:
    """Return the dataset's column for each input, or None if they are in the same order.

    Columns with names are matched by name, and others by position.

    Raises
    ------
    InvalidRequestError
        If a column is missing, or the number of columns differs.
    """
    location = "/inputs" if dataset.hidden else "/dataset"
    names = network.feature_names
    order = None
    if names is not None and dataset.named:
        order = column_order(names, dataset.columns, location)
    if order is None and network.input_shape != dataset.input_shape:
        problem = (
            f"the network has {network.input_shape[0]} inputs, "
            f"but the dataset has {dataset.input_shape[0]} columns"
        )
        raise InvalidRequestError.at(location, "shape_mismatch", problem)
    return order


def column_notes(network: NetworkRecord, dataset: Dataset) -> list[str]:
    """Return notes on columns that are matched by position, or that the network does not read."""
    names = network.feature_names
    if names is None:
        note = "the network has no named features; its inputs are the columns in their order"
        return [note] if dataset.named else []
    if not dataset.named:
        note = "the dataset has no column names; its columns are the features in their order"
        return [] if dataset.hidden else [note]
    ignored = [name for name in dataset.columns if name not in names]
    return [f"the column {name[:80]!r} was ignored" for name in ignored[:20]]


def _targets_of(dataset: Dataset) -> str:
    """Return the pointer to the targets: in the body, or to the dataset that the body names."""
    return "/targets" if dataset.hidden else "/dataset"


def _classes(network: NetworkRecord, dataset: Dataset) -> list[int]:
    """Return the network's class for each of the dataset's labels."""
    labels = dataset.labels or []
    single = network.units == 1 and network.output_activation != "softmax"
    classes = 2 if single else network.units
    if network.labels is None and len(labels) == classes:
        return list(range(classes))
    known = network.effective_labels or [str(index) for index in range(classes)]
    unknown = [label for label in labels if label not in known]
    if unknown and network.labels is None and len(labels) != classes:
        problem = f"the network has {classes} classes, but the dataset has {len(labels)}"
        raise InvalidRequestError.at(_targets_of(dataset), "label_mismatch", problem)
    if unknown:
        problem = (
            f"the dataset's label {unknown[0]!r} is not one of the network's {classes} classes "
            f"({', '.join(known[:12])})"
        )
        raise InvalidRequestError.at(_targets_of(dataset), "label_mismatch", problem)
    return [known.index(label) for label in labels]
