"""Clients in an event loop: how fast they send, and how long they wait for a result."""

import json
import os
import statistics
import subprocess
from contextlib import ExitStack
from typing import Final, NamedTuple

from tests.support.workers import PROJECT

from benchmarks.pools.contenders import Contender, Run, Servers
from benchmarks.pools.measure import DrainError, next_databases
from benchmarks.pools.workloads import NOOP

_PATIENCE: Final = 60.0
"""Seconds."""


class Trips(NamedTuple):
    """Times are in milliseconds."""

    sending: float
    """Tasks per second that one client sends, 200 at a time, without waiting for their results."""
    alone: float
    """Median time from sending to the result, one task after the other, with an idle worker."""
    median: float
    """Median time from sending to the result, with all tasks at once."""
    last: float
    """The 99th percentile of the times of all tasks at once."""


def trips(contender: Contender, count: int, servers: Servers) -> Trips | None:
    """Measure a contender's client; None if it has no client for event loops."""
    queue_db, results_db = next_databases()
    with ExitStack() as stack:
        run = Run(NOOP, count, servers, queue_db, results_db, stack)
        client = contender.client(run)
        if client is None:
            return None
        worker = contender.worker(run)
        worker.start()
        try:
            done = subprocess.run(
                client.command,
                check=False,
                env={**os.environ, **client.environment},
                cwd=PROJECT,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
            )
        finally:
            worker.kill()
            servers.redis.flush(queue_db, results_db)
        if done.returncode:
            msg = f"the client failed:\n{done.stderr}\nThe worker's log:\n{worker.text}"
            raise DrainError(msg)
        found = json.loads(done.stdout.splitlines()[-1])
        alone, at_once = found["alone"], found["at_once"]
        centiles = statistics.quantiles(at_once, n=100)
        return Trips(
            found["sending"],
            1000 * statistics.median(alone),
            1000 * statistics.median(at_once),
            1000 * centiles[98],
        )
