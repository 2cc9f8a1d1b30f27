"""LoopSocket: a socket that waits in the event loop where the worker itself uses it."""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from kombu.asynchronous import get_event_loop

from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.fast_redis.deadlines import Pace

if TYPE_CHECKING:
    from socket import socket

__all__ = ("LoopSocket",)

R = TypeVar("R")

_PATIENCE: Final = 0.005
"""Seconds that the worker waits in the socket after it has written something. A broker answers within
a fraction of a millisecond, and turns of the loop for each answer cost more than that; one that does not
is waited for in the loop."""

_WANTS: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class LoopSocket:
    """Stands in for the socket of a connection of redis-py.

    Wherever redis-py would block in it, in the middle of an answer as well, coroutines run meanwhile.
    In another thread it blocks. Either way no wait lasts longer than the timeout: as long as something
    comes, an answer may take its time, on a slow network for instance. Within an answer that is to be a kilobyte
    in each such time.

    Args:
        connected: A socket that is connected, with the timeout that is to hold.
    """

    def __init__(self, connected: socket) -> None:
        self._socket = connected
        self._timeout = connected.gettimeout()
        self._patience = _PATIENCE
        self._in_answer = False
        self._pace: Pace | None = None
        connected.setblocking(False)
        self.fileno: Callable[[], int] = connected.fileno
        self.close: Callable[[], None] = connected.close
        self.shutdown: Callable[[int], None] = connected.shutdown
        self.getpeername: Callable[[], object] = connected.getpeername
        self.getsockname: Callable[[], object] = connected.getsockname

    def settimeout(self, seconds: float | None) -> None:
        """Set how long one wait may last: None is for ever, 0 not at all."""
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """How long one wait may last."""
        return self._timeout

    def begin_answer(self) -> None:
        """From now on also raise TimeoutError when hardly anything comes for as long as the timeout."""
        self._in_answer = True

    def end_answer(self) -> None:
        """Be content again with anything that comes."""
        self._in_answer, self._pace = False, None

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive something."""
        data = self._do(partial(self._socket.recv, size, flags), select.POLLIN)
        if self._pace is not None:
            self._pace.moved(len(data))
        return data

    def recv_into(self, buffer: memoryview, size: int = 0, flags: int = 0) -> int:
        """Receive something into a buffer."""
        count = self._do(partial(self._socket.recv_into, buffer, size, flags), select.POLLIN)
        if self._pace is not None:
            self._pace.moved(count)
        return count

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._patience = _PATIENCE
        left = memoryview(data)
        while left:
            left = left[self._do(partial(self._socket.send, left), select.POLLOUT) :]

    def _do(self, operation: Callable[[], R], event: int) -> R:
        while True:
            try:
                return operation()
            except _WANTS as exc:
                if self._timeout == 0:
                    raise
                if isinstance(exc, ssl.SSLWantReadError):
                    event = select.POLLIN
                elif isinstance(exc, ssl.SSLWantWriteError):
                    event = select.POLLOUT
            if not self._keeps_pace() or not self._is_ready(event):
                raise TimeoutError("timed out")

    def _keeps_pace(self) -> bool:
        if not self._in_answer or self._timeout is None:
            return True
        now = time.monotonic()
        if self._pace is None:
            self._pace = Pace(now)
        return self._pace.is_kept(now, self._timeout)

    def _is_ready(self, event: int) -> bool:
        poller = select.poll()
        poller.register(self._socket, event)
        hub = get_event_loop()
        if not isinstance(hub, LoopHub) or not hub.can_turn():
            return bool(poller.poll(None if self._timeout is None else self._timeout * 1000))
        # Once for what was written: many short waits would be a long one for the coroutines.
        patience, self._patience = self._patience, 0.0
        if patience and poller.poll(patience * 1000):
            return True
        write = event == select.POLLOUT
        return hub.wait_for_socket(self.fileno(), seconds=self._timeout, write=write)
