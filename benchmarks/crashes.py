"""Count the tasks that are lost when workers are killed: `python -m benchmarks.crashes`.

This measures no speed. 10,000 tasks with ``acks_late`` are sent, and 60 workers are killed, one after
the other, at random moments. Each task has to run at least once. kombu's own transport is the peer.
"""

import argparse

from tests.support.crashes import Crashes, crash
from tests.support.servers import RedisServer
from tests.support.workers import Pool

ROWS: tuple[tuple[str, Pool, bool], ...] = (
    ("kombu's transport, solo", "solo", False),
    ("fast path, solo", "solo", True),
    ("kombu's transport, asyncio pool", "asyncio", False),
    ("fast path, asyncio pool", "asyncio", True),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only rows whose name contains this text")
    options = parser.parse_args()
    print(f"{options.tasks:,} tasks with acks_late, {options.kills} workers killed")
    print(f"{'':<34}{'lost':>8}{'run again':>12}{'left':>8}")
    for name, pool, fast in ROWS:
        if options.only not in name:
            continue
        with RedisServer() as server:
            outcome = crash(
                server,
                Crashes(options.tasks, options.kills, pool=pool, fast=fast, seed=options.seed),
            )
        print(f"{name:<34}{outcome.lost:>8}{outcome.again:>12}{outcome.left:>8}", flush=True)


if __name__ == "__main__":
    main()
