"""How long tests wait before they say that something will not happen, on a slow machine as well.

A test that waits ends as soon as what it waits for is there, so that a long time costs nothing but
where the test fails. What a wait is allowed is written as for a fast machine that does nothing
else, and stretched by how slow this one is, and how busy, when the run begins.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar

import pymysql
import redis

T = TypeVar("T")

_START_SECONDS: Final = 0.06
"""What it takes to start Python, with a few imports, on a fast machine that does nothing else."""

_IMPORTS: Final = "import asyncio, json"
_ATTEMPTS: Final = 3
_MOST: Final = 6.0
_MOST_SLOWED: Final = 4.0


@cache
def slowness() -> float:
    """How many times as long as on a fast, idle machine everything takes; at least 1."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    begun = time.perf_counter()
    for _ in range(_ATTEMPTS):
        subprocess.run([sys.executable, "-IS", "-c", _IMPORTS], env=environment, check=True)
    taken = (time.perf_counter() - begun) / _ATTEMPTS
    return min(max(taken / _START_SECONDS, 1.0), _MOST)


def patience(seconds: float) -> float:
    """How long to wait for what takes at most so long on a fast machine.

    Twice as long as the machine is slow when the run begins, as it may become busier meanwhile.
    """
    return 2 * seconds * slowness()


def slowed(seconds: float) -> float:
    """How long a thing is to last so that others are done meanwhile, which take their time too.

    For what always takes its whole time, unlike a wait: a pause, a countdown, a limit.
    """
    return seconds * min(slowness(), _MOST_SLOWED)


class WaitedInVainError(AssertionError):
    """What was waited for has not come."""


def wait_until(condition: Callable[[], T | None], timeout: float, what: str) -> T:
    """Call `condition` until it answers something truthy; connection errors count as "not yet".

    Args:
        condition: What is waited for.
        timeout: Seconds, on a fast machine.
        what: What is waited for, in words.
    """
    longest = patience(timeout)
    deadline = time.monotonic() + longest
    last_error: Exception | None = None
    while True:
        try:
            answer = condition()
        except (redis.RedisError, pymysql.MySQLError, OSError) as error:
            last_error = error
        else:
            if answer:
                return answer
            last_error = None
        if time.monotonic() > deadline:
            msg = f"Waited {longest:g} s in vain until {what}"
            raise WaitedInVainError(msg) from last_error
        time.sleep(0.02)
