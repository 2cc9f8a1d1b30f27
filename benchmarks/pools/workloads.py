"""What the workers do, and how much of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks of one kind."""

    title: str
    task: str
    args: tuple[float, ...]
    count: int
    all_at_once: bool = False
    """Whether the worker may have all of them running, however many they are."""


NOOP = Work("no-op", "noop", (), 3_000)
SHORT = Work("sleep 0.1 s", "sleep", (0.1,), 5_000)
IGNORED = Work("no-op, results ignored", "counted", (), 5_000)
WIDE_NOOP = Work("no-op, as many at once", "noop", (), 3_000, all_at_once=True)
WIDE_SLEEP = Work("sleep 1 s, all at once", "sleep", (1.0,), 3_000, all_at_once=True)
# So many that opening the connections, 0.1 s, is a small part.
QUERY = Work("SELECT SLEEP(0.05)", "query", (), 5_000)

COMMON = (NOOP, SHORT)
PEERS = (*COMMON, IGNORED)
OURS = (WIDE_NOOP, WIDE_SLEEP, QUERY)
"""Measured against what is possible, not against peers."""

QUERY_SECONDS = 0.05
CONNECTIONS = 50
"""The size of the database pool for `QUERY`; it bounds the rate to connections / seconds."""
