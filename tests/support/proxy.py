"""A TCP proxy that breaks a network: it goes silent, slows down, cuts an answer or refuses."""

import asyncio
import contextlib
import errno
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Final, Literal, Self, TypeVar, get_args

from tests.support.patience import patience
from tests.support.servers.base import HOST, free_port

T = TypeVar("T")

Side = Literal["requests", "answers"]
"""What a client sends, and what the server sends."""

_SIDES: Final[tuple[Side, ...]] = get_args(Side)
_CHUNK: Final = 1 << 16
_SLICE_SECONDS: Final = 0.02
"""A slow connection forwards a little so often."""

_ERROR: Final = b"return redis.error_reply(ARGV[1])"
_STATUS: Final = b"return redis.status_reply(ARGV[1])"


class _Link:
    """One connection of a client, and that to the server."""

    def __init__(self) -> None:
        self.frozen: set[Side] = set()
        self.answer_is_lost = False
        self.begun = b""
        self.writers: list[asyncio.StreamWriter] = []

    def close(self) -> None:
        for writer in self.writers:
            writer.close()

    def abort(self) -> None:
        """Close it, whatever it has not sent yet: who should read it may do so never."""
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Forwards connections to a server until it is told not to. Entering the context starts it.

    It runs in a thread of its own, and its methods may be called from any thread.

    Attributes:
        host: Where it listens.
        port: Where it listens.
        accepted: How many connections it has accepted so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host: Final = HOST
        self.port = 0
        self.accepted = 0
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = False
        self._rate: int | None = None
        self._left: int | None = None
        self._lost: tuple[bytes, bool] | None = None
        self._frozen_at: bytes | None = None
        self._holds_ends = False
        self._refused: tuple[bytes, list[bytes]] | None = None
        self._largest: int | None = None

    # -- faults

    def freeze(self, *sides: Side) -> None:
        """Stop forwarding on all connections that there are, without closing them; new ones pass.

        Args:
            sides: What is not forwarded any more; both by default.
        """
        self._call(lambda: self._freeze(sides or _SIDES))

    def redirect(self, host: str, port: int) -> None:
        """Close the connections that there are, and forward new ones to another server."""
        self._target = (host, port)
        self.kill()

    def lead_to(self, host: str, port: int) -> None:
        """Forward new connections to another server, and leave those that there are."""
        self._target = (host, port)

    def accept_silently(self) -> None:
        """Accept new connections from now on, and neither forward nor answer anything on them."""
        self._call(lambda: setattr(self, "_silent", True))

    def cut_after(self, count: int) -> None:
        """Freeze the connection whose answers are the first to come to `count` bytes from now on.

        Shorter answers of all connections are counted together, and forwarded.
        """
        self._call(lambda: setattr(self, "_left", count))

    def drop_larger_than(self, count: int) -> None:
        """Freeze each connection on which an answer comes with more than `count` bytes, 64 kB at most, at once.

        So does a network on whose way large packets are lost.
        """
        self._call(lambda: setattr(self, "_largest", count))

    def slow_down(self, bytes_per_second: int) -> None:
        """Forward answers at this rate, on each connection."""
        self._call(lambda: setattr(self, "_rate", bytes_per_second))

    def lose(self, request: bytes, *, is_answered: bool) -> None:
        """Close the connection of the next request that contains these bytes; others pass.

        Args:
            request: What it contains.
            is_answered: Whether the server gets it and answers before. Otherwise it never gets it.
        """
        self._call(lambda: setattr(self, "_lost", (request, is_answered)))

    def freeze_at(self, request: bytes) -> None:
        """Freeze the connection of the next request that contains these bytes, which the server gets."""
        self._call(lambda: setattr(self, "_frozen_at", request))

    def hold_ends(self) -> None:
        """Keep the connections of clients open from now on, when the server closes its side of them."""
        self._call(lambda: setattr(self, "_holds_ends", True))

    def answer(self, error: str, *requests: bytes) -> None:
        """Have Redis answer with an error to each request that contains any of these bytes.

        Redis says it in its turn, in place of what it was asked: no such request is executed, nor is a
        transaction with one.

        Args:
            error: The answer, with its code: ``BUSY try later``.
            requests: What they contain; an empty one is in all of them.
        """
        answer = _request(b"EVAL", _ERROR, b"0", error.encode())
        self._call(lambda: setattr(self, "_refused", (answer, list(requests))))

    def refuse(self) -> None:
        """Close the connections that there are, and listen no more."""
        self._wait(self._refuse())

    def kill(self) -> None:
        """Close the connections that there are; new ones pass."""
        self._call(self._close_links)

    def heal(self) -> None:
        """Forward new connections as at first. What was frozen stays so."""
        self._wait(self._heal())

    @property
    def has_lost(self) -> bool:
        """Whether a request or its answer was lost since `lose`."""
        return self._lost is None

    @property
    def has_frozen(self) -> bool:
        """Whether a connection was frozen since `freeze_at`."""
        return self._frozen_at is None

    @property
    def has_cut(self) -> bool:
        """Whether an answer was cut since `cut_after`."""
        return self._left is not None and self._left <= 0

    # -- its life

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(patience(5))
        self._loop.close()

    async def _listen(self) -> None:
        deadline = time.monotonic() + patience(2)
        while self._server is None:
            port = self.port or free_port()
            try:
                self._server = await asyncio.start_server(self._serve, self.host, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
            else:
                self.port = port

    async def _refuse(self) -> None:
        if self._server is not None:
            # asyncio loses a connection that it has accepted when its server is closed before the next turn.
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            await asyncio.sleep(0)
            self._server.close()
            self._server = None
        self._close_links()

    async def _heal(self) -> None:
        self._silent, self._rate, self._left, self._refused = False, None, None, None
        self._largest = None
        if self._server is None:
            await self._listen()

    async def _end(self) -> None:
        links = set(self._links)
        await self._refuse()
        # A connection that was accepted just now has its link in a few turns of the loop.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            links |= self._links
            for task in tasks & self._tasks:
                task.cancel()
            await asyncio.sleep(0)
        for link in links:
            link.abort()
        # Transports close their sockets in the next turn.
        await asyncio.sleep(0)

    def _freeze(self, sides: Iterable[Side]) -> None:
        for link in self._links:
            link.frozen.update(sides)

    def _close_links(self) -> None:
        for link in self._links:
            link.close()

    def _call(self, function: Callable[[], object]) -> None:
        async def call() -> None:
            function()

        self._wait(call())

    def _wait(self, coroutine: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(patience(5))

    # -- forwarding

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        link = _Link()
        if self._silent:
            link.frozen.update(_SIDES)
        link.writers.append(writer)
        self._links.add(link)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            link.writers.append(server_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(link, reader, server_writer, "requests"))
                group.create_task(self._forward(link, server_reader, writer, "answers"))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # one of the two has gone, and both are closed; or the proxy ends
        finally:
            self._links.discard(link)
            self._tasks.discard(task)
            link.close()

    async def _forward(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        side: Side,
    ) -> None:
        answers = side == "answers"
        while data := await reader.read(_CHUNK):
            if self._loses(link, data, answers=answers):
                raise ConnectionResetError
            if answers and self._largest is not None and len(data) > self._largest:
                link.frozen.update(_SIDES)
            if side not in link.frozen:
                forwarded = self._cut(link, data) if answers else self._replaced(link, data)
                await self._write(writer, forwarded, slowly=answers)
            if not answers and self._frozen_at is not None and self._frozen_at in data:
                self._frozen_at = None
                link.frozen.update(_SIDES)
            if side in link.frozen:
                # Nothing is read either: the buffers of both systems fill up, as on a real network.
                await asyncio.get_running_loop().create_future()
        if answers and self._holds_ends:
            await asyncio.get_running_loop().create_future()
        raise ConnectionResetError

    def _loses(self, link: _Link, data: bytes, *, answers: bool) -> bool:
        """Whether the connection is closed in place of forwarding this."""
        if answers or self._lost is None or self._lost[0] not in data:
            return answers and link.answer_is_lost
        link.answer_is_lost = self._lost[1]
        self._lost = None
        return not link.answer_is_lost

    def _cut(self, link: _Link, data: bytes) -> bytes:
        """The part of an answer that is forwarded."""
        if self._left is None or self._left <= 0:
            return data
        begun, self._left = data[: self._left], self._left - len(data)
        if self._left <= 0:
            link.frozen.update(_SIDES)
        return begun

    def _replaced(self, link: _Link, data: bytes) -> bytes:
        """What is forwarded of requests."""
        if self._refused is None and not link.begun:
            return data
        error, refused = self._refused or (b"", [])
        *complete, link.begun = _split(link.begun + data)
        forwarded: list[bytes] = []
        for requests in _transactions(complete):
            is_refused = [any(one in request for one in refused) for request in requests]
            if len(requests) > 1 and any(is_refused):
                queued = [error if refuses else _QUEUED for refuses in is_refused[1:-1]]
                requests[:] = [_OK, *queued, _ABORTED]
            elif is_refused[0]:
                requests[:] = [error]
            forwarded += requests
        return b"".join(forwarded)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, *, slowly: bool) -> None:
        while data:
            size = len(data)
            if slowly and self._rate is not None:
                size = max(1, int(self._rate * _SLICE_SECONDS))
                await asyncio.sleep(_SLICE_SECONDS)
            writer.write(data[:size])
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            data = data[size:]


def _request(*words: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)]
    return b"".join(parts)


def _split(data: bytes) -> list[bytes]:
    """Requests, and in the end the beginning of the next one."""
    found: list[bytes] = []
    begin = 0
    with contextlib.suppress(ValueError):  # of a line that has not ended yet
        while begin < len(data):
            place = data.index(b"\r\n", begin) + 2
            for _ in range(int(data[begin + 1 : place])):
                head = place
                place = data.index(b"\r\n", head) + 2
                place += int(data[head + 1 : place]) + 2
                if place > len(data):
                    raise ValueError
            found.append(data[begin:place])
            begin = place
    return [*found, data[begin:]]


def _transactions(requests: list[bytes]) -> list[list[bytes]]:
    """Requests, those from MULTI to EXEC together. They come in one piece, as clients send them."""
    found: list[list[bytes]] = []
    in_transaction = False
    for request in requests:
        if in_transaction:
            found[-1].append(request)
        else:
            found.append([request])
        in_transaction = request == _MULTI or (in_transaction and request != _EXEC)
    return found


_MULTI: Final = _request(b"MULTI")
_EXEC: Final = _request(b"EXEC")
_OK: Final = _request(b"EVAL", _STATUS, b"0", b"OK")
_QUEUED: Final = _request(b"EVAL", _STATUS, b"0", b"QUEUED")
_ABORTED: Final = _request(
    b"EVAL", _ERROR, b"0", b"EXECABORT Transaction discarded because of previous errors."
)
