"""Bodies as MLflow's clients send them: four forms of JSON, and CSV with a header."""

from typing import Any, Final

import msgspec

from core.arrays import Array
from service.api.protocols.base import InferenceResponse
from service.api.protocols.tabular import (
    Features,
    Rows,
    decoded,
    has_header,
    rows_of,
    rows_of_csv,
    rows_of_records,
    rows_of_split,
)
from service.domain.errors import InvalidRequestError

FORMS: Final = {
    "dataframe_split": rows_of_split,
    "dataframe_records": rows_of_records,
    "instances": rows_of,
    "inputs": rows_of,
}


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    dataframe_split: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, Any] | None = None


KINDS: Final = frozenset({"application/json", "text/csv"})


def accepts(kind: str, body: bytes) -> bool:
    """Return True if a body is MLflow's."""
    return kind == "application/json" or (kind == "text/csv" and has_header(body))


def decode(kind: str, body: bytes, features: Features) -> Rows:
    """Return the rows, in the order of the features."""
    if kind == "text/csv":
        return rows_of_csv(body, header=True, features=features)
    request = decoded(body, _Request)
    given = [name for name in FORMS if isinstance(getattr(request, name), msgspec.Raw)]
    if len(given) != 1:
        raise InvalidRequestError(
            f"exactly one of {', '.join(FORMS)} is required, got {len(given)}"
        )
    return FORMS[given[0]](getattr(request, given[0]), features)


def encode(outputs: Array, _: str, __: str) -> InferenceResponse:
    """Return the response."""
    return InferenceResponse(msgspec.json.encode({"predictions": outputs.tolist()}))
