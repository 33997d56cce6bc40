"""A listener that turns away clients: who was on the way is served, who comes after is told."""

import socket
import sys

import pytest

from service.server.sockets import bind, reject_new_connections


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_who_is_queued_is_accepted_and_who_comes_later_is_refused() -> None:
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
