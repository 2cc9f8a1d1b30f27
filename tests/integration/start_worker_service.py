"""A process with several workers of Celery's test helper, one after the other.

Arguments: "loop" or "plain", whether an event loop runs in the main thread, and the pools. Prints what
was found, as JSON: for each worker the results of tasks, and at the end what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
from typing import Any

from celery import shared_task
from celery.contrib.testing.worker import start_worker
from kombu.asynchronous import get_event_loop

from tests.support.patience import patience
from tomskit.celery import AsyncCelery, AsyncRuntime, CeleryConfig, async_shared_task

app = AsyncCelery("start-worker", config=CeleryConfig())


@async_shared_task
async def double(number: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * number


@shared_task
def plain_double(number: int) -> int:
    return 2 * number


def started(pool: str) -> contextlib.AbstractContextManager[object]:
    start: Any = start_worker
    context: contextlib.AbstractContextManager[object] = start(
        app,
        pool=pool,
        concurrency=2,
        perform_ping_check=False,
        shutdown_timeout=patience(10.0),
    )
    return context


async def call_tasks() -> list[object]:
    """Call tasks as async code does."""
    sent = [await double.adelay(number) for number in range(4)]
    return [await result.aget(timeout=patience(20.0)) for result in sent]


def call_plain_tasks() -> list[object]:
    plain: Any = plain_double
    sent = [task.delay(number) for number in range(4) for task in (double, plain)]
    return [result.get(timeout=patience(20.0)) for result in sent]


def run(pools: list[str]) -> list[list[object]]:
    found: list[list[object]] = []
    for pool in pools:
        with started(pool):
            found.append(call_plain_tasks())
    return found


async def run_in_loop(pools: list[str]) -> list[list[object]]:
    found: list[list[object]] = []
    for pool in pools:
        with started(pool):
            found.append(await call_tasks())
    return found


def main() -> None:
    mode, *pools = sys.argv[1:]
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    threads = set(threading.enumerate())
    found = asyncio.run(run_in_loop(pools)) if mode == "loop" else run(pools)
    for thread in set(threading.enumerate()) - threads:
        # Those of the helper itself, and of an executor that was told to end, or is the client's.
        is_of_executor = thread.name.startswith(("ThreadPoolExecutor", "tomskit"))
        thread.join(patience(1.0) if is_of_executor else 0)
    left = {thread.name for thread in set(threading.enumerate()) - threads}
    print(
        json.dumps(
            {
                "found": found,
                "threads": sorted(left),
                "signals": [
                    int(number)
                    for number, handler in handlers.items()
                    if signal.getsignal(number) != handler
                ],
                "hub": get_event_loop() is not None,
                "runtime": AsyncRuntime.app() is not None,
            }
        )
    )


if __name__ == "__main__":
    main()
