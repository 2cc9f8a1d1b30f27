"""Guard: what interrupts the coroutine of a task, ends it, or abandons it."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator

import pytest

from tests.support.manual_clock import ClockLoop, clock_loop
from tomskit.celery._running.guard import CLEANUP_SECONDS, Guard
from tomskit.celery._running.steering import Limits

LIMITS = Limits(soft=3.0, hard=7.0)


class Owner:
    """Notes what it is told."""

    name = "work[1]"

    def __init__(self) -> None:
        self.told: list[object] = []

    def cancel(self) -> None:
        self.told.append("cancel")

    def on_soft_limit(self, seconds: float) -> None:
        self.told.append(("soft", seconds))

    def on_hard_limit(self, seconds: float) -> None:
        self.told.append(("hard", seconds))

    def on_abandoned(self) -> None:
        self.told.append("abandoned")


@pytest.fixture
def loop() -> Iterator[ClockLoop]:
    with clock_loop() as made:
        yield made


@pytest.fixture
def guard(loop: ClockLoop) -> Guard:
    return Guard(loop)


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_limits_are_told_when_they_have_passed(loop: ClockLoop, guard: Guard, owner: Owner) -> None:
    guard.enforce(LIMITS, owner)

    loop.advance(2.9)
    assert owner.told == []
    loop.advance(0.1)
    assert owner.told == [("soft", 3.0)]
    loop.advance(4.0)
    assert owner.told == [("soft", 3.0), ("hard", 7.0)]


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Limits(None, None), []),
        (Limits(1.0, None), [("soft", 1.0)]),
        (Limits(None, 1.0), [("hard", 1.0)]),
    ],
)
def test_a_limit_that_is_not_set_is_not_enforced(
    loop: ClockLoop, guard: Guard, owner: Owner, limits: Limits, told: list[object]
) -> None:
    guard.enforce(limits, owner)

    loop.advance(1000.0)

    assert owner.told == told


def test_nothing_is_enforced_after_the_task_has_ended(
    loop: ClockLoop, guard: Guard, owner: Owner
) -> None:
    guard.enforce(LIMITS, owner)
    guard.end(owner)
    owner.told.clear()

    guard.stop()
    guard.stop()
    loop.advance(1000.0)

    assert owner.told == []
    assert not guard.given_up


def test_interrupting_cancels_at_the_await_with_the_exception_pending(
    guard: Guard, owner: Owner
) -> None:
    interruption = LookupError("x")

    guard.interrupt(interruption, owner)

    assert owner.told == ["cancel"]
    assert guard.pending is interruption
    assert not guard.ended


def test_what_is_pending_is_taken_once(guard: Guard, owner: Owner) -> None:
    interruption = LookupError("x")
    guard.interrupt(interruption, owner)

    assert guard.take_pending() is interruption
    assert guard.take_pending() is None


def test_ending_cancels_once_and_takes_back_an_interruption(guard: Guard, owner: Owner) -> None:
    guard.interrupt(LookupError("x"), owner)
    owner.told.clear()

    guard.end(owner)
    guard.end(owner)

    assert owner.told == ["cancel"]
    assert (guard.ended, guard.pending) == (True, None)


def test_who_does_not_end_in_time_is_abandoned(
    loop: ClockLoop, guard: Guard, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    guard.end(owner)

    loop.advance(CLEANUP_SECONDS - 0.1)
    assert [owner.told, guard.given_up] == [["cancel"], False]
    loop.advance(0.1)

    assert owner.told == ["cancel", "abandoned"]
    assert guard.given_up
    [record] = caplog.records
    assert record.levelno == logging.CRITICAL
    assert record.getMessage() == (
        "work[1] did not end within 5.0s of its cancellation and is abandoned"
    )


def test_an_interruption_that_arrived_as_a_cancellation_is_what_was_raised(
    guard: Guard, owner: Owner
) -> None:
    interruption = LookupError("x")
    guard.interrupt(interruption, owner)

    assert guard.raised(asyncio.CancelledError()) is interruption
    assert guard.pending is None


def test_another_error_is_what_was_raised(guard: Guard, owner: Owner) -> None:
    other, cancellation = OSError("x"), asyncio.CancelledError()

    assert guard.raised(cancellation) is cancellation
    guard.interrupt(LookupError("x"), owner)
    assert guard.raised(other) is other
    assert guard.pending is not None


def test_a_guard_that_was_stopped_keeps_no_owner(loop: ClockLoop) -> None:
    class Task(Owner):
        def __init__(self) -> None:
            super().__init__()
            self.guard = Guard(loop)
            self.guard.enforce(LIMITS, self)
            self.guard.end(self)

    task = Task()
    gone = weakref.ref(task)
    gc.collect()
    gc.disable()
    try:
        task.guard.stop()
        # The loop drops timers that were cancelled when they are due.
        loop.advance(1000.0)
        del task
        assert gone() is None
    finally:
        gc.enable()
