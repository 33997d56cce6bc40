"""What goes over the pipe between the server and a worker: framed, typed, never pickled.

A frame is a length of four bytes and a MessagePack array of a type's name and its fields.
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

HEAD: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker can take a job."""

    pid: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The worker is alive, however long its epoch takes."""

    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Take a checkpoint after this epoch and stop."""


@dataclass(frozen=True, slots=True)
class TakeCheckpoint:
    """Take a checkpoint after this epoch and go on."""


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
    """Return a message as it goes over the pipe."""
    body = _encoder.encode((type(message).__name__, message))
    return HEAD.pack(len(body)) + body


def parse(body: bytes) -> Any:
    """Return the message of a frame's body."""
    name, fields = _envelope.decode(body)
    return _decoders[name].decode(fields)
