"""Training values: what was asked for, completed to what is in force.

The defaults were chosen by measuring over raw tables, pixels and functions; the figures stand in
docs/explanation/defaults.md.
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
from service.domain.networks import NetworkRecord

BATCH_SIZE: Final = 32
STEPS: Final = 3000
"""A default training takes about so many steps ..."""
EPOCHS: Final = (30, 300)
"""... within these bounds of epochs."""
OPTIMIZER: Final = {"type": "adamw", "learning_rate": 0.01, "weight_decay": 0.3}
VALIDATION_FRACTION: Final = 0.2
MIN_ROWS_TO_VALIDATE: Final = 50
"""Below that, a fifth of the rows tells nothing: all are trained on, and to the end."""
PATIENCE: Final = 0.2
"""Share of the epochs that the default early stopping waits for an improvement."""


def default_loss(output_activation: str, task: Task) -> str:
    """Return the loss that fits the last activation."""
    if output_activation == "softmax":
        return "cross_entropy"
    return (
        "binary_cross_entropy"
        if output_activation == "sigmoid" and task == "classification"
        else "mse"
    )


def resolve_training_config(
    asked: Mapping[str, Any],
    network: NetworkRecord,
    dataset: Dataset,
    *,
    standardized: bool | None,
    drawn_seed: int,
) -> dict[str, Any]:
    """Return every training value, defaults filled in.

    Parameters
    ----------
    asked
        What the client said; None and absent mean the same where a default exists.
    standardized
        Whether the base version's inputs are standardised; None where it is untrained.
    drawn_seed
        Used where none was asked for.

    Raises
    ------
    InvalidRequest
        Naming the value that cannot be.
    """
    rows = dataset.rows
    validates = rows >= MIN_ROWS_TO_VALIDATE
    fraction = asked.get("validation_fraction")
    if fraction is None:
        fraction = VALIDATION_FRACTION if validates else 0.0
    batch = asked.get("batch_size") or BATCH_SIZE
    steps_per_epoch = math.ceil(rows * (1.0 - fraction) / batch)
    least, most = EPOCHS
    usual = most if not validates else max(least, min(most, math.ceil(STEPS / steps_per_epoch)))
    epochs = asked.get("epochs") or usual
    early_stopping = asked.get("early_stopping")
    # Whoever names the epochs wants them all; else training ends when nothing gets better.
    if "early_stopping" not in asked and not asked.get("epochs") and fraction > 0.0 and validates:
        early_stopping = {"patience": max(10, round(epochs * PATIENCE)), "min_delta": 0.0}
    standardize = asked.get("standardize")
    if standardized:
        standardize = True  # the weights were learned behind it
    elif standardize is None:
        standardize = standardized is None
    boundary = asked.get("boundary")
    if boundary is not None and network.input_shape != [2]:
        problem = f"frames need two inputs, this network has {network.input_shape[0]}"
        raise InvalidRequestError.at("/training/boundary", "shape_mismatch", problem)
    return {
        "epochs": epochs,
        "batch_size": batch,
        "loss": _complete(
            LOSSES,
            "loss",
            asked.get("loss") or default_loss(network.output_activation, dataset.task),
        ),
        "optimizer": _complete(OPTIMIZERS, "optimizer", asked.get("optimizer") or OPTIMIZER),
        "schedule": _complete(SCHEDULES, "schedule", asked.get("schedule") or "cosine"),
        "validation_fraction": fraction,
        "early_stopping": None
        if early_stopping is None
        else {"patience": 20, "min_delta": 0.0, **early_stopping},
        "l2": asked.get("l2") or 0.0,
        "gradient_clip_norm": asked.get("gradient_clip_norm"),
        "shuffle": asked.get("shuffle") is not False,
        "standardize": standardize,
        "seed": drawn_seed if asked.get("seed") is None else asked["seed"],
        "limits": {"seconds": None, "target_loss": None, **(asked.get("limits") or {})},
        **({} if boundary is None else {"boundary": boundary}),
    }


def _complete(table: Mapping[str, type[Any]], kind: str, config: object) -> Any:
    """Return a part's configuration with its defaults; a loss that has no others is a name."""
    try:
        described = describe(build(table, kind, config))
        plain = kind == "loss" and described == describe(build(table, kind, described["type"]))
    except EngineError as error:
        place = pointer("training", kind, *error.path)
        raise InvalidRequestError.at(place, "invalid_value", str(error)) from None
    return described["type"] if plain else described


def training_config_from(training: Mapping[str, Any]) -> TrainingConfig:
    """Return the engine's plan of values in force."""
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
    """Return what `classes_of` does, once the loss fits the network too."""
    try:
        training_config_from(training).loss.check_output(network.output_activation)
    except EngineError as error:
        place = pointer("training", *error.path)
        raise InvalidRequestError.at(place, "invalid_value", str(error)) from None
    return classes_of(network, dataset)


def classes_of(network: NetworkRecord, dataset: Dataset) -> list[int] | None:
    """Return the network's class of each of the dataset's labels; None for regression.

    Raises
    ------
    InvalidRequest
        When network and dataset do not go together.
    """
    if network.input_shape != dataset.input_shape:
        problem = (
            f"the network takes {network.input_shape[0]} inputs, "
            f"the dataset has {dataset.input_shape[0]} columns"
        )
        place = "/inputs" if dataset.hidden else "/dataset"
        raise InvalidRequestError.at(place, "shape_mismatch", problem)
    if dataset.task == "regression":
        if dataset.outputs != network.units:
            problem = f"the network has {network.units} outputs, a target has {dataset.outputs}"
            raise InvalidRequestError.at(_targets_of(dataset), "shape_mismatch", problem)
        return None
    return _classes(network, dataset)


def _targets_of(dataset: Dataset) -> str:
    """Return where a request has the targets: in its own body, or in the dataset it names."""
    return "/targets" if dataset.hidden else "/dataset"


def _classes(network: NetworkRecord, dataset: Dataset) -> list[int]:
    """Return the network's class of each of the dataset's labels."""
    labels = dataset.labels or []
    single = network.units == 1 and network.output_activation != "softmax"
    classes = 2 if single else network.units
    if network.labels is None and len(labels) == classes:
        return list(range(classes))
    known = network.effective_labels or [str(index) for index in range(classes)]
    strange = [label for label in labels if label not in known]
    if strange and network.labels is None and len(labels) != classes:
        problem = f"the network tells {classes} classes apart, the dataset has {len(labels)}"
        raise InvalidRequestError.at(_targets_of(dataset), "label_mismatch", problem)
    if strange:
        problem = (
            f"the dataset's label {strange[0]!r} is none of the network's {classes} classes "
            f"({', '.join(known[:12])})"
        )
        raise InvalidRequestError.at(_targets_of(dataset), "label_mismatch", problem)
    return [known.index(label) for label in labels]
