"""Workers that are ended at random moments, and what becomes of the tasks."""

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from celery import Celery
from redis import Redis

from tests.support import crash_service, crash_stock_service
from tests.support.patience import wait_until
from tests.support.servers import RedisServer
from tests.support.workers import Pool, Worker

MODULE = crash_service.__name__
PREFETCH: Final = 50
"""How many messages each worker may have, whatever its pool."""
AT_ONCE: Final[Mapping[str, int]] = {"asyncio": 50, "threads": 10, "prefork": 2}
"""How many tasks a worker runs at once; a solo one runs one."""


@dataclass(frozen=True)
class Member:
    """A worker of the fleet.

    Attributes:
        pool: Its pool.
        fast: Whether it has the fast path; it has kombu's transport otherwise.
        stock: Whether it is one of plain Celery, without tomskit.
        spared: Whether it is never ended.
    """

    pool: Pool
    fast: bool = True
    stock: bool = False
    spared: bool = False


@dataclass(frozen=True)
class Crashes:
    """What is done.

    Attributes:
        tasks: How many tasks are sent.
        kills: How many workers are ended.
        fleet: The workers that run at the same time; another one takes the place of one that ended.
        warm: End them with SIGTERM, as an operator does, and not with SIGKILL.
    """

    tasks: int
    kills: int
    fleet: tuple[Member, ...]
    warm: bool = False
    visibility_timeout: float = 3.0
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """What has come of it.

    Attributes:
        lost: Tasks that have never run.
        again: Tasks that have run more than once.
        left: Messages that Redis still has, queued or unacknowledged.
        seconds: How long it took.
        complaints: What workers have logged as errors, without what differs each time.
        codes: The exit codes of the workers that were ended with SIGTERM.
    """

    lost: int
    again: int
    left: int
    seconds: float = 0.0
    complaints: Counter[str] = field(default_factory=Counter[str])
    codes: Counter[int] = field(default_factory=Counter[int])


class _Redis(Protocol):
    def hvals(self, key: str) -> list[bytes]: ...
    def hlen(self, key: str) -> int: ...
    def llen(self, key: str) -> int: ...


def crash(server: RedisServer, crashes: Crashes) -> Outcome:
    """Send tasks to workers that are ended one after the other; the last ones run what is left."""
    chance = random.Random(crashes.seed)
    url = f"redis://{server.host}:{server.port}/0"
    begun = time.monotonic()
    with (
        Celery("sender", broker=url, set_as_current=False) as sender,
        Redis(host=server.host, port=server.port) as redis,
        ExitStack() as stack,
    ):
        fleet = _Fleet(server, crashes, stack)
        sent = 0
        for kill in range(crashes.kills):
            due = crashes.tasks * (kill + 1) // crashes.kills
            victim = fleet.pick(chance)
            moment = time.monotonic() + chance.uniform(0.05, 0.4)
            # In small portions, so that the worker is idle in between: it is a message for one
            # that waits that can be lost.
            while sent < due and time.monotonic() < moment:
                for _ in range(min(chance.randint(1, 20), due - sent)):
                    _send(sender, sent)
                    sent += 1
                time.sleep(chance.uniform(0, 0.02))
            time.sleep(max(moment - time.monotonic(), 0))
            fleet.replace(victim)
        for number in range(sent, crashes.tasks):
            _send(sender, number)
        looking = cast("_Redis", redis)
        _wait_for_rest(looking)
        fleet.stop()
        runs = [int(count) for count in looking.hvals("runs")]
        return Outcome(
            lost=crashes.tasks - len(runs),
            again=sum(count > 1 for count in runs),
            left=looking.hlen("unacked") + looking.llen("celery"),
            seconds=time.monotonic() - begun,
            complaints=fleet.complaints,
            codes=fleet.codes,
        )


class _Fleet:
    """The workers that run at the same time."""

    def __init__(self, server: RedisServer, crashes: Crashes, stack: ExitStack) -> None:
        self._server = server
        self._crashes = crashes
        self._stack = stack
        self._stopping: list[Worker] = []
        self.complaints: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()
        self._workers = [self._start(member) for member in crashes.fleet]
        for worker in self._workers:
            worker.wait_ready()

    def _start(self, member: Member) -> Worker:
        worker = worker_of(member, settings(self._server, self._crashes, member))
        return self._stack.enter_context(worker)

    def pick(self, chance: random.Random) -> int:
        """One that may be ended, as soon as it is ready."""
        mortal = [n for n, member in enumerate(self._crashes.fleet) if not member.spared]
        number = chance.choice(mortal)
        self._workers[number].wait_ready(60)
        return number

    def replace(self, number: int) -> None:
        """End one, and start another one in its place."""
        worker = self._workers[number]
        if self._crashes.warm:
            worker.send_signal(signal.SIGTERM)
            self._stopping.append(worker)
            for ended in [one for one in self._stopping if not one.running]:
                self._bury(ended)
        else:
            worker.kill()
            self._note(worker)
        self._workers[number] = self._start(self._crashes.fleet[number])

    def stop(self) -> None:
        """Wait for those that are stopping, and stop the others."""
        for worker in list(self._stopping):
            self._bury(worker)
        for worker in self._workers:
            worker.stop()
            self._note(worker)

    def _bury(self, worker: Worker) -> None:
        self.codes[worker.wait(60)] += 1
        self._stopping.remove(worker)
        self._note(worker)

    def _note(self, worker: Worker) -> None:
        for line in worker.lines:
            if re.search(r": (ERROR|CRITICAL)/|^\w+(\.\w+)*(Error|Exception)\b", line):
                self.complaints[re.sub(r"\d+|[0-9a-f]{8}-[0-9a-f-]{27}", "#", line)[:200]] += 1
        worker.lines.clear()


def settings(server: RedisServer, crashes: Crashes, member: Member) -> dict[str, str]:
    """The environment of a worker."""
    environment = {
        "CRASH_VISIBILITY_TIMEOUT": str(crashes.visibility_timeout),
        "CELERY_REDIS_FAST_PATH": str(member.fast).lower(),
        "CELERY_WORKER_PREFETCH_MULTIPLIER": str(PREFETCH // AT_ONCE.get(member.pool, 1)),
    }
    for role in ("CELERY_BROKER", "CELERY_RESULT_BACKEND", "CELERY_WORKER"):
        environment[f"{role}_REDIS_HOST"] = server.host
        environment[f"{role}_REDIS_PORT"] = str(server.port)
        environment[f"{role}_REDIS_DB"] = "0"
    return environment


def worker_of(member: Member, environment: Mapping[str, str]) -> Worker:
    """A worker that is not started."""
    return Worker(
        crash_stock_service.__name__ if member.stock else MODULE,
        pool=member.pool,
        concurrency=AT_ONCE.get(member.pool, 1),
        env=environment,
    )


@contextmanager
def running(worker: Worker) -> Generator[Worker]:
    """A worker that is ready."""
    with worker:
        worker.wait_ready()
        yield worker


def _send(sender: Celery, number: int) -> None:
    sender.send_task(f"{MODULE}.run_once", (number,), ignore_result=True)


def _wait_for_rest(redis: _Redis) -> None:
    """Wait until nothing is left to run."""

    def settled() -> bool:
        return redis.llen("celery") == 0 and redis.hlen("unacked") == 0

    wait_until(settled, 120, "nothing is left to run")
