"""LoopSocket: a socket that waits in the event loop where the worker itself uses it."""

from __future__ import annotations

import select

from kombu.asynchronous import get_event_loop
from typing_extensions import override

from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.fast_redis.sockets import PacedSocket

__all__ = ("LoopSocket",)


class LoopSocket(PacedSocket):
    """Stands in for the socket of a connection of redis-py.

    Wherever redis-py would block in it, in the middle of an answer as well, coroutines run meanwhile.
    In another thread it blocks. Either way no wait lasts longer than the timeout.

    Args:
        connected: A socket that is connected, with the timeout that is to hold.
    """

    @override
    def wait(self, event: int) -> bool:
        hub = get_event_loop()
        if not isinstance(hub, LoopHub) or not hub.can_turn():
            return super().wait(event)
        write = event == select.POLLOUT
        return hub.wait_for_socket(self.fileno(), seconds=self.gettimeout(), write=write)
