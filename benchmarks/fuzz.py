"""Throw damaged messages at workers: `python -m benchmarks.fuzz --minutes 60`.

This measures no speed. Calls with random changes, 100 at a time, go to the queue of a worker. After each
batch the worker has to live, a good task has to answer, no message may be left in the queue or
unacknowledged, and no task may have run with arguments that were not sent. The time is shared among the
workers. A find is printed, with the seed that makes it again, and the next worker goes on.
"""

import argparse
import time
from random import Random

from celery import Celery
from tests.integration import hostile_service
from tests.support.deployment import close_client, redis_environment
from tests.support.fuzzing import Target, attack, mutant
from tests.support.servers import RedisServer
from tests.support.servers.redis import fresh_redis_db
from tests.support.workers import Pool, Worker

WORKERS: tuple[tuple[str, Pool, str], ...] = (
    ("asyncio pool, fast path", "asyncio", "true"),
    ("asyncio pool, kombu's transport", "asyncio", "false"),
    ("prefork, fast path", "prefork", "true"),
    ("threads, fast path", "threads", "true"),
    ("solo, fast path", "solo", "true"),
)

BATCH = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only workers whose name contains this text")
    options = parser.parse_args()
    workers = [worker for worker in WORKERS if options.only in worker[0]]
    seconds = options.minutes * 60 / len(workers)
    finds = 0
    with RedisServer() as server:
        for number, (name, pool, fast) in enumerate(workers):
            seed = options.seed + number
            count, find = fuzz(server, pool, fast, seed=seed, seconds=seconds)
            finds += find is not None
            print(f"{name:<34}{count:>10,} messages, seed {seed}: {find or 'no find'}", flush=True)
    return 1 if finds else 0


def fuzz(
    server: RedisServer, pool: Pool, fast: str, *, seed: int, seconds: float
) -> tuple[int, AssertionError | None]:
    """Attack one worker for a time.

    Returns:
        With how many messages, and what it did wrong at the last of them.
    """
    random, count, end = Random(seed), 0, time.monotonic() + seconds
    find: AssertionError | None = None
    db = fresh_redis_db(server)
    client = Celery(broker=db.broker_url, backend=db.result_url, set_as_current=False)
    environment = {
        **redis_environment("CELERY_BROKER", db, db.broker_db),
        **redis_environment("CELERY_RESULT_BACKEND", db, db.result_db),
        **redis_environment("CELERY_WORKER", db, db.result_db),
        "CELERY_REDIS_FAST_PATH": fast,
    }
    with (
        Worker(hostile_service.__name__, pool=pool, concurrency=2, env=environment) as worker,
        server.client(db.broker_db) as broker,
        server.client(db.result_db) as results,
    ):
        worker.wait_ready()
        target = Target(worker, client, broker, results)
        while time.monotonic() < end and find is None:
            try:
                attack(target, [mutant(random) for _ in range(BATCH)])
            except AssertionError as exc:
                find = exc
            count += BATCH
            worker.lines.clear()
    close_client(client)
    return count, find


if __name__ == "__main__":
    raise SystemExit(main())
