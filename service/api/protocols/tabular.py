"""Rows in the forms that several protocols share: JSON and CSV."""

import csv
import io
import re
from typing import Any, Final

import msgspec

from service.api.strict_json import check_duplicate_keys, check_string_count, quoted
from service.application.datasets.csv_reader import rows_in
from service.domain.errors import InvalidRequestError

Rows = list[list[float]]

MAX_CELL_LENGTH: Final = 400
MAX_HEADER_BYTES: Final = 64 << 10
LINE_END: Final = re.compile(rb"[\r\n]")


class Named(msgspec.Struct):
    """A row under the name that a protocol gives it."""

    input: list[float] | msgspec.UnsetType = msgspec.UNSET
    features: list[float] | msgspec.UnsetType = msgspec.UNSET


class NamedTensor(msgspec.Struct, forbid_unknown_fields=True):
    """All rows under the name of the only input."""

    input: list[list[float]]


class Split(msgspec.Struct, forbid_unknown_fields=True):
    """A table in pandas' split form; the index is ignored."""

    data: list[list[float]]
    columns: list[str | int] | None = None
    index: list[Any] | None = None


def decoded(body: bytes, kind: Any) -> Any:
    """Return a JSON body decoded as ``kind``; raise InvalidRequestError if it is not."""
    try:
        value = msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body cannot be decoded: {error}") from error
    objects = value if isinstance(value, list) else [value]
    first = objects[0] if objects else None
    if isinstance(first, msgspec.Struct):
        check_duplicate_keys(body, dict.fromkeys(quoted(*first.__struct_fields__), len(objects)))
    elif isinstance(first, dict):
        check_string_count(body, sum(map(len, objects)))
    return value


def rows_of(data: msgspec.Raw | bytes) -> Rows:
    """Return rows: lists of numbers, or objects with such a list as ``input`` or ``features``."""
    text = bytes(data).lstrip()
    if text[:1] == b"{":
        tensor: NamedTensor = decoded(text, NamedTensor)
        return tensor.input
    if text[1:].lstrip()[:1] != b"{":
        rows: Rows = decoded(text, Rows)
        return rows
    named_rows = []
    for index, row in enumerate(decoded(text, list[Named])):
        given = [value for value in (row.input, row.features) if isinstance(value, list)]
        if len(given) != 1:
            raise InvalidRequestError(f"row {index} must have its numbers as input or features")
        named_rows.append(given[0])
    return named_rows


def rows_of_split(data: msgspec.Raw | bytes) -> Rows:
    """Return the rows of ``{"columns", "index"?, "data"}``, in the order of the columns."""
    split: Split = decoded(bytes(data), Split)
    for index, row in enumerate(split.data):
        if split.columns is not None and len(row) != len(split.columns):
            problem = f"row {index} has {len(row)} numbers for {len(split.columns)} columns"
            raise InvalidRequestError(problem)
    return split.data


def rows_of_records(data: msgspec.Raw | bytes) -> Rows:
    """Return the rows of ``[{column: number}]``, in the order of the first record's columns."""
    records: list[dict[str, float]] = decoded(bytes(data), list[dict[str, float]])
    columns = list(records[0]) if records else []
    for index, record in enumerate(records):
        if record.keys() != records[0].keys():
            raise InvalidRequestError(f"record {index} has other columns than the first record")
    return [[record[column] for column in columns] for record in records]


def has_header(body: bytes) -> bool:
    """Return True if the first line of a CSV has names instead of numbers."""
    start = body[:MAX_HEADER_BYTES].removeprefix(b"\xef\xbb\xbf")
    first = LINE_END.split(start, maxsplit=1)[0].decode("utf-8", "replace")
    try:
        cells = next(csv.reader([first]), [])
        if len(first) >= len(start):
            cells = cells[:-1] or cells  # the last cell may be truncated
        for cell in cells:
            float(cell)
    except (ValueError, csv.Error):
        return True
    return False


def rows_of_csv(body: bytes, *, header: bool) -> Rows:
    """Return the rows of a CSV; blank lines are skipped."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError("the CSV is not UTF-8") from error
    rows: Rows = []
    try:
        for number, row in enumerate(rows_in(io.StringIO(text, newline="")), 1):
            if row and not (header and number == 1):
                rows.append([_number(cell, number, at) for at, cell in enumerate(row, 1)])
    except csv.Error as error:
        raise InvalidRequestError(f"the CSV cannot be parsed: {error}") from error
    return rows


def _number(cell: str, row: int, column: int) -> float:
    try:
        # Python accepts 1_0 and digits of other scripts; in a CSV they are not numbers.
        plain = len(cell) <= MAX_CELL_LENGTH and "_" not in cell and cell.isascii()
        return float(cell if plain else "")
    except ValueError:
        problem = f"line {row}, column {column}: {cell[:40]!r} is not a number"
        raise InvalidRequestError(problem) from None
