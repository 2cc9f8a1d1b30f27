"""What tomskit relies on in py-amqp beyond its public names."""

import socket
import ssl
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from amqp import Connection
from amqp.transport import SSLTransport, TCPTransport

from tests.support.contracts import assert_has, untyped
from tests.support.patience import patience
from tests.support.servers import Certificates
from tests.support.servers.base import HOST
from tomskit.celery._internals.amqp import read_in_pieces, without_limit

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


def test_a_wait_for_messages_has_none(peer: tuple[TCPTransport, socket.socket]) -> None:
    transport, other = untyped(peer[0]), peer[1]
    connection = SimpleNamespace(transport=transport)
    read_in_pieces(connection, 0.1)

    with without_limit(connection), ThreadPoolExecutor(1) as thread:
        reading = thread.submit(transport.read_frame)
        with pytest.raises(TimeoutError):
            reading.result(0.5)
        other.sendall(FRAME)

        assert reading.result(patience(10)) == (1, 2, b"hello")


def test_with_tls_reading_and_closing_have_a_limit(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate("server"), certificates.key("server"))
    with socket.create_server((HOST, 0)) as listening, ThreadPoolExecutor(1) as thread:
        trusted = {"ca_certs": certificates.certificate("ca")}
        made = untyped(SSLTransport)(f"{HOST}:{listening.getsockname()[1]}", ssl=trusted)
        connecting = thread.submit(made.connect)
        # It does no more than its part of the handshake.
        with context.wrap_socket(listening.accept()[0], server_side=True):
            connecting.result(patience(10))
            read_in_pieces(SimpleNamespace(transport=made), 0.2)

            with pytest.raises(TimeoutError):
                made.read_frame()
            thread.submit(made.close).result(patience(10))
