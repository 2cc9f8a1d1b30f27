"""A TCP proxy that fails on command: the outage of a server that itself keeps running."""

import selectors
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Self

from tests.support.servers import HOST, free_port

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE
TIMEOUT: Final = 10.0


class _End:
    """One end of a connection, with what is still to be written to it."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = end
        self.pending = b""
        self.watched = 0
        self.has_ended = False  # nothing more comes from there
        self.was_told = False  # that nothing more comes from the other end


class _Link:
    """A client's connection and ours to the server; only the client's while it is a black hole."""

    def __init__(self, client: _End, server: _End | None) -> None:
        self.client = client
        self.server = server

    @property
    def ends(self) -> list[_End]:
        return [self.client] if self.server is None else [self.client, self.server]


class TcpProxy:
    """Forwards connections to a port of its own on 127.0.0.1, and stops that when it is told to.

    What `cut()`, `hang()` and `restore()` say is so when they return. After `restore()` it is the
    same port.
    """

    host: Final = HOST

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self._target = (host, port)
        self._thread: threading.Thread | None = None
        # One thread has all the sockets and does all the work, so nothing is half done when a
        # command comes; only the commands cross threads.
        self._commands: SimpleQueue[tuple[Callable[[], None], Future[None]]] = SimpleQueue()
        self._links: set[_Link] = set()
        self._hangs = False
        self._closes = False
        self._listens = False

    def start(self) -> None:
        if self._thread is not None:
            msg = "the TcpProxy is already running"
            raise RuntimeError(msg)
        self.port = free_port()
        self._listener = self._bound_socket()
        self._hangs = self._closes = self._listens = False
        self._selector = selectors.DefaultSelector()
        self._bell, self._bell_button = socket.socketpair()
        self._selector.register(self._bell, READ, self._obey)
        self._listen()
        self._thread = threading.Thread(target=self._run, name="tcp-proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Closes all connections, and refuses new ones."""
        self._do(self._cut)

    def hang(self) -> None:
        """Forwards nothing more, in either direction; who connects now is accepted all the same."""
        self._do(self._hang)

    def restore(self) -> None:
        """Forwards again. Who has connected during `hang()` is cut off, who was there before is not.

        What was sent meanwhile on connections from before arrives now.
        """
        self._do(self._restore)

    def connections(self) -> int:
        """How many clients are connected."""
        counts: list[int] = []
        self._do(lambda: counts.append(len(self._links)))
        return counts[0]

    def close(self) -> None:
        if self._thread is None:
            return
        self._do(self._close)
        self._thread.join(TIMEOUT)
        self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _do(self, action: Callable[[], None]) -> None:
        if self._thread is None:
            msg = "the TcpProxy is not running"
            raise RuntimeError(msg)
        done: Future[None] = Future()
        self._commands.put((action, done))
        self._bell_button.send(b"!")
        done.result(TIMEOUT)

    # From here on it is the thread's.

    def _run(self) -> None:
        try:
            while not self._closes:
                for key, events in self._selector.select():
                    react: Callable[[int], None] = key.data
                    react(events)
        finally:
            self._release()

    def _release(self) -> None:
        self._cut()
        self._listener.close()
        self._selector.close()
        self._bell.close()
        self._bell_button.close()

    def _obey(self, _events: int) -> None:
        self._bell.recv(1)
        action, done = self._commands.get()
        try:
            # Who has connected before the command came is treated as having done so.
            self._accept(READ)
            action()
        except BaseException as error:  # noqa: BLE001 - it is raised where the command came from
            done.set_exception(error)
        else:
            done.set_result(None)

    def _bound_socket(self) -> socket.socket:
        bound = socket.socket()
        try:
            # Connections of a moment ago would keep the port for another minute.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self.host, self.port))
            bound.setblocking(False)
        except BaseException:
            bound.close()
            raise
        return bound

    def _listen(self) -> None:
        if not self._listens:
            self._listens = True
            self._listener.listen(128)
            self._selector.register(self._listener, READ, self._accept)

    def _cut(self) -> None:
        self._hangs = False
        if self._listens:
            self._listens = False
            self._selector.unregister(self._listener)
            self._listener.close()
            # It refuses as long as it does not listen, and nobody else takes the port.
            self._listener = self._bound_socket()
        for link in list(self._links):
            self._end(link)

    def _hang(self) -> None:
        self._hangs = True
        self._listen()
        self._watch_all()

    def _restore(self) -> None:
        self._hangs = False
        for link in list(self._links):
            if link.server is None:
                self._end(link)
        self._listen()
        self._watch_all()

    def _close(self) -> None:
        self._closes = True

    def _accept(self, _events: int) -> None:
        while self._listens:
            try:
                accepted, _address = self._listener.accept()
            except BlockingIOError:
                return
            server = None
            if not self._hangs:
                server = _End(socket.socket())
                # Where that fails, the first attempt to read says so.
                server.socket.connect_ex(self._target)
            link = _Link(_End(accepted), server)
            self._links.add(link)
            self._watch(link)

    def _watch_all(self) -> None:
        for link in self._links:
            self._watch(link)

    def _watch(self, link: _Link) -> None:
        for end, other in _directions(link):
            events = 0
            if not self._hangs:
                # Not more than one piece at a time, so a slow reader slows down the writer.
                events |= 0 if end.has_ended or other.pending else READ
                events |= WRITE if end.pending else 0
            react = partial(self._forward, link, end, other)
            if events and end.watched:
                self._selector.modify(end.socket, events, react)
            elif events:
                self._selector.register(end.socket, events, react)
            elif end.watched:
                self._selector.unregister(end.socket)
            end.watched = events

    def _forward(self, link: _Link, end: _End, other: _End, events: int) -> None:
        if link not in self._links or self._hangs:
            return  # by what was done since select() has answered
        try:
            if events & WRITE and end.pending:
                end.pending = end.pending[end.socket.send(end.pending) :]
            if events & READ and not end.has_ended and not other.pending:
                other.pending = end.socket.recv(65536)
                end.has_ended = not other.pending
            for one, its_other in _directions(link):
                if its_other.has_ended and not one.pending and not one.was_told:
                    one.socket.shutdown(socket.SHUT_WR)
                    one.was_told = True
        except BlockingIOError:
            pass
        except OSError:
            self._end(link)
            return
        if all(one.was_told for one in link.ends):
            self._end(link)
        else:
            self._watch(link)

    def _end(self, link: _Link) -> None:
        self._links.remove(link)
        for end in link.ends:
            if end.watched:
                self._selector.unregister(end.socket)
            end.socket.close()


def _directions(link: _Link) -> list[tuple[_End, _End]]:
    if link.server is None:
        return []
    return [(link.client, link.server), (link.server, link.client)]
