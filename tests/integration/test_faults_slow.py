"""Answers of the broker that come slowly, or byte by byte, under each pool: what a worker does meanwhile."""

import signal
from typing import Any, cast

import pytest

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.faults import Faults, faults
from tests.support.patience import wait_until
from tests.support.workers import Pool

POOLS: tuple[Pool, ...] = ("asyncio", "prefork", "threads", "solo")
LONG = "x" * 1_000_000
DRIP = 1
"""Bytes a second; the proxy forwards a byte each 20 ms at least. That is less than a kilobyte in any time-out here."""
SLOW = 25_000
"""Bytes a second, which is no silence. A long message takes most of a minute."""


def begin_answer(place: Faults, rate: int, running: int = 0) -> None:
    """Have a long message on its way to the worker, in which so many tasks run."""
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
    # A result is there before its message is acknowledged.
    wait_until(lambda: place.held() == running, 20, "what has ended is acknowledged")
    place.broker.slow_down(rate)
    place.send("length", LONG)
    # Redis has given it away, and it has not arrived.
    wait_until(lambda: place.waiting() == 0, 30, "its answer is on its way")
    assert place.held() == running + 1


def ping(place: Faults) -> object:
    control: Any = place.client.control
    return cast("object", control.ping(timeout=1.0))


@pytest.mark.parametrize(
    ("pool", "fast"), [*((pool, "true") for pool in POOLS), ("prefork", "false")]
)
def test_an_answer_of_which_hardly_anything_comes_is_silence(
    deployment: Deployment, pool: Pool, fast: str
) -> None:
    with faults(deployment, pool, 4, CELERY_REDIS_FAST_PATH=fast) as place:
        assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
        place.broker.slow_down(DRIP)
        sent = place.send("length", LONG)
        # New connections are answered as slowly.
        place.worker.wait_for_line("Connection to broker lost", 60)

        place.broker.heal()

        assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
        if fast == "true":
            # With BRPOP, Redis has forgotten it.
            assert place.outcomes([sent]) == [len(LONG)]


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_answers_and_acknowledges_while_a_long_answer_comes(
    deployment: Deployment, pool: Pool
) -> None:
    with faults(deployment, pool, 4, CELERY_REDIS_FAST_PATH="true") as place:
        running = 0 if pool == "solo" else 2
        for _ in range(running):
            place.send("late_when_free", "ended")
        place.wait_for_count("begun", running)
        begin_answer(place, SLOW, running)

        wait_until(lambda: bool(ping(place)), 20, "it answers")
        assert place.held() == running + 1
        place.free()
        wait_until(lambda: place.held() == 1, 20, "what has ended is acknowledged")

        assert place.count("lengths") == 0
        place.broker.heal()
        place.wait_for_count("lengths", 1)


@pytest.mark.parametrize(
    ("pool", "rate"), [*((pool, SLOW) for pool in POOLS), ("prefork", DRIP), ("solo", DRIP)]
)
def test_a_worker_stops_while_a_long_answer_comes(
    deployment: Deployment, pool: Pool, rate: int
) -> None:
    with faults(deployment, pool, 4, CELERY_REDIS_FAST_PATH="true") as place:
        begin_answer(place, rate)

        place.worker.send_signal(signal.SIGTERM)

        assert place.worker.wait(30) == 0
        # Its message is for the next worker.
        assert place.held() == 1
        if rate == SLOW:
            assert place.waiting() == 1
        assert place.count("lengths") == 0
