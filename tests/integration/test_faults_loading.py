"""Workers whose Redis is started again, and reads its data for seconds before it does anything else."""

from typing import Any, Final, cast

import pytest

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.faults import faults
from tests.support.patience import slowed, wait_until
from tests.support.servers import RedisServer
from tests.support.servers.redis import call, info
from tests.support.workers import Pool

KEYS: Final = round(slowed(4000))
SLOWLY: Final = [
    # Microseconds for each key, and how often it answers meanwhile: that it is LOADING.
    ("key-load-delay", "1000"),
    ("loading-process-events-interval-bytes", "1024"),
]
MANY: Final = 30


@pytest.mark.parametrize("pool", ["asyncio", "prefork", "threads"])
def test_a_broker_that_loads_its_data_is_waited_for(deployment: Deployment, pool: Pool) -> None:
    # kombu's transport loses the message that Redis gives away in the moment in which it is killed.
    with faults(deployment, pool, 4, config=SLOWLY, CELERY_REDIS_FAST_PATH="true") as place:
        if pool == "asyncio":
            place.send("watch")
        assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
        fill(place.server)
        # Each takes a while, so that most of them wait for a slot or in the queue.
        sent = [place.send("late", "ended", 0.1) for _ in range(MANY)]
        place.wait_for_count("ended", 1)

        place.server.kill()
        place.server.start()

        assert is_loading(place.server)
        place.worker.wait_for_line("LOADING|loading the dataset")
        wait_until(lambda: not is_loading(place.server), 60, "the data is loaded")
        assert all(isinstance(outcome, int) for outcome in place.outcomes(sent))
        assert place.send("add", 1, 2).get(timeout=2 * TIMEOUT) == 3
        wait_until(lambda: place.held() == 0, 60, "all messages are acknowledged")
        assert place.count("ended") >= MANY
        if pool == "asyncio":
            place.assert_no_gap()


@pytest.mark.parametrize("pool", ["asyncio", "prefork", "threads", "solo"])
def test_results_wait_for_a_store_that_loads_its_data(deployment: Deployment, pool: Pool) -> None:
    with faults(deployment, pool, 4, config=SLOWLY) as place:
        if pool == "asyncio":
            place.send("watch")
        assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
        sent = [place.send("count_when_free", "ended") for _ in range(MANY)]
        place.wait_for_count("begun", 1)
        fill(place.store)
        place.store.kill()
        place.store.start()

        assert is_loading(place.store)
        place.free()
        place.worker.wait_for_line("Cannot store a result")
        wait_until(lambda: not is_loading(place.store), 60, "the data is loaded")

        assert set(place.outcomes(sent)) == set(range(1, MANY + 1))
        place.worker.wait_for_line("The result backend is back")
        wait_until(lambda: place.held() == 0, 60, "all messages are acknowledged")
        assert place.count("ended") == MANY
        if pool == "asyncio":
            place.assert_no_gap()


def fill(server: RedisServer) -> None:
    """Give it data that it takes seconds to load."""
    with server.client(5) as client:
        pipeline: Any = cast("Any", client).pipeline(transaction=False)
        for number in range(KEYS):
            pipeline.set(f"key {number}", "x" * 100)
        pipeline.execute()
        # What is loaded from this form it reads in small portions, and answers in between.
        call(client, "BGREWRITEAOF")
        wait_until(lambda: has_rewritten(server), 30, "the data is on the disk")


def has_rewritten(server: RedisServer) -> bool:
    with server.client() as client:
        found = info(client, "persistence")
        return not found["aof_rewrite_in_progress"] and not found["aof_rewrite_scheduled"]


def is_loading(server: RedisServer) -> bool:
    with server.client() as client:
        return info(client, "persistence")["loading"] == 1
