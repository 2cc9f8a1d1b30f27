"""A worker with the asyncio pool whose Redis is emptied, with and without losing its connections."""

from collections.abc import Iterator

import pytest

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.faults import Faults, faults
from tests.support.patience import wait_until

SLOTS = 20


@pytest.fixture
def place(deployment: Deployment) -> Iterator[Faults]:
    with faults(deployment, slots=SLOTS) as made:
        yield made


def fill_slots(place: Faults) -> None:
    """Run a task in each slot, and have one wait for each; none of them has ended."""
    for _ in range(2 * SLOTS):
        place.send("count_when_free", "ended")
    wait_until(lambda: place.waiting() == 0, 30, "the worker has all messages")
    wait_until(lambda: place.count("begun") == SLOTS, 30, "the tasks run")


def test_tasks_go_on_after_flushall(place: Faults) -> None:
    place.send("watch")
    running = [place.send("late_when_free", "ended") for _ in range(SLOTS - 1)]
    wait_until(lambda: place.count("begun") == SLOTS - 1, 30, "the tasks run")

    place.server.flush()
    place.store.flush()
    place.free()

    place.wait_for_count("ended", SLOTS - 1)
    assert len(set(place.outcomes(running))) == SLOTS - 1
    sent = [place.send("late", "later", 0.0) for _ in range(3 * SLOTS)]
    assert set(place.outcomes(sent)) == set(range(1, 3 * SLOTS + 1))
    wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")
    place.assert_no_gap()


def test_the_log_says_how_many_messages_are_gone(place: Faults) -> None:
    """Of those that wait for a slot, when the connection is lost and the broker knows them no more."""
    fill_slots(place)

    place.broker.refuse()
    place.server.flush()
    place.broker.heal()

    place.worker.wait_for_line(rf"\b{SLOTS} messages that waited for a slot are gone", 60)
    place.free()
    place.wait_for_count("ended", SLOTS)
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
    assert place.count("ended") == SLOTS


def test_the_log_says_how_many_messages_are_delivered_again(place: Faults) -> None:
    fill_slots(place)

    place.broker.kill()

    place.worker.wait_for_line(rf"\b{SLOTS} messages that waited for a slot were returned", 60)
    place.free()
    place.wait_for_count("ended", 2 * SLOTS)
    assert "are gone" not in place.worker.text
