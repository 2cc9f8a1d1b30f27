"""One drain: fill the queue, start a worker and measure the time until the queue is empty."""

import os
import re
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple, Protocol, cast

from tests.support.workers import Worker

from benchmarks.pools.contenders import Contender, Run, Servers
from benchmarks.pools.watches import Watch
from benchmarks.pools.workloads import Work

_LOOK_EVERY: Final = 0.02
"""Seconds between polls: the precision of the measured times."""

_PATIENCE: Final = 60.0
"""Seconds without a new result after which a worker counts as stuck."""

_LOG_LINES: Final = 60

_databases = count(step=2)


class DrainError(RuntimeError):
    """A worker did not finish all of its tasks."""


class Drain(NamedTuple):
    """The measurements of a drain."""

    tasks: int
    seconds: float
    """Seconds from the first task that was taken to the last result."""
    start: float
    """Seconds from the start of the process to the first task that was taken."""
    peak: float | None
    """Peak memory of the worker's main process in megabytes; None if the system does not report it."""
    cpu: float | None
    """Microseconds of processor time of the worker for each task; None if the system does not report it."""
    commands: float
    """Redis commands per task, including those in scripts."""

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.tasks / self.seconds


def next_databases() -> tuple[int, int]:
    """Two unused databases, for a queue and for results."""
    first = next(_databases)
    return first, first + 1


def drain(contender: Contender, work: Work, scale: float, servers: Servers) -> Drain:
    queue_db, results_db = next_databases()
    tasks = max(2, round(contender.enough(work) * scale))
    try:
        with ExitStack() as stack:
            run = Run(work, tasks, servers, queue_db, results_db, stack)
            contender.fill(run)
            return _timed(contender.worker(run), contender.watch(run), tasks, servers)
    finally:
        servers.redis.flush(queue_db, results_db)


def _commands(servers: Servers) -> int:
    with servers.redis.client() as redis:
        stats = cast("_Redis", redis).info("commandstats")
    return sum(command["calls"] for command in stats.values())


class _Redis(Protocol):
    def info(self, section: str) -> dict[str, dict[str, int]]: ...


def _timed(worker: Worker, watch: Watch, tasks: int, servers: Servers) -> Drain:
    if watch.taken() or watch.left() != tasks:
        msg = "the queue does not hold all tasks"
        raise DrainError(msg)
    begun, before = time.monotonic(), _commands(servers)
    worker.start()
    try:
        taken = _wait_for_first(worker, watch, begun)
        used = _processor_time(worker)
        done = _wait_for_last(worker, watch)
        used_after = _processor_time(worker)
        # This includes the polling, two commands every 20 ms.
        commands = (_commands(servers) - before) / tasks
        peak = _peak(worker.pid)
        succeeded = watch.succeeded()
        if succeeded != tasks or "Traceback" in worker.text:
            msg = f"{succeeded} of {tasks} tasks succeeded. The log:\n{_log(worker)}"
            raise DrainError(msg)
    finally:
        # All tasks are done, and a warm shutdown would take longer.
        worker.kill()
    # At least one poll interval: with a small --scale all tasks may end between two polls.
    cpu = None if used is None or used_after is None else 1e6 * (used_after - used) / tasks
    return Drain(tasks, max(done - taken, _LOOK_EVERY), taken - begun, peak, cpu, commands)


def _wait_for_first(worker: Worker, watch: Watch, begun: float) -> float:
    while not watch.taken():
        _must_run(worker)
        if time.monotonic() > begun + _PATIENCE:
            msg = f"took nothing from the queue within {_PATIENCE:g} s. The log:\n{_log(worker)}"
            raise DrainError(msg)
        time.sleep(_LOOK_EVERY)
    return time.monotonic()


def _wait_for_last(worker: Worker, watch: Watch) -> float:
    before, moved = -1, time.monotonic()
    while left := watch.left():
        _must_run(worker)
        now = time.monotonic()
        if left != before:
            before, moved = left, now
        elif now > moved + _PATIENCE:
            msg = f"has {left} tasks left and stored no result for {_PATIENCE:g} s. The log:\n{_log(worker)}"
            raise DrainError(msg)
        time.sleep(_LOOK_EVERY)
    return time.monotonic()


def _must_run(worker: Worker) -> None:
    if not worker.running:
        time.sleep(0.5)  # another thread reads the last lines of its log
        msg = f"the worker ended. Its log:\n{_log(worker)}"
        raise DrainError(msg)


def _log(worker: Worker) -> str:
    """The first traceback of the log or its last lines: failing tasks repeat the same traceback."""
    lines = worker.text.splitlines()
    first = next((at for at, line in enumerate(lines) if "Traceback" in line), len(lines))
    if first == len(lines):
        return "\n".join(lines[-_LOG_LINES:])
    begin = max(0, first - 2)
    return "\n".join(lines[begin : begin + _LOG_LINES])


def _peak(pid: int) -> float | None:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
    return None if found is None else int(found[1]) / 1024


def _processor_time(worker: Worker) -> float | None:
    """Seconds of all processes of the worker, in user and in system mode."""
    ticks = 0
    for pid in (worker.pid, *worker.children()):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            return None
        # The name in parentheses may hold anything, so count from its end.
        user, system = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")
