"""When an interruption reaches the code of a task."""

import threading

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from tomskit.celery._running.gate import Gate


def interrupt() -> None:
    raise SoftTimeLimitExceeded


@pytest.fixture
def gate() -> Gate:
    made = Gate()
    made.tasks.add("task")
    made.guard(interrupt)
    return made


def test_an_interruption_before_the_code_of_a_task_is_raised_when_that_begins(gate: Gate) -> None:
    gate.begin("task")
    gate.on_signal()

    with pytest.raises(SoftTimeLimitExceeded):
        gate.open()
    gate.open()


def test_an_interruption_while_the_code_of_a_task_runs_is_raised(gate: Gate) -> None:
    gate.begin("task")
    gate.open()

    with pytest.raises(SoftTimeLimitExceeded):
        gate.on_signal()


def test_an_interruption_after_the_code_of_a_task_is_dropped(gate: Gate) -> None:
    gate.begin("task")
    closed = gate.closed()
    assert closed is not None
    gate.open()
    gate.state = closed

    gate.on_signal()
    gate.open()


def test_an_interruption_of_an_earlier_task_is_dropped(gate: Gate) -> None:
    gate.begin("task")
    gate.on_signal()
    gate.begin("task")

    gate.open()


def test_the_body_follows_a_hook_that_comes_first(gate: Gate) -> None:
    gate.begin("task")

    assert gate.closed(for_good=False) == "before"


def test_code_that_is_called_by_the_code_of_a_task_closes_nothing(gate: Gate) -> None:
    gate.begin("task")
    gate.open()

    assert gate.closed() == gate.closed(for_good=False) == "open"


def test_a_task_that_opens_no_gate_is_interrupted_whenever_that_is(gate: Gate) -> None:
    gate.begin("another")

    with pytest.raises(SoftTimeLimitExceeded):
        gate.on_signal()


def test_other_threads_close_nothing(gate: Gate) -> None:
    gate.begin("task")
    closed: list[object] = []
    thread = threading.Thread(target=lambda: closed.append(gate.closed()))
    thread.start()
    thread.join()

    assert closed == [None]
    assert Gate().closed() is None
