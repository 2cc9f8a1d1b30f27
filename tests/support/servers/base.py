"""What all server processes of the tests have in common: private, short-lived, on free ports."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Literal, Self

from typing_extensions import override

from tests.support.patience import WaitedInVainError, patience, wait_until

HOST: Final = "127.0.0.1"
START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0


_given: Final[set[int]] = set()


class ServerError(RuntimeError):
    """A test server could not be started, or did not do what a test asked of it."""


def free_port() -> int:
    """Finds a port of 127.0.0.1 that nobody listens on right now."""
    # Not port 0: that answers from the range of outgoing connections, where a client that retries
    # against a stopped server of ours could be given the server's own port and connect to itself.
    for _ in range(1000):
        port = 20_000 + secrets.randbelow(12_000)
        # Nor one that a test was given before: it may not have taken it yet, or have left it for a while.
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        _given.add(port)
        return port
    msg = "no free port between 20000 and 32000"
    raise ServerError(msg)


def find_binary(*names: str, install: str) -> str:
    """Finds a program under any of its names, or says what to install."""
    # Debian keeps servers in sbin, which is not on the PATH of ordinary users.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    for name in names:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    msg = f"The tests need {' or '.join(names)}, which is not installed. Try: {install}"
    raise ServerError(msg)


def die_with_parent(command: Sequence[str], signal_name: str = "KILL") -> list[str]:
    """Makes a command receive a signal when the thread that starts it ends.

    Without setpriv (util-linux) the command is left as it is.
    """
    # setpriv replaces itself by the command, so the process id stays the one Popen knows. It is
    # preferred to a preexec_fn, which runs Python in the child of a process that has threads.
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(command)
    return [setpriv, "--pdeathsig", signal_name, "--", *command]


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


class _PortTakenError(Exception):
    """Another process was faster to take the port."""


class Started(ABC):
    """What a context manager starts at its beginning and closes at its end."""

    @abstractmethod
    def start(self) -> None:
        """Return when it serves."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""

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


class Server(Started):
    """A server process of our own.

    After `stop()` the same server can be started again: it keeps its port and its data. `close()`
    also removes its folder; leaving the context manager closes.
    """

    host: Final = HOST
    start_timeout: ClassVar[float] = START_TIMEOUT
    stop_timeout: ClassVar[float] = STOP_TIMEOUT
    port_taken: ClassVar[Sequence[str]] = ["Address already in use"]
    """What its log says, any of these, when it could not listen."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._remove: Callable[[], object] = lambda: None

    @abstractmethod
    def _command(self) -> list[str]:
        """Writes what the server needs to its folder and answers the command that starts it."""

    @abstractmethod
    def _probe(self) -> bool:
        """Answers whether our process serves; connection errors mean that it does not yet."""

    def _environment(self) -> Mapping[str, str] | None:
        """All of its environment variables; None for those of the tests."""
        return None

    @property
    def folder(self) -> Path:
        if self._folder is None:
            # Not pytest's tmp_path: a Unix socket's path may have no more than about 100 characters.
            self._folder = Path(tempfile.mkdtemp(prefix="tomskit-"))
            self._remove = weakref.finalize(self, _remove_folder, self._folder)
        return self._folder

    @property
    def pid(self) -> int:
        if self._process is None:
            msg = f"{type(self).__name__} is not running"
            raise ServerError(msg)
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @override
    def start(self) -> None:
        """Starts the server and returns when it serves."""
        if self.running:
            msg = f"{type(self).__name__} is already running"
            raise ServerError(msg)
        first_start = self.port == 0
        deadline = time.monotonic() + patience(self.start_timeout)
        while True:
            if first_start:
                self.port = free_port()
            try:
                self._start_once()
            except _PortTakenError as error:
                if time.monotonic() > deadline:
                    msg = f"{type(self).__name__} found no port to listen on:\n{self.log}"
                    raise ServerError(msg) from error
                time.sleep(0.1)
            else:
                return

    def _start_once(self) -> None:
        command = die_with_parent(self._command())
        with (self.folder / "log").open("wb") as log:
            # A session of its own: Ctrl-C at the terminal goes to the tests, which then stop us.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.folder,
                start_new_session=True,
            )
        try:
            wait_until(self._serves_or_fails, self.start_timeout, f"{type(self).__name__} serves")
        except (ServerError, WaitedInVainError) as error:
            error.add_note(f"Its log:\n{self.log}")
            self.kill()
            raise
        except BaseException:
            self.kill()
            raise

    def _serves_or_fails(self) -> bool:
        process = self._process
        if process is None or process.poll() is not None:
            log = self.log
            if any(text in log for text in self.port_taken):
                raise _PortTakenError
            msg = f"{type(self).__name__} ended while it started"
            raise ServerError(msg)
        return self._probe()

    def stop(self) -> None:
        """Ends the server in good order; does nothing when it does not run."""
        process = self._process
        if process is None:
            return
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a test may have left it stopped
        try:
            process.wait(patience(self.stop_timeout))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def kill(self) -> None:
        """Ends the server at once, as a crash would."""
        process = self._process
        if process is None:
            return
        process.kill()
        process.wait()
        self._process = None

    @override
    def close(self) -> None:
        self.stop()
        self._remove()
        self._folder = None
        self.port = 0


Outage = Literal["gone", "hanging"]


@contextmanager
def outage(server: Server, kind: Outage) -> Generator[None]:
    """A server is away meanwhile: stopped, or without an answer."""
    if kind == "gone":
        server.stop()
    else:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if kind == "gone":
            server.start()
        else:
            os.kill(server.pid, signal.SIGCONT)
