"""Rows in the forms that several protocols share: JSON and CSV."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from service.api.strict_json import check_duplicate_keys, check_string_count, quoted
from service.application.datasets.csv_reader import rows_in
from service.domain.errors import InvalidRequestError

Rows = list[list[float]]

MAX_CELL_LENGTH: Final = 400
MAX_HEADER_BYTES: Final = 64 << 10
NAMED_LIST: Final = re.compile(rb'\[\s*{\s*"(input|features)"\s*:\s*\[')
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


Features = Sequence[str] | None
"""Names of the columns that a network reads, or None if they are unknown."""


def rows_of(data: msgspec.Raw | bytes, features: Features = None) -> Rows:
    """Return rows: lists of numbers, objects with such a list, or objects by column name.

    Such a list is called ``input`` or ``features``.
    """
    text = bytes(data).lstrip()
    if text[:1] == b"{":
        tensor: NamedTensor = decoded(text, NamedTensor)
        return tensor.input
    if text[1:].lstrip()[:1] != b"{":
        rows: Rows = decoded(text, Rows)
        return rows
    if features is not None and not NAMED_LIST.match(text):
        return rows_of_records(text, features)
    named_rows = []
    for index, row in enumerate(decoded(text, list[Named])):
        given = [value for value in (row.input, row.features) if isinstance(value, list)]
        if len(given) != 1:
            raise InvalidRequestError(f"row {index} must have its numbers as input or features")
        named_rows.append(given[0])
    return named_rows


def rows_of_split(data: msgspec.Raw | bytes, features: Features = None) -> Rows:
    """Return the rows of ``{"columns", "index"?, "data"}``, in the order of the features."""
    split: Split = decoded(bytes(data), Split)
    for index, row in enumerate(split.data):
        if split.columns is not None and len(row) != len(split.columns):
            problem = f"row {index} has {len(row)} numbers for {len(split.columns)} columns"
            raise InvalidRequestError(problem)
    names = split.columns
    # A table without names has the positions of its columns.
    if names is None or features is None or names == list(range(len(names))):
        return split.data
    return in_order(split.data, [str(name) for name in names], features)


def rows_of_records(data: msgspec.Raw | bytes, features: Features = None) -> Rows:
    """Return the rows of ``[{column: number}]``, in the order of the features.

    If these are unknown, the order is that of the first record's columns.
    """
    records: list[dict[str, float]] = decoded(bytes(data), list[dict[str, float]])
    columns = list(records[0]) if records else []
    for index, record in enumerate(records):
        if record.keys() != records[0].keys():
            raise InvalidRequestError(f"record {index} has other columns than the first record")
    rows = [[record[column] for column in columns] for record in records]
    return in_order(rows, columns, features)


def in_order(rows: Rows, names: Sequence[str], features: Features) -> Rows:
    """Return rows whose columns have names in the order of the features.

    Raises
    ------
    InvalidRequestError
        If a name is unknown, repeated or missing; nothing is matched by position.
    """
    if features is None or list(names) == list(features):
        return rows
    for index, row in enumerate(rows):
        if len(row) != len(names):
            problem = f"row {index} has {len(row)} numbers for {len(names)} columns"
            raise InvalidRequestError(problem)
    at = {name: index for index, name in enumerate(names)}
    if len(at) != len(names):
        raise InvalidRequestError("a column has the same name as another one")
    unknown = [name for name in names if name not in features]
    missing = [name for name in features if name not in at]
    if unknown or missing:
        problem = f"unknown column {unknown[0][:80]!r}" if unknown else ""
        problem = problem or f"the column {missing[0][:80]!r} is missing"
        raise InvalidRequestError(f"{problem}; the columns are {', '.join(features[:20])}")
    order = [at[name] for name in features]
    return [[row[index] for index in order] for row in rows]


def has_header(body: bytes, features: Features = None) -> bool:
    """Return True if a cell in the first line of a CSV is a feature, or is not a number."""
    start = body[:MAX_HEADER_BYTES].removeprefix(b"\xef\xbb\xbf")
    first = LINE_END.split(start, maxsplit=1)[0].decode("utf-8", "replace")
    try:
        cells = next(csv.reader([first]), [])
        if len(first) >= len(start):
            cells = cells[:-1] or cells  # the last cell may be truncated
        for cell in cells:
            if features is not None and cell.strip() in features:
                return True
            float(cell)
    except (ValueError, csv.Error):
        return True
    return False


def rows_of_csv(body: bytes, *, header: bool, features: Features = None) -> Rows:
    """Return the rows of a CSV, in the order of the features; blank lines are skipped."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError("the CSV is not UTF-8") from error
    rows: Rows = []
    names: list[str] = []
    try:
        for number, row in enumerate(rows_in(io.StringIO(text, newline="")), 1):
            if header and number == 1:
                names = [cell.strip() for cell in row]
            elif row:
                rows.append([_number(cell, number, at) for at, cell in enumerate(row, 1)])
    except csv.Error as error:
        raise InvalidRequestError(f"the CSV cannot be parsed: {error}") from error
    return in_order(rows, names, features) if header else rows


def _number(cell: str, row: int, column: int) -> float:
    try:
        # Python accepts 1_0 and digits of other scripts; in a CSV they are not numbers.
        plain = len(cell) <= MAX_CELL_LENGTH and "_" not in cell and cell.isascii()
        return float(cell if plain else "")
    except ValueError:
        problem = f"line {row}, column {column}: {cell[:40]!r} is not a number"
        raise InvalidRequestError(problem) from None
