"""What the engine refuses, and why.

::

    EngineError
    ├── ConfigurationError      a part cannot be built from what was asked
    │   └── UnknownTypeError    no part of that name exists
    ├── ShapeError              an array has another shape than the network
    ├── NonFiniteError          NaN or infinity where a number is due
    ├── FormatError             a document or file is not what its format says
    └── DivergedError           training left the finite numbers

Every error keeps its facts as attributes. ``path`` leads to the offending place in the
document that the caller handed in, outermost key first.
"""

from collections.abc import Iterable

Path = tuple[str | int, ...]


class EngineError(Exception):
    """Root of everything the engine refuses."""

    path: Path = ()

    def under(self, *prefix: str | int) -> "EngineError":
        """Return this error with its place prefixed, for callers that hold the outer document."""
        self.path = (*prefix, *self.path)
        return self


class ConfigurationError(EngineError, ValueError):
    """A part cannot be built from what was asked for."""

    def __init__(self, problem: str, *, path: Path = ()) -> None:
        self.path = path
        super().__init__(problem)


class UnknownTypeError(ConfigurationError):
    """No part of that name exists."""

    def __init__(self, kind: str, name: object, known: Iterable[str], *, path: Path = ()) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        super().__init__(
            f"unknown {kind} {str(name)[:80]!r}; known are {', '.join(self.known)}", path=path
        )


class ShapeError(EngineError, ValueError):
    """An array has another shape than the network expects."""

    def __init__(
        self,
        what: str,
        *,
        expected: tuple[int | None, ...],
        got: tuple[int, ...],
        path: Path = (),
    ) -> None:
        self.what = what
        self.expected = expected
        self.got = got
        self.path = path
        wanted = " x ".join("any" if n is None else str(n) for n in expected)
        found = " x ".join(map(str, got)) or "a single number"
        super().__init__(f"{what} must have the shape {wanted}, got {found}")


class NonFiniteError(EngineError, ValueError):
    """NaN or infinity stands where a finite number is due."""

    def __init__(self, what: str, *, path: Path = ()) -> None:
        self.what = what
        self.path = path
        super().__init__(f"{what} must be finite numbers")


class FormatError(EngineError, ValueError):
    """A document or file is not what its format says."""

    def __init__(self, problem: str, *, path: Path = ()) -> None:
        self.path = path
        super().__init__(problem)


class DivergedError(EngineError, ArithmeticError):
    """Training left the finite numbers; the network holds its last finite weights again."""

    def __init__(self, *, epoch: int, loss: float) -> None:
        self.epoch = epoch
        self.loss = loss
        super().__init__(
            f"training diverged at epoch {epoch} (loss {loss}); "
            "a smaller learning rate or gradient clipping usually helps"
        )
