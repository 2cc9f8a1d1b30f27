"""py-amqp: what a worker or a client reads from RabbitMQ.

`Connection.transport`, its ``_quick_recv``, ``sock``, ``read_timeout``, ``raise_on_initial_eintr`` and ``read_frame``
    For: going on while a frame comes, of which a part has come, and waiting some seconds for an answer.
    When it is missing: what uses RabbitMQ raises AttributeError when it connects. Where py-amqp calls
    something else instead, a worker and all coroutines of the asyncio pool stand still while a frame comes,
    and for ever where the rest of it does not, or an answer.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, Final

__all__ = ("read_in_pieces", "without_limit")

_WANTS: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TIMEVAL: Final = "ll"


def read_in_pieces(connection: Any, seconds: float) -> None:
    """Have what has come of a frame be kept until the rest of it has, where its socket is asked not to wait.

    py-amqp does so at the beginning of a frame, and asks the socket again and again in its middle. Where it waits,
    for the answer to a method, it does so without a limit: a worker could not close a silent connection.

    Args:
        connection: A connection of py-amqp, which is connected.
        seconds: How long one wait may last, where nothing else is set. With TLS, py-amqp has set the time-out of
            connecting, if there is one.
    """
    transport = connection.transport
    used: socket.socket = transport.sock
    if isinstance(used, ssl.SSLSocket):
        if used.gettimeout() is None:
            used.settimeout(seconds)
    elif transport.read_timeout is None:
        limit = struct.pack(_TIMEVAL, int(seconds), int(seconds % 1 * 1e6))
        used.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    transport._quick_recv = _Receiving(used, transport._quick_recv)


@contextmanager
def without_limit(connection: Any) -> Generator[None]:
    """Wait for ever meanwhile where no time-out is given: for messages, which may never come."""
    receiving: object = connection.transport._quick_recv
    if not isinstance(receiving, _Receiving):
        yield
        return
    before, receiving.is_limited = receiving.is_limited, False
    try:
        yield
    finally:
        receiving.is_limited = before


class _Receiving:
    """Receives from a socket, and raises a time-out where py-amqp would ask again."""

    def __init__(self, used: socket.socket, receive: Callable[[int], bytes]) -> None:
        self.is_limited = True
        self.used = used
        self.receive = receive

    def __call__(self, size: int) -> bytes:
        while True:
            try:
                return self.receive(size)
            except _WANTS:
                waits = self.used.gettimeout() is None
                if waits and not self.is_limited:
                    continue
                if waits:
                    # What waits next for the same server, to close the connection for instance, waits no more.
                    with suppress(OSError):
                        self.used.shutdown(socket.SHUT_RDWR)
                raise TimeoutError("timed out") from None
