"""What tomskit relies on in py-amqp beyond its public names."""

import socket
import struct
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from amqp import Connection
from amqp.transport import TCPTransport

from tests.support.contracts import assert_has, untyped
from tomskit.celery._internals.amqp import read_in_pieces

FRAME = struct.pack(">BHI", 1, 2, 5) + b"hello" + b"\xce"


@pytest.fixture
def peer() -> Iterator[tuple[TCPTransport, socket.socket]]:
    """A transport that is connected, and the server's side of it."""
    mine, other = socket.socketpair()
    transport = untyped(TCPTransport)("127.0.0.1:1", raise_on_initial_eintr=True)
    transport.sock = mine
    transport._setup_transport()
    yield transport, other
    mine.close()
    other.close()


@pytest.mark.parametrize("size", [1, 3, 8, len(FRAME)])
def test_a_frame_is_read_as_it_comes(peer: tuple[TCPTransport, socket.socket], size: int) -> None:
    """``Connection.transport``, its ``_quick_recv``, ``raise_on_initial_eintr`` and ``read_frame``."""
    assert_has(Connection, "transport")
    transport, other = untyped(peer[0]), peer[1]
    assert_has(transport, "_quick_recv")
    read_in_pieces(SimpleNamespace(transport=transport), 30)

    def read() -> object:
        with transport.having_timeout(0):
            return transport.read_frame()

    for begin in range(0, len(FRAME), size):
        with pytest.raises(TimeoutError):
            read()
        other.sendall(FRAME[begin : begin + size])

    frame: object = read()
    assert frame == (1, 2, b"hello")
    with pytest.raises(TimeoutError):
        read()


def test_a_wait_has_a_limit(peer: tuple[TCPTransport, socket.socket]) -> None:
    """``read_timeout`` and ``sock``."""
    transport = untyped(peer[0])
    read_in_pieces(SimpleNamespace(transport=transport), 0.2)

    with pytest.raises(TimeoutError):
        transport.read_frame()
    with pytest.raises(OSError, match="closed"):
        transport.read_frame()
