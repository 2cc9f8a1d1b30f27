"""What the applications of the contenders are told. Imports nothing: arq's has little installed."""

import os
import sys
from collections.abc import Callable, Coroutine

QUEUE = "BENCHMARK_QUEUE_URL"
RESULTS = "BENCHMARK_RESULTS_URL"
CONCURRENCY = "BENCHMARK_CONCURRENCY"

DAY = 86_400
"""Seconds that results are kept where nothing bounds it by default; Celery's default."""


def queue_url() -> str:
    return os.environ[QUEUE]


def results_url() -> str:
    return os.environ[RESULTS]


def concurrency() -> int:
    return int(os.environ[CONCURRENCY])


def arguments() -> tuple[str, int, list[float]]:
    """Of a program that fills a queue: the task, how often, and its arguments."""
    task, count, *args = sys.argv[1:]
    return task, int(count), [float(arg) for arg in args]


async def in_portions(
    count: int, send: Callable[[int], Coroutine[object, object, object]], portion: int = 200
) -> None:
    """Have `count` tasks sent, not all at once: a client may open a connection for each."""
    for sent in range(0, count, portion):
        await send(min(portion, count - sent))
