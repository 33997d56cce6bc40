"""Limits on requests, networks, datasets and jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.domain.errors import FieldError, InvalidRequestError, pointer

MAX_WIDTH: Final = 65_536
"""Upper bound in the request schemas for numbers in a row, labels and classes.

The settings cannot raise it.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that apply to every request; `Settings` describes the configurable ones."""

    json_bytes: int = 8 << 20
    inference_bytes: int = 32 << 20
    weights_bytes: int = 64 << 20
    inline_bytes: int = 256 << 10
    dataset_bytes: int = 256 << 20
    layers: int = 16
    width: int = 4096
    parameters: int = 2_000_000
    epochs: int = 100_000
    dataset_rows: int = 5_000_000
    builtin_rows: int = 500_000
    dataset_columns: int = 4096
    dataset_labels: int = 4096
    rows_per_call: int = 10_000
    frame_bytes: int = 256 << 10
    gradient_check_rows: int = 64
    queued_jobs: int = 10_000
    queued_jobs_per_tenant: int = 1000
    attempts: int = 3

    @property
    def table_bytes(self) -> int:
        """Maximum bytes of a dataset in memory; as text, most numbers take about half as many."""
        return 2 * self.dataset_bytes

    def check_network(self, input_shape: Sequence[Any], layers: Sequence[Any]) -> None:
        """Raise InvalidRequestError if a network is too large.

        The check uses Python integers, which cannot overflow, and allocates nothing.
        """
        field_errors = []
        width = input_shape[0] if len(input_shape) == 1 else 0
        if not 1 <= width <= self.width:
            problem = f"expected one dimension of 1 to {self.width} inputs"
            field_errors.append(FieldError("/input_shape", "out_of_range", problem))
        if not 1 <= len(layers) <= self.layers:
            problem = f"expected 1 to {self.layers} layers, got {len(layers)}"
            field_errors.append(FieldError("/layers", "out_of_range", problem))
        widths = [
            (index, layer["units"])
            for index, layer in enumerate(layers[: self.layers + 1])
            if isinstance(layer, Mapping) and isinstance(layer.get("units"), int)
        ]
        count = 0
        for index, units in widths:
            if not 1 <= units <= self.width:
                problem = f"a layer must have 1 to {self.width} units"
                field_errors.append(
                    FieldError(pointer("layers", index, "units"), "out_of_range", problem)
                )
            count += units * (width + 1)
            width = units
        if count > self.parameters and not field_errors:
            problem = (
                f"the network has {count} parameters, but at most {self.parameters} are allowed"
            )
            field_errors.append(FieldError("/layers", "too_many_parameters", problem))
        if field_errors:
            raise InvalidRequestError(field_errors[0].detail, field_errors)


DEFAULT_LIMITS: Final = Limits()
"""The defaults of the settings."""
