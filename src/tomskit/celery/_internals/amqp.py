"""py-amqp: what a worker reads from RabbitMQ.

`Connection.transport`, its ``_quick_recv``, ``sock``, ``read_timeout``, ``raise_on_initial_eintr`` and ``read_frame``
    For: going on while a frame comes, of which a part has come, and closing a connection that is silent.
    When it is missing: a worker with RabbitMQ raises AttributeError when it connects. Where py-amqp calls
    something else instead, the worker and all coroutines of the asyncio pool stand still while a frame comes,
    and for ever where the rest of it does not.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

__all__ = ("read_in_pieces",)

_WANTS: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TIMEVAL: Final = "ll"


def read_in_pieces(connection: Any, seconds: float) -> None:
    """Have what has come of a frame be kept until the rest of it has, where its socket is asked not to wait.

    py-amqp does so at the beginning of a frame, and asks the socket again and again in its middle. Where it waits,
    for the answer to a method, it does so without a limit: a worker could not close a silent connection.

    Args:
        connection: A connection of py-amqp, which is connected.
        seconds: How long one wait may last, where nothing else is set. With TLS it has no limit.
    """
    transport = connection.transport
    used: socket.socket = transport.sock
    receive: Callable[[int], bytes] = transport._quick_recv
    if transport.read_timeout is None:
        limit = struct.pack(_TIMEVAL, int(seconds), int(seconds % 1 * 1e6))
        used.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def received(size: int) -> bytes:
        try:
            return receive(size)
        except _WANTS:
            if used.gettimeout() is None:
                # What waits next for the same server, to close the connection for instance, waits no more.
                with suppress(OSError):
                    used.shutdown(socket.SHUT_RDWR)
            raise TimeoutError("timed out") from None

    transport._quick_recv = received
