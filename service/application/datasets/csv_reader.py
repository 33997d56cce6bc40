"""CSV with a header row, read in bounded memory."""

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
"""Characters of a row, which may hold line ends in quotes."""


def read_csv(path: Path, target: str | None, task: Task | None, limits: Limits) -> Table:
    """Return the table of a CSV file.

    Parameters
    ----------
    path
        The file, UTF-8, with names in its first row.
    target
        Name of the target column; None is the last one.

    Raises
    ------
    InvalidRequest
        Naming row (counted from 1 below the header) and column of the first twenty faults.
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
        raise MalformedBodyError(f"this is no CSV: {error}") from error


@final
class _BlockReader(io.BufferedIOBase):
    """A file that is read seldom, and much at once.

    A thread lets go of the interpreter at each read, and has it back before another thread woke.
    One that reads a little every millisecond would keep the event loop out for a second.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        """Return the next block, whatever size is asked for."""
        return self._file.read(BLOCK) or b""


def rows_in(file: TextIO, *, strict: bool = False) -> Iterator[list[str]]:
    """Yield the rows of a CSV; one that is too long is refused before it is read whole."""
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        while line := file.readline(MAX_ROW_LENGTH + 1):
            taken += len(line)
            if taken > MAX_ROW_LENGTH:
                raise csv.Error(f"a row is longer than {MAX_ROW_LENGTH} characters")
            yield line

    for cells in csv.reader(lines(), strict=strict):
        taken = 0
        yield cells


def _read(
    rows: Iterator[list[str]], target: str | None, task: Task | None, limits: Limits
) -> Table:
    header = _header(next(rows, []), limits)
    chosen = _target_index(header, target)
    columns = header[:chosen] + header[chosen + 1 :]
    found = _Rows(header, chosen)
    for cells in rows:
        if cells:  # a blank line holds none
            found.take(cells)
        if found.count > limits.dataset_rows:
            problem = f"there are more than {limits.dataset_rows} rows"
            raise InvalidRequestError.at("", "too_many_rows", problem)
        if len(found.field_errors) >= MAX_FIELD_ERRORS:
            break
    if found.field_errors:
        raise InvalidRequestError(
            found.field_errors[0].detail, found.field_errors[:MAX_FIELD_ERRORS]
        )
    inputs = np.frombuffer(found.numbers, np.float64).reshape(found.count, len(columns))
    place = pointer(0, header[chosen])
    return build_table(
        inputs, _targets(found.words, header[chosen], task), columns, task, place, limits
    )


class _Rows:
    """The rows as they come in: eight bytes a number, and the words of the target column."""

    def __init__(self, header: list[str], chosen: int) -> None:
        self._header, self._chosen = header, chosen
        self._columns = header[:chosen] + header[chosen + 1 :]
        self.numbers, self.words = array("d"), list[str]()
        self.field_errors: list[FieldError] = []
        self.count = 0

    def take(self, cells: list[str]) -> None:
        """Take one row, or note what is wrong with it."""
        self.count += 1
        row, header = self.count, self._header
        if len(cells) != len(header):
            problem = f"row {row} has {len(cells)} cells, the header has {len(header)}"
            self.field_errors.append(
                FieldError(pointer(row - 1), "ragged", problem, (("row", row),))
            )
            return
        word = cells.pop(self._chosen).strip()
        # One object for equal words: a label of a million rows is held once.
        self.words.append(sys.intern(word))
        if not word:
            name = header[self._chosen]
            self.field_errors.append(_fault(row, name, "missing_value", "the cell is empty"))
        try:
            self.numbers.extend(_floats(cells))
        except ValueError:
            self.field_errors += _cell_faults(cells, self._columns, row)


def _header(cells: list[str], limits: Limits) -> list[str]:
    """Return the names of the columns."""
    names = [cell.strip() for cell in cells]
    problem = None
    if len(names) < 2:
        problem = "the first row must name at least two columns, one of them the target"
    elif len(names) > limits.dataset_columns + 1:
        problem = f"there are more than {limits.dataset_columns} input columns"
    elif not all(map(is_plain, names)):
        problem = "a column's name holds no control characters"
    elif not all(names):
        problem = f"column {names.index('') + 1} has no name"
    elif len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        problem = f"two columns are called {twice[:80]!r}"
    elif all(_is_number(name) for name in names):
        problem = "the first row holds numbers; a header row with names is due"
    if problem is not None:
        raise InvalidRequestError.at("", "invalid_header", problem)
    return names


def _target_index(header: list[str], target: str | None) -> int:
    """Return which column holds the targets."""
    if target is None:
        return len(header) - 1
    if target not in header:
        problem = f"there is no column {target[:80]!r}; there are {', '.join(header[:20])}"
        raise InvalidRequestError.at("", "unknown_column", problem)
    return header.index(target)


def _floats(cells: list[str]) -> list[float]:
    """Return finite numbers, or raise ValueError."""
    values = [float(cell) for cell in cells]
    # NaN and infinity make the sum so; a finite sum may still overflow, hence the second look.
    if not math.isfinite(sum(values)) and not all(map(math.isfinite, values)):
        raise ValueError
    if any("_" in cell or not cell.isascii() for cell in cells):
        raise ValueError
    return values


def _cell_faults(cells: list[str], columns: list[str], row: int) -> list[FieldError]:
    """Return what is wrong with the cells of a row."""
    field_errors = []
    for cell, column in zip(cells, columns, strict=True):
        if not cell.strip():
            field_errors.append(_fault(row, column, "missing_value", "the cell is empty"))
        elif not _is_number(cell):
            field_errors.append(
                _fault(row, column, "not_a_number", f"{cell[:80]!r} is not a number")
            )
    return field_errors


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and "_" not in cell and cell.isascii()
    except ValueError:
        return False


def _fault(row: int, column: str, code: str, problem: str) -> FieldError:
    where = (("row", row), ("column", column))
    detail = f"row {row}, column {column[:80]!r}: {problem}"
    return FieldError(pointer(row - 1, column), code, detail, where)


def _targets(words: list[str], name: str, task: Task | None) -> RawTargets:
    """Return the target column: numbers, or words where no cell is one or the task says so."""
    strange = [row for row, word in enumerate(words, 1) if not _is_number(word)]
    if not strange:
        return RawTargets(numbers=np.array([float(word) for word in words]))
    if task == "classification" or (task is None and len(strange) == len(words)):
        return RawTargets(words=words)
    problem = "is not a number as the others are; task=classification takes them all as labels"
    field_errors = [
        _fault(row, name, "not_a_number", f"{words[row - 1][:80]!r} {problem}")
        for row in strange[:MAX_FIELD_ERRORS]
    ]
    raise InvalidRequestError(field_errors[0].detail, field_errors)
