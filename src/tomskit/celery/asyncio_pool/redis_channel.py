"""kombu's channels on Redis, waiting in the loop.

The worker talks to the broker in blocking calls. While it waits for an answer no coroutine runs: for a
fraction of a millisecond each time, and for ever when the broker hangs. With a channel of this kind
the worker waits through the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kombu.asynchronous import get_event_loop
from typing_extensions import override

from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.loop_socket import LoopSocket
from tomskit.celery.fast_redis.connections import AwayConnection
from tomskit.celery.fast_redis.guarded import GuardedChannel
from tomskit.celery.fast_redis.outstanding import KeepingQoS
from tomskit.celery.fast_redis.parts import Parts, fast_parts
from tomskit.celery.fast_redis.poller import WatchfulPoller

if TYPE_CHECKING:
    from socket import socket

    import redis

    from tomskit.celery.fast_redis.sockets import PacedSocket

__all__ = ("waiting_parts",)


class _WaitingConnection(AwayConnection):
    """Waits in the loop for an answer that does not come at once."""

    @override
    def connect(self) -> None:
        hub = get_event_loop()
        if self._sock is None and isinstance(hub, LoopHub) and hub.can_turn():
            # A connection that was lost is made again in the middle of a read.
            hub.run_in_thread(super().connect)
        else:
            super().connect()

    @override
    def _paced(self, connected: socket) -> PacedSocket:
        return LoopSocket(connected)


class _WaitingChannel(GuardedChannel):
    """Uses one client for all commands, where kombu makes one for each (0.1 ms with redis-py 8).

    It can be used after it was closed.
    """

    _client_of_pool: tuple[object, redis.Redis] | None = None
    _last_pool: redis.ConnectionPool | None = None

    @override
    def _get_pool(self, asynchronous: bool = False) -> redis.ConnectionPool:
        if asynchronous:
            return super()._get_pool(asynchronous=True)
        transport = self.connection
        if self._last_pool is None or (transport is not None and transport.client is not None):
            self._last_pool = super()._get_pool()
        # A closed channel of kombu does not know any more where the server is.
        return self._last_pool

    @override
    def _create_client(self, asynchronous: bool = False) -> redis.Redis:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        pool, known = self.pool, self._client_of_pool
        if known is None or known[0] is not pool:
            known = self._client_of_pool = (pool, super()._create_client())
        return known[1]


class _Aside:
    """Has a thread do what takes long. In front of the channel of the fast path, which does it itself."""

    def call_aside(self, function: Callable[[], None]) -> None:
        """Call a function that takes long in a thread, and let coroutines run meanwhile."""
        hub = get_event_loop()
        if isinstance(hub, LoopHub) and hub.can_turn():
            hub.run_in_thread(function)
        else:
            function()


def waiting_parts(*, fast: bool, fetch_bytes: int | None = None) -> Parts:
    """The parts of connections of a worker with the pool.

    Args:
        fast: Whether they take the fast path.
        fetch_bytes: How many bytes a fetch of it takes at most, beyond its first message.
    """
    path = (
        fast_parts(tasks_run="elsewhere", fetch_bytes=fetch_bytes)
        if fast
        else Parts(qos=(KeepingQoS,), poller=WatchfulPoller)
    )
    return Parts(
        channel=(_Aside, *path.channel, _WaitingChannel),
        qos=path.qos,
        connection=(_WaitingConnection,),
        poller=path.poller,
        fetch_bytes=path.fetch_bytes,
    )
