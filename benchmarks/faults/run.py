"""One worker under one fault, and what has come of its tasks."""

import json
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self, cast

from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError
from tests.support.deployment import redis_environment
from tests.support.faults import Servers, behind_proxies
from tests.support.servers import RedisDb, RedisServer
from tests.support.workers import Pool, Worker

from benchmarks.faults.catalogue import Fault
from benchmarks.faults.names import EARLY, GAP, LATE, OVER, RUNS, WATCH

BEFORE: Final = 4.0
AFTER: Final = 4.0
"""Seconds of load before and after the fault."""
EVERY: Final = 0.1
"""Seconds between two tasks. Every other one is acknowledged late."""
LASTS: Final = 0.3
"""Seconds of a task."""


class Contender(NamedTuple):
    """A kind of worker.

    Attributes:
        name: As the table names it.
        module: Its tasks.
        pool: Its pool.
        slots: How many tasks it runs at once.
        fast: Whether it is told to take the Redis fast path, which the asyncio pool takes by itself.
    """

    name: str
    module: str
    pool: Pool
    slots: int
    fast: bool = False


CONTENDERS: Final = (
    Contender("tomskit, asyncio", "benchmarks.faults.ours", "asyncio", 100),
    Contender("tomskit, prefork, fast path", "benchmarks.faults.ours", "prefork", 4, fast=True),
    Contender("tomskit, prefork", "benchmarks.faults.ours", "prefork", 4),
    Contender("Celery, prefork", "benchmarks.faults.stock", "prefork", 4),
    Contender("Celery, threads", "benchmarks.faults.stock", "threads", 4),
)


@dataclass(frozen=True)
class Outcome:
    """What has come of the tasks.

    Attributes:
        sent: How many there were.
        missing: Those that have not run when the deadline is over.
        again: Those that have run more than once.
        started: Those that have run and are said to run.
        failed: Those that are said to have failed.
        gap: The longest time for which the event loop has stood still, in seconds, where there is one.
        recovery: Seconds from the end of the fault to the end of a task that was sent after it; None if
            there was none.
        stopped: Seconds from a SIGTERM in the middle of the fault to the end of the worker; None if it
            had to be killed.
        ended: Whether the worker has ended by itself.
    """

    sent: int
    missing: int
    again: int
    started: int
    failed: int
    gap: float | None
    recovery: float | None
    stopped: float | None
    ended: bool


class _Own(Protocol):
    """The Redis of the tasks."""

    def hgetall(self, key: str) -> dict[str, str]: ...
    def get(self, key: str) -> str | None: ...
    def set(self, key: str, value: str) -> object: ...


class _Load:
    """Sends tasks until it is told to end; what cannot be sent is tried again."""

    def __init__(self, broker_url: str) -> None:
        self.ids: list[str] = []
        # Without a result backend: it would wait for that.
        self._client = Celery("load", broker=broker_url, set_as_current=False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def _send(self) -> None:
        while not self._over.wait(EVERY):
            number = len(self.ids)
            try:
                result = self._client.send_task(
                    (EARLY, LATE)[number % 2], (number, LASTS), retry=False
                )
            except (OperationalError, RedisError, OSError):
                continue
            self.ids.append(result.id)


def run(contender: Contender, fault: Fault, deadline: float, log: Path | None = None) -> Outcome:
    """Run tasks on a worker while a fault lasts, then stop the worker while it lasts again.

    Args:
        contender: The worker.
        fault: The fault.
        deadline: Seconds after the fault when all tasks have to have ended, and after SIGTERM when the
            worker has to.
        log: Where to write the worker's log.
    """
    with behind_proxies() as servers, RedisServer() as own, own.client() as client:
        worker = Worker(
            contender.module,
            pool=contender.pool,
            concurrency=contender.slots,
            env={
                **_environment(servers, own),
                **({"CELERY_REDIS_FAST_PATH": "true"} if contender.fast else {}),
            },
        )
        worker.start()
        try:
            worker.wait_ready(60)
            return _run(
                fault,
                deadline,
                servers,
                worker,
                cast("_Own", client),
                watches=contender.pool == "asyncio",
            )
        finally:
            worker.kill()
            if log is not None:
                log.write_text(worker.text, encoding="utf-8")


def _run(
    fault: Fault, deadline: float, servers: Servers, worker: Worker, own: _Own, *, watches: bool
) -> Outcome:
    if watches:
        servers.client.send_task(WATCH)
    with _Load(servers.server.url(0)) as load:
        time.sleep(BEFORE)
        with fault.apply(servers):
            time.sleep(fault.seconds)
        over, known = time.monotonic(), len(load.ids)
        recovered: float | None = None
        while time.monotonic() < over + deadline:
            time.sleep(0.05)
            if recovered is None and any(int(number) >= known for number in own.hgetall(RUNS)):
                recovered = time.monotonic() - over
            if recovered is not None and time.monotonic() > over + AFTER:
                break
    while time.monotonic() < over + deadline and not _is_done(servers, load.ids, own):
        time.sleep(0.2)
    runs, states = own.hgetall(RUNS), _states(servers, load.ids)
    ran = {load.ids[int(number)] for number in runs}
    gap = _gap(own) if watches and worker.running else None
    ended = not worker.running
    return Outcome(
        sent=len(load.ids),
        missing=len(load.ids) - len(runs),
        again=sum(int(count) > 1 for count in runs.values()),
        started=sum(states[one] == "STARTED" for one in ran),
        failed=Counter(states.values())["FAILURE"],
        gap=gap,
        recovery=recovered,
        stopped=None if ended else _stop(fault, servers, worker, deadline),
        ended=ended,
    )


def _stop(fault: Fault, servers: Servers, worker: Worker, deadline: float) -> float | None:
    with fault.apply(servers):
        time.sleep(1)
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        while worker.running and time.monotonic() < begun + deadline:
            time.sleep(0.05)
        return None if worker.running else time.monotonic() - begun


def _is_done(servers: Servers, ids: list[str], own: _Own) -> bool:
    states = _states(servers, ids)
    return len(own.hgetall(RUNS)) == len(ids) and "STARTED" not in states.values()


def _states(servers: Servers, ids: list[str]) -> dict[str, str | None]:
    with servers.store.client(1) as client:
        found = cast("list[str | None]", client.mget([f"celery-task-meta-{one}" for one in ids]))
    return {
        one: None if meta is None else str(json.loads(meta)["status"])
        for one, meta in zip(ids, found, strict=True)
    }


def _gap(own: _Own) -> float | None:
    own.set(OVER, "yes")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if (gap := own.get(GAP)) is not None:
            return float(gap)
        time.sleep(0.1)
    return None


def _environment(servers: Servers, own: RedisServer) -> dict[str, str]:
    def url(host: str, port: int, db: int) -> str:
        return f"redis://{host}:{port}/{db}"

    return {
        **servers.environment(),
        **redis_environment("CELERY_WORKER", RedisDb(own.host, own.port, 0, 0), 0),
        "FAULTS_BROKER": url(servers.broker.host, servers.broker.port, 0),
        "FAULTS_RESULTS": url(servers.results.host, servers.results.port, 1),
        "FAULTS_OWN_HOST": own.host,
        "FAULTS_OWN_PORT": str(own.port),
    }
