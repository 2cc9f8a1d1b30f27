"""A worker with the asyncio pool on a network that goes silent, slows down or cuts answers."""

import signal
from collections.abc import Iterator

import pytest

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.faults import Faults, faults
from tests.support.hostile import RAW, UNREADABLE, changed
from tests.support.patience import wait_until

MANY = 20
LONG = "x" * 1_000_000


@pytest.fixture
def place(deployment: Deployment) -> Iterator[Faults]:
    with faults(deployment) as made:
        yield made


def test_a_broker_that_goes_silent_is_noticed(place: Faults) -> None:
    place.send("watch")
    running = [place.send("count", "running", 3.0) for _ in range(5)]
    wait_until(lambda: place.held() == 0, 30, "the tasks run")

    place.broker.freeze()
    sent = [place.send("count", "sent", 0.0) for _ in range(MANY)]

    assert len(place.outcomes(sent)) == MANY
    assert set(place.outcomes(running)) == {1, 2, 3, 4, 5}
    assert place.count("sent") == MANY
    place.assert_no_gap()


def test_a_broker_that_goes_silent_again_stops_no_task(place: Faults) -> None:
    place.send("watch")
    place.broker.freeze()
    sent = [place.send("count", "sent", 0.0) for _ in range(MANY)]
    assert len(place.outcomes(sent)) == MANY

    # The connection is a second old at most, in which kombu has a word with Redis of its own accord.
    place.broker.freeze()
    sent = [place.send("count", "again", 0.0) for _ in range(MANY)]

    assert len(place.outcomes(sent)) == MANY
    assert place.count("again") == MANY
    place.assert_no_gap()


def test_an_answer_that_stops_in_its_middle_stops_no_task(place: Faults) -> None:
    place.send("watch")
    running = [place.send("count", "running", 3.0) for _ in range(5)]
    wait_until(lambda: place.held() == 0, 30, "the tasks run")

    place.broker.cut_after(1_500_000)
    sent = [place.send("length", LONG) for _ in range(4)]
    wait_until(lambda: place.broker.has_cut, 30, "an answer was cut")

    place.wait_for_count("running", 5)
    assert place.outcomes(sent) == [len(LONG)] * 4
    assert set(place.outcomes(running)) == {1, 2, 3, 4, 5}
    # Those whose answer was cut came again, and none twice.
    assert place.count("lengths") == 4
    place.assert_no_gap()


def test_a_slow_network_slows_down_only_what_comes(place: Faults) -> None:
    place.send("watch")
    place.broker.slow_down(1_000_000)

    sent = [place.send("length", LONG) for _ in range(4)]

    assert place.outcomes(sent) == [len(LONG)] * 4
    assert place.count("lengths") == 4
    place.assert_no_gap()


@pytest.mark.parametrize("fault", ["freeze", "accept_silently"])
def test_a_worker_stops_while_its_broker_is_silent(place: Faults, fault: str) -> None:
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
    getattr(place.broker, fault)()
    place.broker.freeze()

    place.worker.send_signal(signal.SIGTERM)

    assert place.worker.wait(30) == 0


def test_tasks_run_on_while_a_worker_stops_whose_new_connections_are_never_answered(
    place: Faults,
) -> None:
    place.send("watch")
    running = [place.send("late_when_free", "ended") for _ in range(5)]
    place.wait_for_count("begun", len(running))
    place.broker.accept_silently()
    place.broker.freeze()

    place.worker.send_signal(signal.SIGTERM)
    place.worker.wait_for_line("Warm shutdown", 60)
    place.free()
    assert set(place.outcomes(running)) == {1, 2, 3, 4, 5}
    place.worker.wait_for_line("Lost the broker while waiting for tasks to end", 60)

    place.assert_no_gap()
    assert place.worker.wait(30) == 0


def test_messages_that_nobody_can_read_stop_no_task(place: Faults) -> None:
    place.send("watch")
    hostile = [*RAW.values(), *(changed(change).encode() for change in UNREADABLE.values())]
    with place.server.client(0) as client:
        client.lpush("celery", *hostile)

    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3

    wait_until(lambda: place.held() == 0, 30, "all messages are settled")
    assert place.worker.running
    place.assert_no_gap()


def test_connections_that_are_accepted_and_never_answered_are_given_up(place: Faults) -> None:
    place.send("watch")
    place.broker.accept_silently()
    place.broker.freeze()
    sent = [place.send("count", "sent", 0.0) for _ in range(MANY)]
    place.worker.wait_for_line("Cannot connect to redis", 60)

    place.broker.heal()

    assert len(place.outcomes(sent)) == MANY
    assert place.count("sent") == MANY
    place.assert_no_gap()
