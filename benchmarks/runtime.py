"""AsyncRuntime.run of an empty coroutine against asyncio's own ways from a thread to a coroutine."""

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory

from benchmarks.table import Row, print_table
from tomskit.celery import AsyncCelery, AsyncRuntime
from tomskit.sqlalchemy import DatabaseConfig

ROUNDS = 25
RUNS = 1000


async def empty() -> None:
    pass


def measure() -> list[Row]:
    """Microseconds a run: the median of rounds that take turns."""
    with TemporaryDirectory() as folder:
        # Everything that a task gets is in place: the session scope, its engine, the redis client.
        app = AsyncCelery(
            "benchmark",
            broker="memory://",
            database=DatabaseConfig(
                SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite",
                DB_DATABASE=f"{folder}/benchmark.db",
            ),
        )
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
    return [
        Row(
            "AsyncRuntime.run / run_coroutine_threadsafe",
            ours,
            threadsafe,
            "us",
            threadsafe / ours,
            ">= 1.11 (0.9 of its time)",
        ),
        Row(
            "AsyncRuntime.run / asyncio.run",
            ours,
            fresh,
            "us",
            fresh / ours,
            ">= 2 (half its time)",
        ),
    ]


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
