"""Starts workers, passes signals on to them, and starts again what has died."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

from tomskit.celery._worker.supervised import READY_VARIABLE, SUPERVISOR_VARIABLE

__all__ = ("Supervisor", "run_workers")

PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})

_FIRST_PAUSE: Final = 1.0
"""Seconds before a worker that died is started again; doubled each time, up to `_LONGEST_PAUSE`."""

_LONGEST_PAUSE: Final = 60.0
"""Also how long a worker must have run to count as healthy again."""

_LONGEST_LINE: Final = 65536
"""Bytes of output that are shown as one line, at most."""


class Supervisor:
    """Runs several workers in the foreground, until they have been stopped.

    A worker that ends by itself with an error, or is killed, is started again, after a pause that
    grows. One that cannot even start for the first time is a mistake in the configuration: it stops
    all. One that was told to stop (``celery control shutdown``) stays stopped. SIGHUP lets all finish
    their tasks and starts them again, for a new version of the application. Ctrl-Z (SIGTSTP) suspends
    all of them until SIGCONT, as it does with a single worker.

    Args:
        commands: The command of each worker, by the name that is shown in front of its lines.
        output: Takes the lines of the workers.
        say: Takes the lines of the supervisor itself.
        hint: What to do where a worker cannot start.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        output: IO[bytes],
        say: Callable[[str], None],
        hint: str = "",
    ) -> None:
        self._output = _Output(output, width=max(map(len, commands)))
        self._say = say
        self._hint = f"; {hint}" if hint else ""
        self._workers = [_Worker(name, command) for name, command in commands.items()]
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Run the workers until all have ended.

        Returns:
            The exit code: 0, or that of the first worker that failed.
        """
        loop = asyncio.get_running_loop()
        for number in PASSED_ON:
            loop.add_signal_handler(number, self._pass_on, number)
        loop.add_signal_handler(signal.SIGHUP, self._restart)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        loop.add_signal_handler(signal.SIGCONT, self._signal_groups, signal.SIGCONT)
        await asyncio.gather(*(self._keep_running(worker) for worker in self._workers))
        return self._exit_code

    def _pass_on(self, number: signal.Signals) -> None:
        if number in _STOPPING:
            self._stop(number)
            return
        for worker in self._workers:
            worker.send(number)

    def _restart(self) -> None:
        # Not passed on: Celery's worker would run the file of `python -m celery`, which fails.
        self._say("SIGHUP: the workers are stopped and started again")
        for worker in self._workers:
            worker.is_restarted = worker.is_running
            worker.send(signal.SIGTERM)

    def _suspend(self) -> None:
        # Otherwise they would go on without a reader of what they write, and stand still when the pipe is full.
        self._signal_groups(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)

    def _signal_groups(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.send(number, to_pool=True)

    def _stop(self, number: signal.Signals) -> None:
        if not self._stopping.is_set():
            running = sum(worker.is_running for worker in self._workers)
            self._say(f"{number.name}: stopping {running} worker{'' if running == 1 else 's'}")
        self._stopping.set()
        for worker in self._workers:
            worker.send(number)

    async def _keep_running(self, worker: _Worker) -> None:
        pause = _FIRST_PAUSE
        has_been_ready = False
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                code, ready = await worker.run(self._output)
                how = _described(code)
            except OSError as exc:
                # No more processes or memory, or its Python is being replaced.
                code, ready, how = os.EX_OSERR, False, str(exc)
            has_been_ready = has_been_ready or ready
            if self._stopping.is_set():
                self._note(code)
                return
            if worker.is_restarted:
                worker.is_restarted = False
                pause = _FIRST_PAUSE
                continue
            if code == 0:
                self._say(f"{worker.name} was stopped ({how}) and stays stopped")
                return
            if not has_been_ready:
                self._say(
                    f"{worker.name} could not start ({how}): stopping all workers{self._hint}"
                )
                self._note(code)
                self._stop(signal.SIGTERM)
                return
            if time.monotonic() - started >= _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            self._say(f"{worker.name} died ({how}); it is started again in {pause:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _note(self, code: int) -> None:
        self._exit_code = self._exit_code or (128 - code if code < 0 else code)


class _Worker:
    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self.is_restarted = False
        """Whether it is started again as soon as it has ended."""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def send(self, number: signal.Signals, *, to_pool: bool = False) -> None:
        """Send it a signal, and to the processes of its pool as well with `to_pool`."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                if to_pool:
                    os.killpg(self._process.pid, number)  # it leads a group, as of a session
                else:
                    self._process.send_signal(number)

    async def run(self, output: _Output) -> tuple[int, bool]:
        """Run it once; returns its exit code, and whether it has become ready."""
        lines, lines_end = os.pipe()
        ready, ready_end = os.pipe()
        environment = {
            "PYTHONUNBUFFERED": "1",
            **os.environ,
            SUPERVISOR_VARIABLE: str(os.getpid()),
            READY_VARIABLE: str(ready_end),
        }
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.DEVNULL,
                stdout=lines_end,
                stderr=lines_end,
                pass_fds=(ready_end,),
                env=environment,
                # Ctrl-C of a terminal goes to the foreground's processes: here only the supervisor,
                # so that the workers do not get it twice, which means "at once".
                start_new_session=True,
            )
        except OSError:
            os.close(lines)
            os.close(ready)
            raise
        finally:
            os.close(lines_end)
            os.close(ready_end)
        reader = output.copy(self.name, lines)
        code = await self._process.wait()
        # Processes of a pool that outlive their worker keep the pipe open.
        await asyncio.to_thread(reader.join, 1.0)
        os.set_blocking(ready, False)
        try:
            was_ready = bool(os.read(ready, 1))
        except BlockingIOError:
            was_ready = False
        finally:
            os.close(ready)
        return code, was_ready


class _Output:
    """Puts the lines of several processes, each with its name in front, into one stream."""

    def __init__(self, stream: IO[bytes], *, width: int) -> None:
        self._stream = stream
        self._width = width
        self._lock = threading.Lock()

    def copy(self, name: str, pipe: int) -> threading.Thread:
        """Copy what comes through a pipe, in a thread, until its end.

        In a thread, as the stream may not take it for long, and signals must be obeyed meanwhile.
        """
        thread = threading.Thread(
            target=self._copy, args=(f"{name:{self._width}} | ".encode(), pipe), daemon=True
        )
        thread.start()
        return thread

    def _copy(self, prefix: bytes, pipe: int) -> None:
        with open(pipe, "rb") as source:
            while line := source.readline(_LONGEST_LINE):
                with self._lock, suppress(OSError, ValueError):
                    # An OSError: nobody reads our output any more. The workers go on.
                    self._stream.write(prefix + line.rstrip(b"\n") + b"\n")
                    self._stream.flush()


def _described(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def run_workers(commands: Mapping[str, Sequence[str]], *, hint: str = "") -> int:
    """Run workers in the foreground; returns the exit code.

    Args:
        commands: The command of each worker, by its name.
        hint: What to do where a worker cannot start.
    """
    width = max(len(name) for name in (*commands, "workers"))

    def say(text: str) -> None:
        print(f"{'workers':{width}} | {text}", file=sys.stderr, flush=True)

    async def run() -> int:
        return await Supervisor(commands, output=sys.stdout.buffer, say=say, hint=hint).run()

    return asyncio.run(run())
