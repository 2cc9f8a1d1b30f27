"""Real Celery workers for the tests, each in processes of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from uuid import uuid4

from tests.support.output import Output
from tests.support.patience import patience
from tests.support.servers import die_with_parent
from tests.support.warm_start import WarmProcess

Pool = Literal["prefork", "solo", "threads", "asyncio", "custom", "gevent", "eventlet"]

READ_AT_IMPORT: Final = frozenset({"CELERY_CUSTOM_WORKER_POOL", "USE_FAST_LOCALS"})
"""Environment variables that Celery looks at when it is imported."""

PLAIN: Final = frozenset({"tests.integration.stock_service"})
"""Apps that know nothing of tomskit: it must not be imported before theirs is."""

PROJECT = Path(__file__).resolve().parents[2]


class WorkerError(AssertionError):
    """A worker did not do what a test expects; the message holds its whole log."""


class Worker:
    """A `celery worker` process. Entering the context starts it without waiting for it.

    `app` is the module that holds the Celery app, found from `cwd` (the project's folder). The
    environment is that of the tests plus `env`. A `cold` one is started by the very command that
    users type, which takes a second longer. One with `neighbours` looks for other workers, as workers do
    that are given no options. `command` may be another one that takes the same options.
    """

    def __init__(
        self,
        app: str,
        *,
        pool: Pool | None = "prefork",
        concurrency: int | None = 1,
        queues: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        loglevel: str = "INFO",
        extra_args: Sequence[str] = (),
        cold: bool = False,
        neighbours: bool = False,
        command: Sequence[str] = ("worker",),
    ) -> None:
        self.hostname = f"worker-{uuid4().hex[:12]}@localhost"
        self._arguments = [
            *("-A", app, *command),
            *([] if pool is None else [f"--pool={pool}"]),
            *([] if concurrency is None else [f"--concurrency={concurrency}"]),
            *(f"--hostname={self.hostname}", f"--loglevel={loglevel}"),
            *(
                []
                if neighbours
                else ["--without-gossip", "--without-mingle", "--without-heartbeat"]
            ),
            *([f"--queues={','.join(queues)}"] if queues else []),
            *extra_args,
        ]
        self._command = [sys.executable, "-m", "celery", *self._arguments]
        self._pool = pool
        self._env = dict(env or {})
        self._cwd = PROJECT if cwd is None else cwd
        # These pools patch the standard library before anything else is imported.
        patching = pool in {"gevent", "eventlet"}
        self._cold = cold or patching or app in PLAIN or not READ_AT_IMPORT.isdisjoint(self._env)
        self._process: subprocess.Popen[str] | WarmProcess | None = None
        self._nobody_left = False
        self._output: Output | None = None

    def start(self) -> None:
        if self._process is not None:
            msg = "a Worker is started once"
            raise RuntimeError(msg)
        # Should the tests be killed, the worker goes too: a prefork pool by QUIT, on which it takes
        # its processes along; the others at once, as a thread pool would wait for running tasks.
        last_signal = "QUIT" if self._pool == "prefork" else "KILL"
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self._env}
        # A session of its own keeps Ctrl-C away from it and marks all processes that it starts.
        if self._cold:
            self._process = subprocess.Popen(
                die_with_parent(self._command, last_signal),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=environment,
                cwd=self._cwd,
                start_new_session=True,
            )
        else:
            self._process = WarmProcess(
                "celery",
                self._arguments,
                environment=environment,
                folder=self._cwd,
                last_signal=last_signal,
            )
        assert self._process.stdout is not None
        self._output = Output(self._process.stdout, self.hostname)

    def _started(self) -> subprocess.Popen[str] | WarmProcess:
        if self._process is None:
            msg = "the Worker has not been started"
            raise RuntimeError(msg)
        return self._process

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def running(self) -> bool:
        if self._started().poll() is None:
            return True
        self.children()  # as long as the number of the session is ours
        return False

    @property
    def lines(self) -> list[str]:
        """All that it and its children have written so far."""
        return [] if self._output is None else self._output.lines

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def children(self) -> list[int]:
        """The living processes that the worker started, also after its own end."""
        if self._nobody_left:
            return []
        has_ended = self._started().returncode is not None
        members = [pid for pid in _session_members(self.pid) if pid != self.pid]
        # From now on the system may give the number to another session, whose processes are not ours.
        self._nobody_left = has_ended and not members
        return members

    def wait_ready(self, timeout: float = 30.0) -> None:
        self.wait_for_line(r" ready\.$", timeout)

    def wait_for_line(
        self, pattern: str, timeout: float = 30.0, *, start: int = 0
    ) -> re.Match[str]:
        """Waits for a line of the log that matches, from line `start` on, past ones included."""
        longest = patience(timeout)
        deadline = time.monotonic() + longest
        seen = start
        self._started()
        output = self._output
        assert output is not None
        while True:
            # Asked before the log is read: what the process wrote before its end counts.
            ended = not self.running
            if ended:
                self._finish_reading()
            with output.news:
                lines = output.lines
                for line in lines[seen:]:
                    match = re.search(pattern, line)
                    if match is not None:
                        return match
                seen = max(seen, len(lines))
                if ended:
                    code = self._started().returncode
                    raise self._failure(f"ended with {code} before a line matched {pattern!r}")
                if time.monotonic() > deadline:
                    raise self._failure(f"logged no line like {pattern!r} within {longest:g} s")
                output.news.wait(0.05)

    def _finish_reading(self, timeout: float = 1.0) -> None:
        # Children that outlive the worker keep the pipe open, so the end may not come.
        if self._output is not None:
            self._output.finish(patience(timeout))

    def _failure(self, what: str) -> WorkerError:
        return WorkerError(f"The worker {self.hostname} {what}. Its log:\n{self.text}")

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to the worker's main process."""
        self._started().send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """Waits for the end of the main process and answers its exit code."""
        try:
            code = self._started().wait(patience(timeout))
        except subprocess.TimeoutExpired:
            raise self._failure(f"did not end within {patience(timeout):g} s") from None
        self.children()  # as long as the number of the session is ours
        self._finish_reading()
        return code

    def stop(self, timeout: float = 60.0) -> int:
        """Ends it as an operator does (SIGTERM): running tasks may finish."""
        self.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def quit(self, timeout: float = 30.0) -> int:
        """Ends it without waiting for tasks (SIGQUIT)."""
        self.send_signal(signal.SIGQUIT)
        return self.wait(timeout)

    def kill(self) -> int:
        """Kills it and every process that it started."""
        # The main process first, so it starts no new children in place of killed ones.
        self._started().kill()
        code = self._started().wait()
        self._kill_children()
        self._finish_reading()
        return code

    def _kill_children(self) -> None:
        deadline = time.monotonic() + patience(10)
        while (children := self.children()) and time.monotonic() < deadline:
            for pid in children:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.01)

    def close(self, timeout: float = 60.0) -> None:
        """Stops it if it still runs, by force if need be, and leaves no process behind."""
        if self._process is None:
            return
        try:
            if self.running:
                self.stop(timeout)
        finally:
            self.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            self.close()
        else:
            # The test has failed already: its error is the one to see, and soon.
            try:
                self.close(timeout=5.0)
            except WorkerError as error:
                exc.add_note(str(error))


def _session_members(session: int) -> list[int]:
    """The processes of a session, which is what a process keeps when its parent ends."""
    members: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it ended meanwhile
        # The name in parentheses may hold anything, so count from its end.
        state, _parent, _group, session_id = stat.rpartition(")")[2].split()[:4]
        if int(session_id) == session and state not in "ZX":
            members.append(int(entry.name))
    return members
