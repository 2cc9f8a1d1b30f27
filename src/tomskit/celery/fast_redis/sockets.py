"""PacedSocket and Reading: a server that sends hardly anything, and answers that are read as they come."""

from __future__ import annotations

import select
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import greenlet
from redis.exceptions import ResponseError

from tomskit.celery._internals.redis_connections import Connection, socket_of
from tomskit.celery.fast_redis.deadlines import Pace

if TYPE_CHECKING:
    from socket import socket

__all__ = ("NOT_YET", "PacedSocket", "Reading")

R = TypeVar("R")

NOT_YET: Final = object()
"""In place of an answer that has not arrived as a whole."""

_PATIENCE: Final = 0.005
"""Seconds that the worker waits in the socket after it has written something. A broker answers within
a fraction of a millisecond, and turns of the loop for each answer cost more than that; one that does not
is waited for in the loop."""


class PacedSocket:
    """Stands in for the socket of a connection of redis-py.

    No wait lasts longer than the timeout: as long as something comes, an answer may take its time, on a slow
    network for instance. Within an answer, and in what is sent, that is to be a kilobyte in each such time.

    Args:
        connected: A socket that is connected, with the timeout that is to hold.
    """

    def __init__(self, connected: socket) -> None:
        self._socket = connected
        self._timeout = connected.gettimeout()
        self._patience = _PATIENCE
        self._in_answer = False
        self._pace: Pace | None = None
        self.reading: Reading | None = None
        connected.setblocking(False)
        self.fileno: Callable[[], int] = connected.fileno
        self.shutdown: Callable[[int], None] = connected.shutdown
        self.getpeername: Callable[[], object] = connected.getpeername
        self.getsockname: Callable[[], object] = connected.getsockname

    def close(self) -> None:
        """Close it. What was to be read of an answer never comes."""
        reading, self.reading = self.reading, None
        try:
            if reading is not None:
                reading.give_up()
        finally:
            self._socket.close()

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
        data = self._receive(partial(self._socket.recv, size, flags))
        if self._pace is not None:
            self._pace.moved(len(data))
        return data

    def recv_into(self, buffer: memoryview, size: int = 0, flags: int = 0) -> int:
        """Receive something into a buffer."""
        count = self._receive(partial(self._socket.recv_into, buffer, size, flags))
        if self._pace is not None:
            self._pace.moved(count)
        return count

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._patience = _PATIENCE
        left, pace = memoryview(data), None
        while left:
            sent, event = _tried(partial(self._socket.send, left), select.POLLOUT)
            if sent is None:
                if self._timeout == 0:
                    raise BlockingIOError
                pace = pace or Pace(time.monotonic())
                self._wait_in_pace(event, pace)
                continue
            left = left[sent:]
            if pace is not None:
                pace.moved(sent)

    def _receive(self, operation: Callable[[], R]) -> R:
        while self._timeout != 0:
            received, event = _tried(operation, select.POLLIN)
            if received is not None:
                return received
            if self._in_answer and self._pace is None:
                self._pace = Pace(time.monotonic())
            self._wait_in_pace(event, self._pace)
        return operation()

    def _wait_in_pace(self, event: int, pace: Pace | None) -> None:
        """Wait until something can be received or sent.

        Raises:
            TimeoutError: The pace is not kept, or nothing has happened for too long.
        """
        seconds = self._timeout
        if pace is not None and seconds is not None and not pace.is_kept(time.monotonic(), seconds):
            raise TimeoutError("timed out")
        if self._comes_at_once(event):
            return
        current = greenlet.getcurrent()
        if not (current.wait(self, event) if isinstance(current, Reading) else self.wait(event)):
            raise TimeoutError("timed out")

    def _comes_at_once(self, event: int) -> bool:
        # Once for what was written: many short waits would be a long one for the coroutines.
        patience, self._patience = self._patience, 0.0
        return bool(patience) and self.is_ready(event, patience)

    def is_ready(self, event: int, seconds: float | None) -> bool:
        """Whether something can be received or sent within some seconds. Nothing else happens meanwhile."""
        poller = select.poll()
        poller.register(self._socket, event)
        return bool(poller.poll(None if seconds is None else seconds * 1000))

    def wait(self, event: int) -> bool:
        """Wait until something can be received or sent; False when the timeout is over before."""
        return self.is_ready(event, self._timeout)

    def stands_still(self) -> bool:
        """Whether hardly anything has come for as long as the timeout, of an answer that is being read."""
        return (
            self._pace is not None
            and self._timeout is not None
            and not self.is_ready(select.POLLIN, 0)
            and not self._pace.is_kept(time.monotonic(), self._timeout)
        )


def _tried(operation: Callable[[], R], event: int) -> tuple[R | None, int]:
    """What an operation returns, or None and what it has to wait for."""
    try:
        return operation(), event
    except ssl.SSLWantReadError:
        return None, select.POLLIN
    except ssl.SSLWantWriteError:
        return None, select.POLLOUT
    except BlockingIOError:
        return None, event


class Reading(greenlet.greenlet):
    """Reads answers of a connection. Where it would wait for the rest of one, its caller goes on.

    Args:
        connection: Its socket is a PacedSocket.

    Attributes:
        source: The socket of the connection.
        is_push: Whether what it reads is no answer to a command.
        is_under_way: Whether a part of it has come.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(self._read_on)
        self.source: Final = socket_of(connection)
        self.is_push: bool = False
        self.is_under_way: bool = False
        self._connection = connection
        self._thread: Final = threading.get_ident()
        self._answer: object = None

    def can_go_on(self, connection: Connection) -> bool:
        """Whether it reads the answers of a connection, and may do so here: a greenlet belongs to its thread."""
        return (
            not self.dead
            and self.source is socket_of(connection)
            and self._thread == threading.get_ident()
        )

    def read(self, *, is_push: bool, until: float | None = None) -> object:
        """Read what has come, from where it was left.

        Args:
            is_push: Whether what comes is no answer to a command, where it is not under way.
            until: Up to when the rest of it is waited for, by ``time.monotonic()``; None is not at all.

        Returns:
            The answer, which may be an error, or `NOT_YET`.

        Raises:
            Exception: The connection is lost.
        """
        if not self.is_under_way:
            self.is_push, self.is_under_way = is_push, True
        if self.parent is not greenlet.getcurrent():
            self.parent = greenlet.getcurrent()
        found: object = self.switch(True)
        while isinstance(found, _Wait):
            used = found.used
            if found.event == select.POLLIN and (until is None or time.monotonic() >= until):
                used.reading = self
                return NOT_YET
            found = self.switch(used.wait(found.event))
        self.is_under_way = False
        answer, self._answer = self._answer, None
        return answer

    def _read_on(self, *_: object) -> None:
        """Read one answer after the other, until the connection is lost."""
        while True:
            self._answer = self._read_one()
            self._caller().switch(None)

    def _read_one(self) -> object:
        # The caller closes the connection: it may have another socket by then.
        read = partial(self._connection.read_response, disconnect_on_error=False)
        try:
            return read(push_request=True) if self.is_push else read()
        except ResponseError as exc:
            return exc

    def wait(self, used: PacedSocket, event: int) -> bool:
        """Have the caller go on, or wait; called in this greenlet."""
        return bool(self._caller().switch(_Wait(used, event)))

    def _caller(self) -> greenlet.greenlet:
        caller = self.parent
        assert caller is not None  # noqa: S101 (only the main greenlet has none)
        return caller

    def give_up(self) -> None:
        """End it, as its connection is closed."""
        if self.dead or greenlet.getcurrent() is self:
            return
        # In another thread it cannot be ended; nobody reads there any more.
        with suppress(Exception):
            self.parent = greenlet.getcurrent()
            self.throw(ConnectionResetError("The connection was closed"))


@dataclass(frozen=True, slots=True)
class _Wait:
    """What a reading waits for."""

    used: PacedSocket
    event: int
