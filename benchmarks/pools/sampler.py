"""Notes what a worker's thread is doing, every few milliseconds of its processor time.

Imported by the benchmark's app where the environment names a file for the counts.
"""

import json
import os
import signal
from collections import Counter
from types import FrameType
from typing import Final

SAMPLES: Final = "BENCHMARK_SAMPLES"

_EVERY: Final = 0.001
"""Seconds; the system makes its own tick of it, mostly 4 ms."""

_WRITTEN_EVERY: Final = 50

PARTS: Final = {
    "log lines": (
        "/logging/",
        "/_worker/logging.py",
        "/_running/repeated_lines.py",
        "/_running/stream_lines.py",
        "/celery/utils/log.py",
    ),
    "the function, its arguments and its result": ("/_tasks/", "/_values/", "tomskit_app.py"),
    "results to Redis": ("redis_results.py", "/batches.py"),
    "messages from Redis, and acknowledgements": (
        *("/fast_redis/", "/kombu/", "unreadable.py", "redis_channel.py", "loop_socket.py"),
        *("kombu_redis.py", "asyncio_pool/consumer.py"),
    ),
    "request, and the worker's state": (
        *("lean_strategy.py", "celery_request.py", "/celery/worker/", "celery_lean.py"),
        "/celery/utils/collections.py",
    ),
    "job: greenlet, scopes, limits, report": (
        *("lean_job.py", "asyncio_pool/job.py", "/_running/", "asyncio_pool/report.py"),
        *(
            "/tomskit/resources.py",
            "/tomskit/sqlalchemy/",
            "/tomskit/redis/",
            "asyncio_pool/pool.py",
        ),
    ),
    "collector of cycles": ("asyncio_pool/collector.py",),
}
OTHER: Final = "event loop, and what belongs to no part"


def part_of(frame: FrameType | None) -> str:
    """The part of the innermost frame that belongs to one."""
    while frame is not None:
        name = frame.f_code.co_filename
        for part, files in PARTS.items():
            if any(file in name for file in files):
                return part
        frame = frame.f_back
    return OTHER


def start(path: str) -> None:
    """Count the parts from now on; `path` gets the counts as JSON."""
    counts: Counter[str] = Counter()

    def note(_: int, frame: FrameType | None) -> None:
        counts[part_of(frame)] += 1
        if not counts.total() % _WRITTEN_EVERY:
            with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 (in a signal handler)
                json.dump(counts, file)

    signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)


def start_if_asked() -> None:
    path = os.environ.get(SAMPLES)
    if path:
        start(path)
