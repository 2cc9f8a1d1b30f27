"""A prefetch multiplier of 1, as Celery recommends for long tasks: `python -m benchmarks.prefetch`.

A worker of the asyncio pool has no more messages than slots, so that no message waits for a slot that
another worker has free. Every task that ends lets one message be fetched: a worker that waits for anything
in between stands still. The tasks are no-ops with ``acks_late``; kombu's own transport in the same pool is
the peer, in the same run.
"""

import argparse
import statistics
from typing import Final

from tests.support.servers import RedisServer
from typing_extensions import override

from benchmarks.pools.contenders import Run, Servers, TomskitWorker
from benchmarks.pools.measure import drain
from benchmarks.pools.workloads import NOOP
from benchmarks.table import Row, print_table

SLOTS: Final = (10, 100)

TARGET: Final = ">= 2"


class _Worker(TomskitWorker):
    """A worker with as many messages as slots."""

    def __init__(self, slots: int, *, fast: bool) -> None:
        super().__init__(f"{slots} slots", "asyncio", tracked=False)
        self._concurrency = slots
        self._fast = fast

    @override
    def _environment(self, run: Run) -> dict[str, str]:
        return {
            **super()._environment(run),
            "CELERY_WORKER_PREFETCH_MULTIPLIER": "1",
            "CELERY_TASK_ACKS_LATE": "true",
            "CELERY_REDIS_FAST_PATH": str(self._fast).lower(),
        }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="alternating; the median is reported")
    parser.add_argument("--scale", type=float, default=0.2, help="of the number of tasks")
    options = parser.parse_args()
    rows: list[Row] = []
    with RedisServer(config=[("databases", "1000")]) as redis:
        for slots in SLOTS:
            rates: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(options.rounds):
                for fast, measured in rates.items():
                    worker = _Worker(slots, fast=fast)
                    measured.append(drain(worker, NOOP, options.scale, Servers(redis, None)).rate)
            mine, theirs = (statistics.median(rates[fast]) for fast in (True, False))
            title = f"-c {slots}, multiplier 1: fast path / kombu's transport"
            rows.append(Row(title, mine, theirs, "1/s", mine / theirs, TARGET))
    print_table(rows)


if __name__ == "__main__":
    main()
