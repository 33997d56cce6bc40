"""Predictions of one event-loop iteration, run through each network together."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, final

import numpy as np

from core.arrays import Array, as_rows
from core.errors import NonFiniteError, ShapeError
from service.application.engine_errors import translate_engine_error
from service.application.inference.loaded_model import LoadedModel
from service.domain.errors import (
    MAX_FIELD_ERRORS,
    FieldError,
    InvalidRequestError,
    ServiceError,
    pointer,
)
from service.domain.limits import Limits

log = logging.getLogger(__name__)

Rows = Sequence[Sequence[float]] | Array

MIN_BATCHED_CALLS: Final = 4
"""Fewer calls are faster one by one: a product of two or three rows costs more than their own."""


class _Pending(NamedTuple):
    """A call that waits for the end of the event-loop iteration."""

    model: LoadedModel
    rows: Rows
    respond: Callable[[Array | Exception], None]


@final
class PredictionBatches:
    """Collects the calls of one event-loop iteration."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pending: list[_Pending] = []

    def submit(
        self, model: LoadedModel, rows: Rows, respond: Callable[[Array | Exception], None]
    ) -> None:
        """Predict at the end of this iteration.

        Parameters
        ----------
        rows
            (rows, inputs), few enough to be computed on the event loop.
        respond
            Receives the outputs, (rows, units), or an InvalidRequestError for these rows.
        """
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        self._pending.append(_Pending(model, rows, respond))

    def flush(self) -> None:
        """Predict all pending calls now."""
        pending, self._pending = self._pending, []
        groups: dict[int, list[_Pending]] = {}
        for call in pending:
            groups.setdefault(id(call.model), []).append(call)
        for group in groups.values():
            if len(group) < MIN_BATCHED_CALLS or not self._predict_together(group):
                for call in group:
                    call.respond(self._predict_alone(call))

    def _predict_together(self, group: list[_Pending]) -> bool:
        """Predict calls of one model; return False, with nothing done, if any cannot be."""
        try:
            if all(isinstance(call.rows, list) for call in group):
                rows = np.array([row for call in group for row in call.rows], np.float64)
            else:
                rows = np.concatenate([np.asarray(call.rows, np.float64) for call in group])
            if any(not 1 <= len(call.rows) <= self._limits.rows_per_call for call in group):
                return False
            outputs = forward(group[0].model, rows, len(group))
        except (ServiceError, ValueError, OverflowError, TypeError):
            return False
        start = 0
        for call in group:
            call.respond(outputs[start : start + len(call.rows)])
            start += len(call.rows)
        return True

    def _predict_alone(self, call: _Pending) -> Array | Exception:
        try:
            return forward(call.model, check_rows(call.model, call.rows, self._limits))
        except InvalidRequestError as error:
            call.model.statistics.failed()
            return error
        except Exception as error:  # every caller gets a response
            log.exception("unexpected error in a prediction")
            return error


def check_rows(model: LoadedModel, inputs: Any, limits: Limits) -> Array:
    """Return rows as float64, (rows, inputs).

    Raises
    ------
    InvalidRequestError
        If a row has another width or holds something else than numbers, or there are too many.
    """
    columns = model.forward.inputs
    try:
        rows = as_rows(inputs, columns, np.dtype(np.float64))
    except (ShapeError, ValueError, OverflowError, TypeError) as error:
        raise _wrong_rows(inputs, columns) from error
    if not 1 <= len(rows) <= limits.rows_per_call:
        problem = f"a call accepts 1 to {limits.rows_per_call} rows, got {len(rows)}"
        raise InvalidRequestError.at("/inputs", "out_of_range", problem)
    return rows


def forward(model: LoadedModel, rows: Array, calls: int = 1) -> Array:
    """Return the outputs, (rows, units), for float64 rows of some calls, and count the pass.

    Raises
    ------
    InvalidRequestError
        If a row has another width, or a number is not finite in the network's dtype.
    """
    started = time.perf_counter_ns()
    try:
        outputs = model.forward(rows)
    except (NonFiniteError, ShapeError) as error:
        raise translate_engine_error(error, "inputs") from None
    model.statistics.ran(len(rows), time.perf_counter_ns() - started, calls)
    return outputs


def _wrong_rows(inputs: object, columns: int) -> InvalidRequestError:
    """Return the error that names the rows that are not ``columns`` numbers."""
    rows = inputs if isinstance(inputs, list) else []
    wrong = (
        FieldError(
            pointer("inputs", index),
            "shape_error",
            f"row {index} must have {columns} numbers, got "
            f"{len(row) if isinstance(row, list) else 'no list'}",
        )
        for index, row in enumerate(rows)
        if not isinstance(row, list) or len(row) != columns
    )
    errors = list(islice(wrong, MAX_FIELD_ERRORS))
    if not errors:
        problem = f"expected rows of {columns} finite numbers"
        errors = [FieldError("/inputs", "out_of_range", problem)]
    return InvalidRequestError(errors[0].detail, errors)
