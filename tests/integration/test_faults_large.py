"""Large messages on a network that is slow, or that does not let them pass, and what goes on meanwhile."""

from collections.abc import Iterator

import pytest
from celery import Celery

from tests.support.deployment import TIMEOUT, Deployment, close_client
from tests.support.faults import SERVICE, Faults, faults
from tests.support.patience import wait_until

LARGE = "x" * 300_000
DROPPED = 40_000
"""More than all that is not large."""


@pytest.fixture
def place(deployment: Deployment) -> Iterator[Faults]:
    with faults(deployment, CELERY_BROKER_SOCKET_TIMEOUT="2") as made:
        yield made


def test_messages_run_that_are_behind_one_that_does_not_arrive(place: Faults) -> None:
    place.send("watch")
    place.broker.drop_larger_than(DROPPED)
    large = place.send("length", LARGE)
    small = [place.send("count", "small", 0.0) for _ in range(20)]

    assert set(place.outcomes(small)) == set(range(1, 21))

    place.worker.wait_for_line("A message of [0-9]+ bytes has not arrived in 3 tries", 60)
    assert not large.ready()
    place.broker.heal()
    assert large.get(timeout=4 * TIMEOUT) == len(LARGE)
    assert place.count("lengths") == 1
    wait_until(lambda: place.held() == 0, 30, "all messages are settled")
    place.assert_no_gap()


def test_an_answer_that_comes_slowly_is_waited_for_however_long_it_takes(place: Faults) -> None:
    place.send("watch")
    # Each takes more than twice as long as the broker may be silent.
    place.broker.slow_down(400_000)

    sent = [place.send("length", "x" * 1_500_000) for _ in range(2)]

    assert place.outcomes(sent) == [1_500_000] * 2
    assert place.count("lengths") == 2
    assert "Connection to broker lost" not in place.worker.text
    place.assert_no_gap()


def test_an_answer_of_which_hardly_anything_comes_is_not_waited_for(place: Faults) -> None:
    place.send("watch")
    wait_until(lambda: place.held() == 0, 30, "the task runs")
    place.broker.slow_down(50)
    sent = place.send("length", LARGE)

    place.worker.wait_for_line("Connection to broker lost", 30)
    place.broker.heal()

    assert sent.get(timeout=TIMEOUT) == len(LARGE)
    assert place.count("lengths") == 1
    place.assert_no_gap()


def test_a_long_result_is_stored_and_read_on_a_slow_network(place: Faults) -> None:
    place.send("watch")
    place.results.slow_down(400_000)
    client = Celery(
        "slow",
        broker=place.server.url(0),
        backend=f"redis://{place.results.host}:{place.results.port}/1",
        set_as_current=False,
        changes={"redis_socket_timeout": 2.0},
    )

    sent = client.send_task(f"{SERVICE}.big", (1_500_000,))

    try:
        assert sent.get(timeout=2 * TIMEOUT) == "x" * 1_500_000
    finally:
        close_client(client)
    place.assert_no_gap()


def test_a_worker_that_stops_gives_back_what_does_not_arrive(place: Faults) -> None:
    place.broker.drop_larger_than(DROPPED)
    place.send("length", LARGE)
    place.worker.wait_for_line("A message of [0-9]+ bytes has not arrived in 3 tries", 60)

    assert place.worker.stop() == 0

    assert place.waiting() == 1
    assert place.held() == 1
