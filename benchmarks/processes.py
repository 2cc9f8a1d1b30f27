"""All cores: one and two workers under ``celery workers``, on the same tasks: `python -m benchmarks.processes`.

The workers are ready before the messages are there, as one more takes a second of the cores to start. All
messages come at once then, the same in each round, and the time runs until the last result is stored. Redis and
this program share the cores with them: on two cores two processes cannot be twice as fast.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from celery import Celery
from tests.support.servers import RedisServer

from benchmarks.pools.contenders import MANY, Command
from benchmarks.pools.workloads import NOOP, SHORT, Work
from benchmarks.table import Row, print_table

PROCESSES: Final = (1, 2)
QUEUE_DB, RESULT_DB = 0, 1
QUEUE: Final = "celery"
KEPT: Final = "kept"
"""Where the messages of a round are copied from."""

LOOK_EVERY: Final = 0.02
PATIENCE: Final = 120.0
TARGET: Final = ">= 1.3"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="alternating; the median is reported")
    parser.add_argument("--tasks", type=int, default=40_000, help="in a round")
    options = parser.parse_args()
    rows: list[Row] = []
    for work in (NOOP, SHORT):
        rates: dict[int, list[float]] = {number: [] for number in PROCESSES}
        with RedisServer() as redis:
            _fill(redis, work, options.tasks)
            for _ in range(options.rounds):
                for number, measured in rates.items():
                    measured.append(_rate(redis, number, options.tasks))
                    print(f"{work.title}, {number}: {measured[-1]:.0f} a second", file=sys.stderr)
        one, two = (statistics.median(rates[number]) for number in PROCESSES)
        rows.append(Row(f"{work.title}: two processes / one", two, one, "1/s", two / one, TARGET))
    print_table(rows)


def _fill(redis: RedisServer, work: Work, tasks: int) -> None:
    client = Celery("client", broker=redis.url(QUEUE_DB), set_as_current=False)
    try:
        for _ in range(tasks):
            client.send_task(work.task, work.args)
    finally:
        client.close()
    with redis.client(QUEUE_DB) as queue:
        queue.rename(QUEUE, KEPT)


def _rate(redis: RedisServer, processes: int, tasks: int) -> float:
    """Tasks a second of so many processes."""
    program = [sys.executable, "-m", "celery", "-A", "benchmarks.pools.tomskit_app", "workers"]
    options = [f"--processes={processes}", f"--concurrency={MANY}", "--loglevel=WARNING"]
    worker = Command([*program, *options], _environment(redis))
    with redis.client(QUEUE_DB) as queue, redis.client(RESULT_DB) as opened:
        results: Any = opened
        queue.copy(KEPT, "next")
        worker.start()
        try:
            _wait_ready(redis, worker, processes)
            begun = time.monotonic()
            queue.rename("next", QUEUE)
            while (stored := results.dbsize()) < tasks:
                if not worker.running or time.monotonic() > begun + PATIENCE:
                    msg = f"{stored} of {tasks} results are there. The log:\n{worker.text[-4000:]}"
                    raise RuntimeError(msg)
                time.sleep(LOOK_EVERY)
            return tasks / (time.monotonic() - begun)
        finally:
            worker.kill()
            results.flushdb()
            queue.delete("unacked", "unacked_index", QUEUE)


def _wait_ready(redis: RedisServer, worker: Command, processes: int) -> None:
    client = Celery("client", broker=redis.url(QUEUE_DB), set_as_current=False)
    deadline = time.monotonic() + PATIENCE
    try:
        while len(client.control.ping(timeout=1.0, limit=processes) or ()) < processes:
            if not worker.running or time.monotonic() > deadline:
                msg = f"the workers are not ready. The log:\n{worker.text[-4000:]}"
                raise RuntimeError(msg)
    finally:
        client.close()


def _environment(redis: RedisServer) -> Mapping[str, str]:
    return {
        "CELERY_BROKER_URL": redis.url(QUEUE_DB),
        "CELERY_RESULT_BACKEND": redis.url(RESULT_DB),
        "CELERY_WORKER_POOL": "asyncio",
        "CELERY_TASK_TRACK_STARTED": "false",
    }


if __name__ == "__main__":
    main()
