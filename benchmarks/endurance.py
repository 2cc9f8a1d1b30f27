"""A stress test of a worker with the asyncio pool: `python -m benchmarks.endurance`.

**Outage.** 500 tasks are in flight when the broker, which also stores the results, is down for 20 s.
Meanwhile a coroutine of the same worker ticks every 10 ms; its longest gap is the longest time for which
the event loop was blocked. Afterwards each task has a result, and each has run once. The same is measured
with a broker that hangs: its process is stopped and does not answer.

**Growth.** The memory of the worker during 100,000 tasks, of which every tenth fails.
"""

import argparse
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast
from uuid import uuid4

from celery import Celery
from redis import Redis
from tests.support.deployment import redis_environment
from tests.support.patience import wait_until
from tests.support.servers import Outage, RedisDb, RedisServer, outage
from tests.support.workers import Worker

OUTAGE = 20.0
"""Seconds."""
IN_FLIGHT = 500
PORTION = 10_000
PATIENCE = 120.0

KINDS: Final[tuple[Outage, ...]] = ("gone", "hanging")

TASKS = "tests.integration.asyncio_stop_service"
FAILING = "tests.integration.asyncio_service"


class _Redis(Protocol):
    def get(self, key: str) -> bytes | None: ...
    def llen(self, key: str) -> int: ...
    def hlen(self, key: str) -> int: ...
    def dbsize(self) -> int: ...
    def flushdb(self) -> bool: ...


@dataclass
class Place:
    """A worker, a Redis for messages and results, and another Redis that its tasks use."""

    server: RedisServer
    tasks: RedisServer
    worker: Worker
    client: Celery

    def send(self, task: str, *args: object) -> str:
        """Send a task without subscribing to its result, and return its id."""
        task_id = str(uuid4())
        send = cast("Callable[..., object]", self.client.send_task)
        send(task, args, task_id=task_id)
        return task_id

    def result(self, task_id: str) -> object:
        """Wait for a result."""
        return self.client.AsyncResult(task_id).get(timeout=PATIENCE)

    def wait_until_idle(self) -> None:
        """Wait until no message is left, in the queue or unacknowledged."""
        with self.server.client(0) as client:
            redis = cast("_Redis", client)
            wait_until(
                lambda: redis.llen("celery") + redis.hlen("unacked") == 0,
                PATIENCE,
                "the queue is empty",
            )

    def drop_results(self, count: int) -> None:
        """Wait until `count` results are stored, and delete them."""
        with self.server.client(1) as client:
            redis = cast("_Redis", client)
            wait_until(lambda: redis.dbsize() == count, PATIENCE, "all results are stored")
            redis.flushdb()

    def memory(self) -> tuple[float, float]:
        """The memory of the worker in megabytes: now, and at its peak."""
        status = Path(f"/proc/{self.worker.pid}/status").read_text(encoding="utf-8")
        found = {
            name: int(kilobytes) / 1024
            for name, kilobytes in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE)
        }
        return found["VmRSS"], found["VmHWM"]


@contextmanager
def place(module: str, concurrency: int) -> Generator[Place]:
    persistent = [("appendonly", "yes"), ("appendfsync", "always")]
    with RedisServer(config=persistent) as server, RedisServer() as tasks:
        mine = RedisDb(server.host, server.port, broker_db=0, result_db=1)
        others = RedisDb(tasks.host, tasks.port, broker_db=0, result_db=0)
        environment = {
            **redis_environment("CELERY_BROKER", mine, mine.broker_db),
            **redis_environment("CELERY_RESULT_BACKEND", mine, mine.result_db),
            **redis_environment("CELERY_WORKER", others, others.result_db),
        }
        worker = Worker(
            module,
            pool="asyncio",
            concurrency=concurrency,
            env=environment,
            loglevel="CRITICAL",  # each failure is an error with a traceback
            cold=True,
        )
        client = Celery("client", broker=server.url(0), backend=server.url(1), set_as_current=False)
        with worker, client:
            yield Place(server, tasks, worker, client)


def live_through(kind: Outage) -> None:
    """Print the effects of an outage."""
    with place(TASKS, IN_FLIGHT + 10) as it, Redis(port=it.tasks.port) as other:
        gap = it.send(f"{TASKS}.longest_gap", OUTAGE + 5)
        # Some end before the outage, some during it, some after it.
        ids = [
            it.send(f"{TASKS}.count", f"count-{number}", 1 + number % (OUTAGE + 3))
            for number in range(IN_FLIGHT)
        ]
        it.wait_until_idle()
        with outage(it.server, kind):
            time.sleep(OUTAGE)
        results = [it.result(task_id) for task_id in ids]
        runs = [int(cast("_Redis", other).get(f"count-{n}") or 0) for n in range(IN_FLIGHT)]
        worst = 1000 * cast("float", it.result(gap))
        print(
            f"broker {kind} for {OUTAGE:g} s, {IN_FLIGHT} in flight: longest gap {worst:.0f} ms, "
            f"{results.count(1)} results, {runs.count(1)} ran once",
            flush=True,
        )


def growth(tasks: int) -> None:
    """Print the memory of a worker while it runs many tasks."""
    with place(FAILING, 1000) as it:
        for done in range(0, tasks, PORTION):
            for number in range(PORTION):
                if number % 10:
                    it.send(f"{FAILING}.add", number, 1)
                else:
                    it.send(f"{FAILING}.fail", "as it should")
            it.wait_until_idle()
            it.drop_results(PORTION)
            now, peak = it.memory()
            print(f"{done + PORTION:>9,} tasks: {now:.0f} MB, peak {peak:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--only", choices=["gone", "hanging", "growth"])
    options = parser.parse_args()
    for kind in KINDS:
        if options.only in {None, kind}:
            live_through(kind)
    if options.only in {None, "growth"}:
        growth(options.tasks)


if __name__ == "__main__":
    main()
