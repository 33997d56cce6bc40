"""The listening socket, and a way to close it without resetting connections."""

import ctypes
import socket
import struct
from typing import Final, NamedTuple

SO_ATTACH_FILTER: Final = 26
"""From Linux's `asm-generic/socket.h`; Python has no name for it."""


class _Step(NamedTuple):
    """One `sock_filter` of Linux's `linux/filter.h`."""

    code: int
    if_true: int
    if_false: int
    operand: int


WITHOUT_SYN: Final = (
    _Step(0x30, 0, 0, 13),  # load the byte of the TCP header that contains the flags
    _Step(0x45, 0, 1, 0x02),  # is SYN set?
    _Step(0x06, 0, 0, 0),  # then drop the segment,
    _Step(0x06, 0, 0, 0xFFFF_FFFF),  # otherwise let it pass
)


def bind(host: str, port: int) -> socket.socket:
    """Return a TCP socket bound to an address.

    Parameters
    ----------
    port
        0 lets the system choose a free port.

    Raises
    ------
    OSError
        If the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def reject_new_connections(listener: socket.socket) -> None:
    """Drop the SYN of new connections. Queued connections can still be accepted.

    Closing a listener resets the connections in its accept queue. While clients connect, an empty
    queue can fill again before the listener closes. A client whose SYN is dropped sends it again
    after a second, or tries another server.

    Raises
    ------
    OSError
        If the system is not Linux, and therefore has no such filter.
    """
    steps = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *s) for s in WITHOUT_SYN))
    program = struct.pack("@HP", len(WITHOUT_SYN), ctypes.addressof(steps))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
