"""Reads CSV files with a header row in bounded memory."""

import csv
import io
import math
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO, final

import numpy as np

from service.application.datasets.tables import RawTargets, Table, build_table
from service.domain.datasets import Task
from service.domain.errors import (
    MAX_FIELD_ERRORS,
    FieldError,
    InvalidRequestError,
    MalformedBodyError,
    pointer,
)
from service.domain.identifiers import is_plain
from service.domain.limits import Limits

BLOCK: Final = 256 << 10
MAX_CELL_LENGTH: Final = 4096
MAX_ROW_LENGTH: Final = 1 << 20
"""Characters of a row, including quoted line breaks."""


def read_csv(path: Path, target: str | None, task: Task | None, limits: Limits) -> Table:
    """Return the table of a CSV file.

    Parameters
    ----------
    path
        A UTF-8 file with the column names in its first row.
    target
        Name of the target column; None selects the last column.
    task
        None infers the task from the targets.

    Raises
    ------
    InvalidRequestError
        If the file is not valid. The error names the row (counted from 1 below the header) and
        the column of at most `MAX_FIELD_ERRORS` invalid cells.
    """
    csv.field_size_limit(MAX_CELL_LENGTH)
    try:
        with path.open("rb", buffering=0) as file:
            blocks: Any = _BlockReader(file)
            text = io.TextIOWrapper(blocks, encoding="utf-8-sig", newline="")
            return _read(rows_in(text, strict=True), target, task, limits)
    except UnicodeDecodeError as error:
        raise MalformedBodyError("the CSV is not UTF-8") from error
    except csv.Error as error:
        raise MalformedBodyError(f"invalid CSV: {error}") from error


@final
class _BlockReader(io.BufferedIOBase):
    """A file that is read in blocks of `BLOCK` bytes.

    Each read releases the GIL, and this thread reacquires it before another thread wakes up. Small
    reads every millisecond would block the event loop for a second.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        """Return the next block; ``size`` is ignored."""
        return self._file.read(BLOCK) or b""


def rows_in(file: TextIO, *, strict: bool = False) -> Iterator[list[str]]:
    """Yield the rows of a CSV.

    Raises
    ------
    csv.Error
        If a row is malformed, or longer than `MAX_ROW_LENGTH`; the rest of it is not read.
    """
    length = 0

    def lines() -> Iterator[str]:
        nonlocal length
        while line := file.readline(MAX_ROW_LENGTH + 1):
            length += len(line)
            if length > MAX_ROW_LENGTH:
                raise csv.Error(f"a row is longer than {MAX_ROW_LENGTH} characters")
            yield line

    for cells in csv.reader(lines(), strict=strict):
        length = 0
        yield cells


def _read(
    rows: Iterator[list[str]], target: str | None, task: Task | None, limits: Limits
) -> Table:
    header = _header(next(rows, []), limits)
    target_index = _target_index(header, target)
    columns = header[:target_index] + header[target_index + 1 :]
    parsed = _ParsedRows(header, target_index)
    for cells in rows:
        if cells:  # a blank line has no cells
            parsed.add(cells)
        if parsed.count > limits.dataset_rows:
            problem = f"the file has more than {limits.dataset_rows} rows"
            raise InvalidRequestError.at("", "too_many_rows", problem)
        if len(parsed.field_errors) >= MAX_FIELD_ERRORS:
            break
    if parsed.field_errors:
        raise InvalidRequestError(
            parsed.field_errors[0].detail, parsed.field_errors[:MAX_FIELD_ERRORS]
        )
    inputs = np.frombuffer(parsed.numbers, np.float64).reshape(parsed.count, len(columns))
    name = header[target_index]
    targets = _targets(parsed.words, name, task)
    return build_table(inputs, targets, columns, task, pointer(0, name), limits)


class _ParsedRows:
    """Collects the inputs, at eight bytes per number, and the words of the target column."""

    def __init__(self, header: list[str], target_index: int) -> None:
        self._header, self._target_index = header, target_index
        self._columns = header[:target_index] + header[target_index + 1 :]
        self.numbers, self.words = array("d"), list[str]()
        self.field_errors: list[FieldError] = []
        self.count = 0

    def add(self, cells: list[str]) -> None:
        """Add a row, or record its errors."""
        self.count += 1
        row, header = self.count, self._header
        if len(cells) != len(header):
            problem = f"row {row} has {len(cells)} cells, but the header has {len(header)}"
            self.field_errors.append(
                FieldError(pointer(row - 1), "ragged", problem, (("row", row),))
            )
            return
        word = cells.pop(self._target_index).strip()
        # Equal labels share one string object, however many rows they have.
        self.words.append(sys.intern(word))
        if not word:
            name = header[self._target_index]
            self.field_errors.append(_cell_error(row, name, "missing_value", "the cell is empty"))
        try:
            self.numbers.extend(_floats(cells))
        except ValueError:
            self.field_errors += _input_errors(cells, self._columns, row)


def _header(cells: list[str], limits: Limits) -> list[str]:
    """Return the checked names of the columns."""
    names = [cell.strip() for cell in cells]
    problem = None
    if len(names) < 2:
        problem = "the first row must name at least two columns, one of them the target"
    elif len(names) > limits.dataset_columns + 1:
        problem = f"expected at most {limits.dataset_columns} input columns, got {len(names) - 1}"
    elif not all(map(is_plain, names)):
        problem = "column names must not contain control characters"
    elif not all(names):
        problem = f"column {names.index('') + 1} has no name"
    elif len(set(names)) != len(names):
        duplicate = Counter(names).most_common(1)[0][0]
        problem = f"duplicate column name {duplicate[:80]!r}"
    elif all(_is_number(name) for name in names):
        problem = "the first row has only numbers; expected a header row with column names"
    if problem is not None:
        raise InvalidRequestError.at("", "invalid_header", problem)
    return names


def _target_index(header: list[str], target: str | None) -> int:
    """Return the index of the target column."""
    if target is None:
        return len(header) - 1
    if target not in header:
        problem = f"unknown column {target[:80]!r}; the columns are {', '.join(header[:20])}"
        raise InvalidRequestError.at("", "unknown_column", problem)
    return header.index(target)


def _floats(cells: list[str]) -> list[float]:
    """Return the numbers in the cells; raise ValueError unless all are finite."""
    values = [float(cell) for cell in cells]
    # The sum is a fast check: it is finite only if every number is. A sum of finite numbers may
    # overflow, so a sum that is not finite is checked number by number.
    if not math.isfinite(sum(values)) and not all(map(math.isfinite, values)):
        raise ValueError
    if any("_" in cell or not cell.isascii() for cell in cells):
        raise ValueError
    return values


def _input_errors(cells: list[str], columns: list[str], row: int) -> list[FieldError]:
    """Return the errors in the input cells of a row."""
    field_errors = []
    for cell, column in zip(cells, columns, strict=True):
        if not cell.strip():
            field_errors.append(_cell_error(row, column, "missing_value", "the cell is empty"))
        elif not _is_number(cell):
            field_errors.append(
                _cell_error(row, column, "not_a_number", f"{cell[:80]!r} is not a number")
            )
    return field_errors


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and "_" not in cell and cell.isascii()
    except ValueError:
        return False


def _cell_error(row: int, column: str, code: str, problem: str) -> FieldError:
    where = (("row", row), ("column", column))
    detail = f"row {row}, column {column[:80]!r}: {problem}"
    return FieldError(pointer(row - 1, column), code, detail, where)


def _targets(words: list[str], name: str, task: Task | None) -> RawTargets:
    """Return the target column as numbers, or as words if no cell is a number.

    For classification, a mix of numbers and words is read as words.
    """
    non_numeric = [row for row, word in enumerate(words, 1) if not _is_number(word)]
    if not non_numeric:
        return RawTargets(numbers=np.array([float(word) for word in words]))
    if task == "classification" or (task is None and len(non_numeric) == len(words)):
        return RawTargets(words=words)
    problem = "is not a number, but other targets are; task=classification reads all as labels"
    field_errors = [
        _cell_error(row, name, "not_a_number", f"{words[row - 1][:80]!r} {problem}")
        for row in non_numeric[:MAX_FIELD_ERRORS]
    ]
    raise InvalidRequestError(field_errors[0].detail, field_errors)
