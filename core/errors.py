"""Exceptions of the engine.

::

    EngineError
    ├── ConfigurationError      a component cannot be built from its configuration
    │   └── UnknownTypeError    no component of that name exists
    ├── ShapeError              an array does not have the expected shape
    ├── NonFiniteError          NaN or infinity where a finite number is expected
    ├── FormatError             a document or file violates its format
    └── DivergedError           loss, gradient or parameters became non-finite in training

Each exception keeps its facts as attributes. ``path`` locates the error in the input that the
caller passed in, outermost key first.
"""

from collections.abc import Iterable

Path = tuple[str | int, ...]


class EngineError(Exception):
    """Base class of all exceptions of the engine."""

    path: Path = ()

    def under(self, *prefix: str | int) -> "EngineError":
        """Prepend ``prefix`` to the path and return this error.

        It is for callers that process a part of a larger object.
        """
        self.path = (*prefix, *self.path)
        return self


class ConfigurationError(EngineError, ValueError):
    """A component cannot be built from its configuration."""

    def __init__(self, problem: str, *, path: Path = ()) -> None:
        self.path = path
        super().__init__(problem)


class UnknownTypeError(ConfigurationError):
    """No component of that name exists."""

    def __init__(self, kind: str, name: object, known: Iterable[str], *, path: Path = ()) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        super().__init__(
            f"unknown {kind} {str(name)[:80]!r}; expected one of {', '.join(self.known)}", path=path
        )


class ShapeError(EngineError, ValueError):
    """An array does not have the expected shape. None in ``expected`` matches any size."""

    def __init__(
        self,
        name: str,
        *,
        expected: tuple[int | None, ...],
        got: tuple[int, ...],
        path: Path = (),
    ) -> None:
        self.name = name
        self.expected = expected
        self.got = got
        self.path = path
        expected_shape = " x ".join("any" if n is None else str(n) for n in expected)
        actual_shape = " x ".join(map(str, got)) or "a single number"
        super().__init__(f"{name} must have the shape {expected_shape}, got {actual_shape}")


class NonFiniteError(EngineError, ValueError):
    """A value is NaN or infinite where a finite number is expected."""

    def __init__(self, name: str, *, path: Path = ()) -> None:
        self.name = name
        self.path = path
        super().__init__(f"{name} must be finite numbers")


class FormatError(EngineError, ValueError):
    """A document or file violates its format."""

    def __init__(self, problem: str, *, path: Path = ()) -> None:
        self.path = path
        super().__init__(problem)


class DivergedError(EngineError, ArithmeticError):
    """Training diverged. The network has the parameters of the last finite epoch."""

    def __init__(self, *, epoch: int, loss: float) -> None:
        self.epoch = epoch
        self.loss = loss
        super().__init__(
            f"training diverged at epoch {epoch} (loss {loss}); "
            "a smaller learning rate or gradient clipping usually helps"
        )
