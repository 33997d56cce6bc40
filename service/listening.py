"""The socket that clients connect to, and how a server stops listening without losing one."""

import ctypes
import socket
import struct
from typing import Final, NamedTuple

from service.refusal import refuse

SO_ATTACH_FILTER: Final = 26
"""Of Linux's `asm-generic/socket.h`; Python has no name for it."""


class _Step(NamedTuple):
    """One `sock_filter` of Linux's `linux/filter.h`."""

    code: int
    if_true: int
    if_false: int
    operand: int


WITHOUT_SYN: Final = (
    _Step(0x30, 0, 0, 13),  # load the byte of the TCP header that holds the flags
    _Step(0x45, 0, 1, 0x02),  # is SYN among them?
    _Step(0x06, 0, 0, 0),  # then drop the segment,
    _Step(0x06, 0, 0, 0xFFFF_FFFF),  # else let it pass
)


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket, or end with a line that says why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        refuse(f"cannot listen on {host}:{port}: {error.strerror or error}")
    return listener


def turn_away(listener: socket.socket) -> None:
    """Let no new connection be made; those that are being made still can be accepted.

    Closing a listener resets what is queued on it, and its queue is never known to be empty while
    clients connect. One whose SYN is dropped sends it again, after a second or to another server.

    Raises
    ------
    OSError
        If the system has no such filter, being no Linux.
    """
    steps = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *s) for s in WITHOUT_SYN))
    program = struct.pack("@HP", len(WITHOUT_SYN), ctypes.addressof(steps))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
