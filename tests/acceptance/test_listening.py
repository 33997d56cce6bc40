"""A listener that rejects new connections still serves those in its queue."""

import socket
import sys

import pytest

from service.server.sockets import bind, reject_new_connections


@pytest.mark.skipif(sys.platform != "linux", reason="the socket filter needs Linux")
def test_queued_connections_are_accepted_and_later_ones_rejected() -> None:
    listener = bind("127.0.0.1", 0)
    listener.listen(8)
    address = listener.getsockname()
    early = socket.create_connection(address)

    reject_new_connections(listener)
    with pytest.raises(TimeoutError):
        socket.create_connection(address, timeout=0.2)
    early.sendall(b"first")
    accepted, _ = listener.accept()
    with listener, accepted, early:
        assert accepted.recv(5) == b"first"
        early.sendall(b" and more")
        assert accepted.recv(9) == b" and more"
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
