"""Messages between the server and a worker: framed, typed and never pickled.

A frame is a length of four bytes, followed by a MessagePack array of a type name and its fields.
"""

import struct
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from service.application.training.worker_protocol import (
    CheckpointReport,
    EpochsReport,
    SnapshotReport,
    TrainingFailedReport,
    TrainingFinishedReport,
    TrainingStartedReport,
    TrainingStoppedReport,
    TrainingTask,
)

HEADER: Final = struct.Struct(">I")
"""Length of the body of a frame."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker is ready for its first job."""

    pid: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The worker is alive; sent at regular intervals, also during a long epoch."""

    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Report a checkpoint after this epoch, and stop."""


@dataclass(frozen=True, slots=True)
class TakeCheckpoint:
    """Report a checkpoint after this epoch, and continue."""


_KINDS: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        TrainingTask,
        Heartbeat,
        CheckpointReport,
        EpochsReport,
        TrainingFailedReport,
        TrainingFinishedReport,
        Ready,
        SnapshotReport,
        TrainingStartedReport,
        Stop,
        TrainingStoppedReport,
        TakeCheckpoint,
    )
}
_encoder: Final = msgspec.msgpack.Encoder()
_envelope: Final = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_decoders: Final = {name: msgspec.msgpack.Decoder(kind) for name, kind in _KINDS.items()}


def frame(message: Any) -> bytes:
    """Return a message as a frame."""
    body = _encoder.encode((type(message).__name__, message))
    return HEADER.pack(len(body)) + body


def parse(body: bytes) -> Any:
    """Return the message in the body of a frame."""
    name, fields = _envelope.decode(body)
    return _decoders[name].decode(fields)
