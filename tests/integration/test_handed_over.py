"""Tasks of prefork that a process has been given and has not said yet to have begun: they run once.

Such a process is stopped here by SIGSTOP, for as long as the test needs it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.faults import SERVICE, Faults, faults
from tests.support.patience import patience, wait_until

FAST = pytest.mark.parametrize("fast", ["true", "false"])
TASKS = pytest.mark.parametrize("task", ["count", "late"])
LARGE = 1_000_000
"""Characters: more than a pipe takes."""
WAITED = "could not ensure all messages were consumed"
"""So says billiard of a process that waits for 30 s for its last message to be read."""


@contextmanager
def stopped(*processes: int) -> Generator[None]:
    """Have processes stand still."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def processes_of(place: Faults) -> list[int]:
    """The processes of the pool, when each is ready for a task."""
    inspect: Any = place.client.control.inspect(timeout=patience(2), limit=1)
    answers: dict[str, Any] = {}

    def has_answered() -> bool:
        # A worker that is ready may not have subscribed yet, and hears nothing of this question then.
        answers.update(inspect.stats() or {})
        return bool(answers)

    wait_until(has_answered, 60, "the worker answers")
    [stats] = answers.values()
    processes: list[int] = stats["pool"]["processes"]
    assert place.send("process").get(timeout=TIMEOUT) in processes
    # Its result is there before the worker hears of its end, and gives the process another task.
    wait_until(lambda: is_idle(place), 60, "the worker runs nothing")
    wait_until(lambda: place.held() == 0, 30, "it is acknowledged")
    return processes


def is_idle(place: Faults) -> bool:
    """Whether no process has a task, for all that the worker knows."""
    inspect: Any = place.client.control.inspect(timeout=patience(10), limit=1)
    replies: dict[str, list[object]] = inspect.active() or {}
    return list(replies.values()) == [[]]


def wait_until_given(place: Faults, count: int, start: int) -> None:
    """Wait until the worker has messages, and its processes have their tasks.

    Args:
        place: With the worker.
        count: How many messages.
        start: How many lines the worker had written before they were sent.
    """
    received = f"Task {SERVICE}"
    wait_until(
        lambda: (
            sum(received in one and " received" in one for one in place.worker.lines[start:])
            >= count
        ),
        60,
        f"the worker has {count} messages",
    )
    # It gives them to its processes before it answers.
    inspect: Any = place.client.control.inspect(timeout=patience(10), limit=1)
    assert len(inspect.ping() or {}) == 1


def give(place: Faults, count: int, task: str, *arguments: object) -> list[AsyncResult[object]]:
    """Send tasks, and wait until processes that are stopped have them."""
    start = len(place.worker.lines)
    sent = [place.send(task, *arguments) for _ in range(count)]
    wait_until_given(place, count, start)
    return sent


def begin_to_stop(place: Faults) -> None:
    """Tell the worker to stop, and wait until it has heard it."""
    place.worker.send_signal(signal.SIGTERM)
    place.worker.wait_for_line("Warm shutdown")


def lose_connections(place: Faults) -> None:
    """Close the connections to the broker, and wait until the worker has new ones, and three messages again."""
    start = len(place.worker.lines)
    place.broker.kill()
    place.worker.wait_for_line("3 messages that waited for a slot were returned", start=start)
    wait_until_given(place, 3, start)


@FAST
@TASKS
@pytest.mark.parametrize("losses", [1, 2])
def test_when_the_connection_is_lost(
    deployment: Deployment, fast: str, task: str, losses: int
) -> None:
    with faults(deployment, "prefork", 1, CELERY_REDIS_FAST_PATH=fast) as place:
        [process] = processes_of(place)
        with stopped(process):
            sent = give(place, 4, task, "ran", 0.0)
            for _ in range(losses):
                lose_connections(place)

        assert set(place.outcomes(sent)) == {1, 2, 3, 4}
        wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")
        assert processes_of(place) == [process]
        assert place.count("ran") == 4


@TASKS
def test_when_the_connection_is_lost_and_its_process_dies(
    deployment: Deployment, task: str
) -> None:
    """Another process runs it."""
    with faults(deployment, "prefork", 1) as place:
        [process] = processes_of(place)
        with stopped(process):
            sent = give(place, 4, task, "ran", 0.0)
            lose_connections(place)
            os.kill(process, signal.SIGKILL)

        assert set(place.outcomes(sent)) == {1, 2, 3, 4}
        wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")
        assert place.count("ran") == 4


@pytest.mark.parametrize("end", ["loss", "stop"])
def test_in_part(deployment: Deployment, end: str) -> None:
    """A pipe takes 64 KiB, and the process reads on."""
    with faults(deployment, "prefork", 1) as place:
        [process] = processes_of(place)
        with stopped(process):
            sent = give(place, 1, "length", "x" * LARGE)
            if end == "loss":
                place.broker.kill()
                place.worker.wait_for_line("Connection to broker lost")
            else:
                begin_to_stop(place)

        assert place.outcomes(sent) == [LARGE]
        if end == "loss":
            assert place.send("length", "x").get(timeout=TIMEOUT) == 1
        else:
            assert place.worker.wait() == 0
        wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")
        assert place.count("lengths") == (2 if end == "loss" else 1)


@FAST
@TASKS
def test_when_the_worker_stops(deployment: Deployment, fast: str, task: str) -> None:
    with faults(deployment, "prefork", 1, CELERY_REDIS_FAST_PATH=fast) as place:
        [process] = processes_of(place)
        with stopped(process):
            sent = give(place, 4, task, "ran", 0.0)
            begin_to_stop(place)

        assert place.worker.wait() == 0
        assert place.count("ran") + place.waiting() == place.count("ran") + place.held() == 4
        assert WAITED not in place.worker.text
        deployment.worker(
            "threads",
            4,
            module=SERVICE,
            environment={
                "CELERY_BROKER_URL": place.server.url(0),
                "CELERY_RESULT_BACKEND": place.store.url(1),
            },
        )
        assert set(place.outcomes(sent)) == {1, 2, 3, 4}
        assert place.count("ran") == 4


@FAST
def test_it_is_acknowledged_while_others_run_and_the_worker_stops(
    deployment: Deployment, fast: str
) -> None:
    """Also after the connection was lost."""
    with faults(deployment, "prefork", 2, CELERY_REDIS_FAST_PATH=fast) as place:
        first, second = processes_of(place)
        start = len(place.worker.lines)
        place.broker.kill()
        place.worker.wait_for_line("Connected to ", start=start)
        sent = [place.send("late_when_free", "ran") for _ in range(2)]
        place.wait_for_count("begun", 2)

        with stopped(first, second):
            begin_to_stop(place)
            place.free()
            os.kill(first, signal.SIGCONT)
            wait_until(lambda: place.held() == 1, 30, "the one that has ended is acknowledged")
            assert place.worker.running

        assert place.worker.wait() == 0
        assert set(place.outcomes(sent)) == {1, 2}
        assert place.held() == 0


@pytest.mark.parametrize("has_begun", [True, False])
def test_when_it_has_ended_as_the_worker_stops_which_has_not_heard_of_it(
    deployment: Deployment, has_begun: bool
) -> None:
    with faults(deployment, "prefork", 1) as place:
        [process] = processes_of(place)
        with stopped(process):
            [sent] = give(place, 1, "count_when_free", "ran")
            if has_begun:
                os.kill(process, signal.SIGCONT)
                wait_until(lambda: place.held() == 0, 30, "the worker has heard that it has begun")
            with stopped(place.worker.pid):
                os.kill(process, signal.SIGCONT)
                place.free()
                assert place.outcomes([sent]) == [1]
                # It is heard when the worker goes on, before anything that its processes have to say.
                place.worker.send_signal(signal.SIGTERM)

        assert place.worker.wait() == 0
        assert place.held() == 0
        assert WAITED not in place.worker.text


def test_when_the_pool_shrinks(deployment: Deployment) -> None:
    """A process that was given a task is as busy as one that has begun it."""
    with faults(deployment, "prefork", 2) as place:
        first, second = processes_of(place)
        with stopped(first):
            with stopped(second):
                sent = give(place, 2, "count_when_free", "ran")
            place.wait_for_count("begun", 1)
            control = cast("Any", place.client.control)
            [reply] = control.pool_shrink(1, reply=True, timeout=patience(10), limit=1)
            assert "All processes busy" in str(reply)
        place.free()

        assert set(place.outcomes(sent)) == {1, 2}
        assert processes_of(place) == [first, second]
