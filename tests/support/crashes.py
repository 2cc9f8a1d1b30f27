"""Workers that are killed at random moments, and what becomes of the tasks."""

import os
import random
import signal
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

from celery import Celery
from redis import Redis

from tests.support import crash_service
from tests.support.patience import wait_until
from tests.support.servers import RedisServer
from tests.support.workers import Pool, Worker

MODULE = crash_service.__name__
PREFETCH = 50


@dataclass(frozen=True)
class Crashes:
    """What is done."""

    tasks: int
    kills: int
    pool: Pool
    fast: bool
    visibility_timeout: float = 3.0
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """What has come of it.

    Attributes:
        lost: Tasks that have never run.
        again: Tasks that have run more than once.
        left: Messages that Redis still has as unacknowledged.
    """

    lost: int
    again: int
    left: int


class _Redis(Protocol):
    def hvals(self, key: str) -> list[bytes]: ...
    def hlen(self, key: str) -> int: ...
    def llen(self, key: str) -> int: ...


def crash(server: RedisServer, crashes: Crashes) -> Outcome:
    """Send tasks to workers that are killed one after the other, the last of which is not."""
    chance = random.Random(crashes.seed)
    environment = settings(server, crashes)
    url = f"redis://{server.host}:{server.port}/0"
    with (
        Celery("sender", broker=url, set_as_current=False) as sender,
        Redis(host=server.host, port=server.port) as redis,
    ):
        sent = 0
        for kill in range(crashes.kills):
            due = crashes.tasks * (kill + 1) // crashes.kills
            with worker_of(crashes, environment) as worker:
                moment = time.monotonic() + chance.uniform(0.05, 0.4)
                # In small portions, so that the worker is idle in between: it is a message for one
                # that waits that can be lost.
                while sent < due and time.monotonic() < moment:
                    for _ in range(min(chance.randint(1, 20), due - sent)):
                        _send(sender, sent)
                        sent += 1
                    time.sleep(chance.uniform(0, 0.02))
                time.sleep(max(moment - time.monotonic(), 0))
                os.kill(worker.pid, signal.SIGKILL)
        for number in range(sent, crashes.tasks):
            _send(sender, number)
        with worker_of(crashes, environment) as worker:
            looking = cast("_Redis", redis)
            _wait_for_rest(looking, crashes)
            worker.stop()
        runs = [int(count) for count in looking.hvals("runs")]
        return Outcome(
            lost=crashes.tasks - len(runs),
            again=sum(count > 1 for count in runs),
            left=looking.hlen("unacked") + looking.llen("celery"),
        )


def settings(server: RedisServer, crashes: Crashes) -> dict[str, str]:
    """The environment of the workers."""
    environment = {
        "CRASH_VISIBILITY_TIMEOUT": str(crashes.visibility_timeout),
        "CELERY_REDIS_FAST_PATH": str(crashes.fast).lower(),
        # One with a thread of its own may have as many messages as one that runs them all at once.
        "CELERY_WORKER_PREFETCH_MULTIPLIER": str(1 if crashes.pool == "asyncio" else PREFETCH),
    }
    for role in ("CELERY_BROKER", "CELERY_RESULT_BACKEND", "CELERY_WORKER"):
        environment[f"{role}_REDIS_HOST"] = server.host
        environment[f"{role}_REDIS_PORT"] = str(server.port)
        environment[f"{role}_REDIS_DB"] = "0"
    return environment


@contextmanager
def worker_of(crashes: Crashes, environment: Mapping[str, str]) -> Generator[Worker]:
    concurrency = PREFETCH if crashes.pool == "asyncio" else 1
    worker = Worker(MODULE, pool=crashes.pool, concurrency=concurrency, env=environment)
    with worker:
        worker.wait_ready()
        yield worker


def _send(sender: Celery, number: int) -> None:
    sender.send_task(f"{MODULE}.run_once", (number,), ignore_result=True)


def _wait_for_rest(redis: _Redis, crashes: Crashes) -> None:
    """Wait until nothing is left to run."""

    def settled() -> bool:
        return redis.llen("celery") == 0 and redis.hlen("unacked") == 0

    wait_until(settled, 120, "nothing is left to run")
