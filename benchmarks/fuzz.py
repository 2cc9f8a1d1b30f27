"""Throw damaged messages at workers: `python -m benchmarks.fuzz --minutes 60`.

This measures no speed. Calls with random changes, 100 at a time, go to the queue of a worker. After each
batch the worker has to live, a good task has to answer, no message may be left in the queue or
unacknowledged, and no task may have run with arguments that were not sent. The time is shared among the
workers.
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seconds = options.minutes * 60 / len(WORKERS)
    with RedisServer() as server:
        for name, pool, fast in WORKERS:
            count = fuzz(server, pool, fast, seed=options.seed, seconds=seconds)
            print(f"{name:<34}{count:>10,} messages", flush=True)


def fuzz(server: RedisServer, pool: Pool, fast: str, *, seed: int, seconds: float) -> int:
    """Attack one worker for a time.

    Returns:
        With how many messages.
    """
    random, count, end = Random(seed), 0, time.monotonic() + seconds
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
        while time.monotonic() < end:
            attack(target, [mutant(random) for _ in range(BATCH)])
            count += BATCH
            worker.lines.clear()
    close_client(client)
    return count


if __name__ == "__main__":
    main()
