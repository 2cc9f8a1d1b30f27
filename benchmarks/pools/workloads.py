"""The workloads: kinds of tasks, and how many of each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks of one kind."""

    title: str
    task: str
    args: tuple[float, ...]
    count: int
    all_at_once: bool = False
    """Whether the worker's concurrency is the number of tasks."""


NOOP = Work("no-op", "noop", (), 12_000)
SHORT = Work("sleep 0.1 s", "sleep", (0.1,), 12_000)
IGNORED = Work("no-op, results ignored", "counted", (), 12_000)
WIDE_NOOP = Work("no-op, as many at once", "noop", (), 3_000, all_at_once=True)
WIDE_SLEEP = Work("sleep 1 s, all at once", "sleep", (1.0,), 3_000, all_at_once=True)
# Enough tasks to make the time for opening the connections, 0.1 s, a small part.
QUERY = Work("SELECT SLEEP(0.05)", "query", (), 5_000)

COMMON = (NOOP, SHORT)
PEERS = (*COMMON, IGNORED)
OURS = (WIDE_NOOP, WIDE_SLEEP, QUERY)
"""Compared with the theoretical maximum, not with peers."""

QUERY_SECONDS = 0.05
CONNECTIONS = 50
"""The size of the database pool for `QUERY`; it limits the rate to connections / seconds."""
