"""A stress test of a worker with the asyncio pool: `python -m benchmarks.endurance`.

**Outage.** 500 tasks are in flight when the broker, which also stores the results, is down for 20 s.
Meanwhile a coroutine of the same worker ticks every 10 ms; its longest gap is the longest time for which
the event loop was blocked. Afterwards each task has a result, and each has run once. The same is measured
with a broker that hangs: its process is stopped and does not answer.

**Growth.** What a worker uses while it runs tasks of many kinds: 5 % fail, 5 % are retried, others meet a limit,
wait, make HTTP clients, send chains, groups and chords. After each portion every result and the end of each
chain, group and chord is counted.
"""

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import randrange, shuffle
from typing import Final, Protocol, cast
from uuid import uuid4

from celery import Celery
from redis import Redis
from tests.support import hostile
from tests.support.deployment import redis_environment
from tests.support.patience import WaitedInVainError, wait_until
from tests.support.servers import Outage, RedisDb, RedisServer, outage
from tests.support.servers.redis import call
from tests.support.workers import Worker
from typing_extensions import override

OUTAGE = 20.0
"""Seconds."""
IN_FLIGHT = 500
PORTION = 10_000
PATIENCE = 120.0

KINDS: Final[tuple[Outage, ...]] = ("gone", "hanging")

TASKS = "tests.integration.asyncio_stop_service"
SOAK = "tests.support.soak_service"
RESULTS: Final = "celery-task-meta-*"


class _Redis(Protocol):
    def get(self, key: str) -> bytes | None: ...
    def llen(self, key: str) -> int: ...
    def hlen(self, key: str) -> int: ...


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

    def memory(self) -> tuple[float, float]:
        """The memory of the worker in megabytes: now, and at its peak."""
        status = Path(f"/proc/{self.worker.pid}/status").read_text(encoding="utf-8")
        found = {
            name: int(kilobytes) / 1024
            for name, kilobytes in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE)
        }
        return found["VmRSS"], found["VmHWM"]


@contextmanager
def place(module: str, concurrency: int, *, persistent: bool) -> Generator[Place]:
    config = [("appendonly", "yes"), ("appendfsync", "always")] if persistent else []
    with RedisServer(config=config) as server, RedisServer() as tasks:
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
    with place(TASKS, IN_FLIGHT + 10, persistent=True) as it, Redis(port=it.tasks.port) as other:
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


MIX: Final = (
    *(("nothing", 61), ("late", 10), ("wait", 10), ("fail", 5), ("retry", 5), ("limited", 2)),
    *(("use_http", 1), ("send_chain", 2), ("send_group", 2), ("send_chord", 2)),
)
"""How many of a hundred messages call which task of `soak_service`."""
COUNTED: Final = {"retry": 5, "limited": 2, "chain": 2, "group": 6, "chord": 2}
"""How often, for a hundred messages, something of each kind comes to its end."""
TASKS_OF_100: Final = 100 + 2 * 3 + 2 * 3 + 2 * 5
STORED_OF_100: Final = 100 + 2 * 2 + 2 * 4
"""Results; the last task of a chain, a group or a chord ignores its own."""


@dataclass
class Use:
    """What the worker uses at one moment.

    Attributes:
        blocks: What Python has handed out, small and large. Where these do not grow and the memory does,
            it is not held by objects: it is free, in between of what is held.
        objects: Those that the collector knows.
    """

    tasks: int
    memory: float
    blocks: int
    objects: int
    descriptors: int
    threads: int
    connections: int
    keys: int

    @override
    def __str__(self) -> str:
        return (
            f"{self.tasks:>9,} tasks: {self.memory:>5.0f} MB, {self.blocks:,} blocks, {self.objects:,} objects, "
            f"{self.descriptors} descriptors, {self.threads} threads, {self.connections} connections, {self.keys} keys left"
        )


def soak(tasks: int, minutes: float) -> bool:
    """Print what a worker uses while it runs many tasks of many kinds; whether nothing grows."""
    end = time.monotonic() + 60 * minutes
    with place(SOAK, 1000, persistent=False) as it, ExitStack() as stack:
        broker, results = (stack.enter_context(it.server.client(db)) for db in (0, 1))
        other = stack.enter_context(it.tasks.client(0))
        uses: list[Use] = []
        messages = 0
        while messages * TASKS_OF_100 < tasks * 100 and time.monotonic() < end:
            batch = [message(name) for name, many in MIX for _ in range(many * PORTION // 100)]
            shuffle(batch)
            for first in range(0, PORTION, 500):
                call(broker, "LPUSH", "celery", *batch[first : first + 500])
            messages += PORTION
            for kind, of_100 in COUNTED.items():
                expect(other, kind, of_100 * messages // 100)
            it.wait_until_idle()
            check_results(results)
            uses.append(use(it, messages * TASKS_OF_100 // 100))
            print(uses[-1], flush=True)
    early, middle, last = uses[min(1, len(uses) - 1)], uses[len(uses) // 2], uses[-1]
    print("early, in the middle, at the end:", early, middle, last, sep="\n", flush=True)
    return (
        last.memory < 1.1 * middle.memory
        and last.blocks < 1.05 * middle.blocks
        and last.descriptors <= middle.descriptors + 5
    )


def message(name: str) -> str:
    """A message that calls a task of the service."""
    made = hostile.call()
    made["headers"]["task"] = f"{SOAK}.{name}"
    made["body"] = hostile.encoded([[randrange(1000)], hostile.NONE, hostile.NONE])
    return json.dumps(made)


def expect(tasks: Redis, kind: str, count: int) -> None:
    """Wait until so many of a kind have come to their end, and not one more."""
    done = cast("Callable[[str, str], str | None]", tasks.hget)

    def have_ended() -> bool:
        return int(done("done", kind) or 0) >= count

    wait_until(have_ended, PATIENCE, f"{count} of {kind} have ended")
    assert int(done("done", kind) or 0) == count, f"{kind}: {done('done', kind)}, not {count}"


def check_results(results: Redis) -> None:
    """Wait until each task has its result, and delete them."""
    expected = {"SUCCESS": STORED_OF_100 * PORTION // 100, "FAILURE": 5 * PORTION // 100}
    expected["SUCCESS"] -= expected["FAILURE"]
    found: Counter[str] = Counter()

    def are_stored() -> bool:
        found.clear()
        found.update(str(json.loads(each)["status"]) for each in stored(results))
        return found == expected

    try:
        wait_until(are_stored, PATIENCE, "all results are stored")
    except WaitedInVainError as exc:
        msg = f"the results are {found}, not {expected}"
        raise AssertionError(msg) from exc
    keys = cast("list[str]", call(results, "KEYS", RESULTS))
    for first in range(0, len(keys), 500):
        call(results, "UNLINK", *keys[first : first + 500])


def stored(results: Redis) -> Iterator[str]:
    keys = cast("list[str]", call(results, "KEYS", RESULTS))
    for first in range(0, len(keys), 500):
        yield from cast("list[str]", call(results, "MGET", *keys[first : first + 500]))


def use(it: Place, tasks: int) -> Use:
    process = Path(f"/proc/{it.worker.pid}")
    memory, _ = it.memory()
    blocks, objects = held(it)
    keys = 0
    for db in (0, 1):
        with it.server.client(db) as client:
            names = cast("list[str]", call(client, "KEYS", "*"))
            keys += sum(stays(client, name) for name in names)
    return Use(
        tasks,
        memory=memory,
        blocks=blocks,
        objects=objects,
        descriptors=len(list((process / "fd").iterdir())),
        threads=len(list((process / "task").iterdir())),
        connections=len(it.server.clients()) + len(it.tasks.clients()),
        keys=keys,
    )


def held(it: Place) -> tuple[int, int]:
    """What Python holds in the worker, when nothing else runs there."""
    task_id = it.send(f"{SOAK}.held")
    blocks, objects = cast("tuple[int, int]", it.result(task_id))
    it.client.AsyncResult(task_id).forget()
    return blocks, objects


def stays(client: Redis, key: str) -> bool:
    """Whether a key neither expires nor is one that a worker has which waits for messages."""
    if key.startswith("_kombu.binding") or key == "unacked_mutex":
        return False
    return call(client, "TTL", key) == -1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="end of the growth part")
    parser.add_argument("--only", choices=[*KINDS, "growth"])
    options = parser.parse_args()
    for kind in KINDS:
        if options.only in {None, kind}:
            live_through(kind)
    if options.only in {None, "growth"}:
        return 0 if soak(options.tasks, options.minutes) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
