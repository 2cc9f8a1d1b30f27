"""kombu's channels on Redis, waiting for answers in the loop instead of in the socket.

The worker talks to the broker in blocking calls, and while it waits for an answer no coroutine runs:
for a fraction of a millisecond each time, and for ever when the broker hangs. With a channel of this
kind the worker waits through the loop.
"""

from __future__ import annotations

import select
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

import redis
from kombu import Connection
from kombu.asynchronous import get_event_loop
from typing_extensions import override

from tomskit.celery.asyncio_pool.hub import LoopHub

if TYPE_CHECKING:
    from socket import socket

__all__ = ("wait_in_loop",)


_PATIENCE_MS = 5
"""How long the worker waits in the socket. A broker answers within a fraction of a millisecond, and
turns of the loop for each answer cost more than that; one that does not is waited for in the loop."""


if TYPE_CHECKING:

    class _Connection:
        """redis-py's, which is not typed."""

        _sock: socket | None

        def connect(self) -> None: ...
        def send_packed_command(self, *args: object, **kwargs: object) -> None: ...
        def read_response(self, *args: object, **kwargs: object) -> object: ...

    class _Channel:
        """kombu's, of which the stubs know nothing."""

        pool: object

        def _create_client(self, asynchronous: bool = False) -> redis.Redis: ...

else:
    _Connection = _Channel = object


class _WaitingConnection(_Connection):
    """Waits in the loop for an answer that does not come at once, where the worker waits for it."""

    _asked = False

    @override
    def connect(self) -> None:
        hub = get_event_loop()
        if self._sock is None and isinstance(hub, LoopHub) and hub.can_turn():
            # A connection that was lost is made again in the middle of a read.
            hub.run_in_thread(super().connect)
        else:
            super().connect()

    @override
    def send_packed_command(self, *args: object, **kwargs: object) -> None:
        self._asked = True
        super().send_packed_command(*args, **kwargs)

    @override
    def read_response(self, *args: object, **kwargs: object) -> object:
        if self._asked:
            # What follows the first answer in a pipeline is there with it, or on its way.
            self._asked = False
            hub, sock = get_event_loop(), self._sock
            if isinstance(hub, LoopHub) and hub.can_turn() and sock is not None:
                answer = select.poll()
                answer.register(sock, select.POLLIN)
                if not answer.poll(_PATIENCE_MS):
                    hub.wait_readable(sock.fileno())
        return super().read_response(*args, **kwargs)


class _WaitingChannel(_Channel):
    """Makes a client for all its commands, where kombu makes one for each (0.1 ms with redis-py 8)."""

    _client_of_pool: tuple[object, redis.Redis] | None = None

    @override
    def _create_client(self, asynchronous: bool = False) -> redis.Redis:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        pool, known = self.pool, self._client_of_pool
        if known is None or known[0] is not pool:
            known = self._client_of_pool = (pool, super()._create_client())
        return known[1]


class _KombuTransport(Protocol):
    driver_type: str
    Channel: type


def wait_in_loop(connection: Connection) -> Connection:
    """Let the channels of a connection that is not open yet wait in the loop, if they can."""
    transport = cast("_KombuTransport", connection.transport)
    if transport.driver_type == "redis":
        transport.Channel = _waiting_channel(transport.Channel)
    return connection


@cache
def _waiting_channel(channel: type) -> type:
    return type(
        channel.__name__,
        (_WaitingChannel, channel),
        {
            "connection_class": _waiting_connection(cast("_Classes", channel).connection_class),
            "connection_class_ssl": _waiting_connection(
                cast("_Classes", channel).connection_class_ssl
            ),
        },
    )


class _Classes(Protocol):
    connection_class: type
    connection_class_ssl: type


@cache
def _waiting_connection(connection: type) -> type:
    return type(connection.__name__, (_WaitingConnection, connection), {})
