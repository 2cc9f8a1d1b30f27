"""AsyncRuntime.run of an empty coroutine, compared with asyncio's ways to run it from a thread."""

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from benchmarks.table import Row, print_table
from tomskit.celery import AsyncCelery, AsyncRuntime
from tomskit.sqlalchemy import DatabaseConfig

ROUNDS = 25
RUNS = 1000


async def empty() -> None:
    pass


def measure() -> list[Row]:
    """Microseconds per run: the median of alternating rounds.

    On one core the time is that of the code. On two cores each run waits twice until the system
    has woken a thread on the other core, which takes 10 to 40 us and hides every difference. So the
    rows for two cores have no target.
    """
    with TemporaryDirectory() as folder:
        # As for a task: with the session scope, its engine and the Redis client.
        app = AsyncCelery(
            "benchmark",
            broker="memory://",
            database=DatabaseConfig(
                SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite",
                DB_DATABASE=f"{folder}/benchmark.db",
            ),
        )
        with _one_core():
            rows = _rows(app, "", ">= 1.11 (0.9 of its time)", ">= 2 (half its time)")
        if hasattr(os, "sched_setaffinity"):
            rows += _rows(app, ", any core", "", "")
    return rows


def _rows(app: AsyncCelery, where: str, *targets: str) -> list[Row]:
    # Threads inherit the CPU affinity of the thread that starts them, so both loops start here.
    AsyncRuntime.init(app)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        ours, threadsafe, fresh = _take_turns(
            lambda: AsyncRuntime.run(empty()),
            lambda: asyncio.run_coroutine_threadsafe(empty(), loop).result(),
            lambda: asyncio.run(empty()),
        )
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        AsyncRuntime.shutdown()
    peers = {"run_coroutine_threadsafe": threadsafe, "asyncio.run": fresh}
    return [
        Row(f"AsyncRuntime.run / {name}{where}", ours, peer, "us", peer / ours, target)
        for (name, peer), target in zip(peers.items(), targets, strict=True)
    ]


@contextmanager
def _one_core() -> Generator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _take_turns(*ways: Callable[[], None]) -> list[float]:
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, taken in zip(ways, times, strict=True):
            start = time.perf_counter()
            for _ in range(RUNS):
                way()
            taken.append((time.perf_counter() - start) / RUNS * 1e6)
    return [statistics.median(taken) for taken in times]


if __name__ == "__main__":
    print_table(measure())
