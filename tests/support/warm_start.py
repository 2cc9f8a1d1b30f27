"""Python processes that begin with Celery, SQLAlchemy, redis-py and tomskit imported.

A worker, or another command of Celery's, needs more than a second of processor time to import them, and
the tests start hundreds of them. So one process imports them once, and every worker is a fork of it that runs the same
module, with the same arguments, that `python -m` would have run. No app is made before the fork, and
coverage begins after it: all that tomskit does when a worker starts is done and measured in that
worker. The tests' own process imports the same modules, so their own lines are measured there.
"""

import atexit
import ctypes
import gc
import importlib
import inspect
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Final, TypedDict

from tests.support.measuring import let_threads_end
from tests.support.servers import die_with_parent

IMPORTED: Final = (
    "aiomysql",
    "aiosqlite",
    "asyncio",
    "celery.app.log",
    "celery.apps.worker",
    "celery.backends.database",
    "celery.backends.redis",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.fixups.django",
    "celery.events.state",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "encodings.idna",
    "greenlet",
    "kombu.matcher",
    "kombu.pidbox",
    "kombu.transport.redis",
    "orjson",
    "pydantic",
    "pydantic_settings",
    "pymysql",
    "redis.asyncio",
    "sqlalchemy.dialects.mysql.aiomysql",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.ext.asyncio",
    "tomskit._commands.doctor",
    "tomskit._commands.workers",
    "tomskit.celery",
    "tomskit.celery.asyncio_pool.pool",
)
_LONGEST_MESSAGE: Final = 1 << 20
_ONE_AT_A_TIME: Final = threading.Lock()
_PR_SET_PDEATHSIG: Final = 1


class _Request(TypedDict):
    """The module to run, or the process to wait for when there is none."""

    module: str | None
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    last_signal: str
    pid: int


class WarmProcess:
    """A process like one of subprocess.Popen: a session of its own, its output in a pipe.

    What it writes to stderr is among its output, or in a pipe of its own if the two are `apart`.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        last_signal: str,
        apart: bool = False,
    ) -> None:
        pipes = [os.pipe() for _ in range(2 if apart else 1)]
        try:
            self.pid = _ask(
                {
                    "module": module,
                    "arguments": list(arguments),
                    "environment": dict(environment),
                    "folder": str(folder),
                    "last_signal": last_signal,
                    "pid": 0,
                },
                *(its for _, its in pipes),
            )
        finally:
            for _, its in pipes:
                os.close(its)
        self.stdout, *errors = (
            os.fdopen(ours, encoding="utf-8", errors="replace") for ours, _ in pipes
        )
        self.stderr = errors[0] if errors else None
        self.returncode: int | None = None
        self._end = os.pidfd_open(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            # Only its parent, the process that forks, is told the exit code.
            # `select.select` takes no descriptor above 1023.
            ended = select.poll()
            ended.register(self._end, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("celery", timeout or 0)
            self.returncode = _ask(
                {
                    "module": None,
                    "arguments": [],
                    "environment": {},
                    "folder": "",
                    "last_signal": "",
                    "pid": self.pid,
                }
            )
            os.close(self._end)
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float) -> tuple[str, str]:
        """All that it prints until its end. Who does not end within so many seconds is killed."""
        with ThreadPoolExecutor(2) as readers, self.stdout, self.stderr or nullcontext():
            output = readers.submit(self.stdout.read)
            errors = None if self.stderr is None else readers.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired as error:
                os.killpg(self.pid, signal.SIGKILL)
                self.wait()
                error.add_note(output.result())
                raise
            return output.result(), "" if errors is None else errors.result()

    def send_signal(self, number: int) -> None:
        # Until somebody has waited for it the number cannot be that of another process.
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _forker() -> socket.socket:
    """The connection to the process that forks, which ends when it is closed."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        number = its.fileno()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
        process = subprocess.Popen(
            die_with_parent([sys.executable, "-m", __name__, str(number)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            cwd=Path(__file__).resolve().parents[2],
            pass_fds=[number],
            start_new_session=True,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _ask(request: _Request, *fds: int) -> int:
    with _ONE_AT_A_TIME:
        forker = _forker()
        socket.send_fds(forker, [json.dumps(request).encode()], fds)
        return int(forker.recv(100))


def _serve(connection: socket.socket) -> str | None:
    """Fork whenever that is asked for; what the fork shall run."""
    while True:
        message, fds, _, _ = socket.recv_fds(connection, _LONGEST_MESSAGE, 2)
        if not message:
            return None
        request: _Request = json.loads(message)
        if request["module"] is None:
            _, status = os.waitpid(request["pid"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                connection.close()
                _become(request, fds)
                return request["module"]
            for number in fds:
                os.close(number)
        connection.send(str(answer).encode())


def _become(request: _Request, outputs: Sequence[int]) -> None:
    """Be as a process is that was started for the request alone."""
    os.setsid()
    number = signal.Signals[f"SIG{request['last_signal']}"]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    for standard, output in ((1, outputs[0]), (2, outputs[-1])):
        os.dup2(output, standard)
    for output in outputs:
        os.close(output)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    paths = request["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in paths if path and path not in sys.path]
    sys.argv[1:] = request["arguments"]


def main() -> None:
    """Import, then fork; a fork ends as every Python program does."""
    import coverage

    for name in IMPORTED:
        importlib.import_module(name)
    # Coverage asks for the stack when it starts, and inspect then looks up the files of all modules,
    # which takes as long as a third of a worker's other imports. It keeps what it has found.
    inspect.stack()
    # No collection in a fork writes to what all of them share.
    gc.collect()
    gc.freeze()
    module = _serve(socket.socket(fileno=int(sys.argv[1])))
    if module is not None:
        if coverage.process_startup() is not None:
            let_threads_end()
        # The asyncio pool unfreezes when it stops. Python would then collect all of it at the end.
        atexit.register(gc.freeze)
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
