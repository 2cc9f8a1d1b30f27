"""What once=True and delay_on_commit cost: `python -m benchmarks.once_cost`.

Tasks with two statements, 50 at once in the asyncio pool, in MariaDB. The peers are the same task
without either, and one with a mark and an outbox that are written by hand. Prints tasks a second, the
time as a multiple of the plain task's, and the worker's CPU time for a task, which depends less on what
else the machine does. Then the time in which a worker publishes messages that were left.
"""

import argparse
import asyncio
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from celery import Celery
from redis import Redis
from tests.integration import once_service as service
from tests.support.once_crashes import (
    MODULE,
    Bank,
    RedisCounts,
    bank_of,
    config_of,
    redis_environment,
)
from tests.support.patience import wait_until
from tests.support.servers import RedisServer
from tests.support.workers import Worker

from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.celery._client.recording import Recording
from tomskit.sqlalchemy.database import Database
from tomskit.sqlalchemy.sessions import TaskSession

TASKS = ("cost_plain", "cost_once", "cost_both", "cost_by_hand")
ACCOUNTS = 2000


@dataclass
class Cost:
    """Seconds that pass and seconds of CPU, for all tasks of a kind."""

    wall: float
    cpu: float


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    bank: Bank, server: RedisServer, sender: Celery, count: int, rounds: int
) -> dict[str, Cost]:
    """What each kind of task costs, the best of some rounds."""
    best: dict[str, Cost] = {}
    with (
        Redis(host=server.host, port=server.port) as client,
        Worker(
            MODULE,
            pool="asyncio",
            concurrency=50,
            env={**bank.environment, **redis_environment(server)},
        ) as worker,
    ):
        redis = cast("RedisCounts", client)
        worker.wait_ready()
        for round_of in range(rounds):
            for name in TASKS:
                worker_stops = sender.control
                worker_stops.cancel_consumer("celery", reply=True)
                for number in range(count):
                    first = number * 2 % ACCOUNTS
                    sender.send_task(f"{MODULE}.{name}", (f"{name}{round_of}", first, first + 1))
                begun, used = time.perf_counter(), cpu_of(worker.pid)
                worker_stops.add_consumer("celery", reply=True)
                wait_until(
                    lambda: redis.llen("celery") + redis.hlen("unacked") == 0,
                    300,
                    f"{name} has run",
                )
                cost = Cost(time.perf_counter() - begun, cpu_of(worker.pid) - used)
                known = best.setdefault(name, cost)
                best[name] = Cost(min(cost.wall, known.wall), min(cost.cpu, known.cpu))
    return best


async def leave_messages(bank: Bank, app: AsyncCelery, count: int) -> None:
    """Commit messages as processes do that die before they can publish them."""
    database = Database()
    database.open(config_of(bank))
    try:
        async with database.scope():
            session = database.session.sync_session
            assert isinstance(session, TaskSession)
            for number in range(count):
                recording = Recording(app)
                task = app.tasks[f"{MODULE}.nobody"]
                recording.run(partial(task.apply_async, (str(number),), queue="left"))
                session.hold(recording.messages, lambda _: None, grace_ms=0)
            await database.session.commit()
    finally:
        await database.close()


def measure_relay(bank: Bank, server: RedisServer, count: int) -> float:
    """Seconds from a worker's start, when it is ready, until all that was left is published."""
    url = f"redis://{server.host}:{server.port}/0"
    app = AsyncCelery("left", config=CeleryConfig(), broker=url, set_as_current=False)
    asyncio.run(leave_messages(bank, app, count))
    with (
        Redis(host=server.host, port=server.port) as client,
        Worker(
            MODULE,
            pool="asyncio",
            concurrency=50,
            env={**bank.environment, **redis_environment(server)},
        ) as worker,
    ):
        redis = cast("RedisCounts", client)
        worker.wait_ready()
        begun = time.perf_counter()
        wait_until(lambda: redis.llen("left") >= count, 120, "all are published")
        return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.once_cost", description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--left", type=int, default=5000)
    options = parser.parse_args()
    assert service.app is not None
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        bank = stack.enter_context(bank_of("mariadb", ACCOUNTS))
        url = f"redis://{server.host}:{server.port}/0"
        sender = stack.enter_context(Celery("sender", broker=url, set_as_current=False))
        best = measure(bank, server, sender, options.tasks, options.rounds)
        plain = best["cost_plain"]
        for name, cost in best.items():
            print(
                f"{name:<14}{options.tasks / cost.wall:>8.0f} a second {cost.wall / plain.wall:>6.2f} "
                f"x plain;{1000 * cost.cpu / options.tasks:>6.2f} ms of CPU "
                f"{cost.cpu / plain.cpu:>6.2f} x plain",
                flush=True,
            )
        taken = measure_relay(bank, server, options.left)
        print(f"{options.left} messages that were left are published in {taken:.2f} s")


if __name__ == "__main__":
    main()
