"""Steered: a coroutine whose cancellation becomes another exception at its await."""

import asyncio
import concurrent.futures
import gc
import pickle
from collections.abc import Coroutine, Iterator
from typing import Any, Never, TypeVar

import pytest
from celery.app.trace import traceback_clear
from celery.exceptions import SoftTimeLimitExceeded

from tests.support.manual_clock import ClockLoop, clock_loop, is_closed
from tomskit.celery._running.guard import Guard
from tomskit.celery._running.steering import SoftTimeLimit, Steered, as_celery_error

T = TypeVar("T")


class Owner:
    """Runs a coroutine in a task under a guard, as the pools do."""

    name = "work[1]"

    def __init__(self, loop: ClockLoop, coro: Coroutine[object, Never, object]) -> None:
        self.guard = Guard(loop)
        self.steered = Steered(coro, self.guard)
        self.task = loop.create_task(_await(self.steered))
        # From Python 3.12 on the traceback of what the coroutine raises holds this frame as well.
        del self
        loop.settle()

    def cancel(self) -> None:
        self.task.cancel()

    def on_soft_limit(self, seconds: float) -> None:
        self.guard.interrupt(SoftTimeLimit(seconds), self)

    def on_hard_limit(self, seconds: float) -> None:
        self.guard.end(self)

    def on_abandoned(self) -> None:
        self.steered.give_up()
        self.cancel()


async def _await(steered: Steered[T]) -> T:
    return await steered


@pytest.fixture
def loop() -> Iterator[ClockLoop]:
    with clock_loop() as made:
        yield made


async def forever() -> None:
    await asyncio.Event().wait()


# -- without an interruption


def test_it_returns_what_the_coroutine_returns(loop: ClockLoop) -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 42

    owner = Owner(loop, work())

    assert owner.task.result() == 42
    assert owner.steered.done


def test_it_raises_what_the_coroutine_raises(loop: ClockLoop) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise LookupError("x")

    owner = Owner(loop, work())

    assert isinstance(owner.task.exception(), LookupError)
    assert owner.steered.done


def test_an_error_that_was_awaited_can_be_caught(loop: ClockLoop) -> None:
    failing: asyncio.Future[None] = loop.create_future()

    async def work() -> str:
        try:
            await failing
        except LookupError:
            return "caught"
        return "not raised"

    owner = Owner(loop, work())
    # Only a cancellation is the interruption that is pending.
    owner.guard.pending = OSError("later")
    failing.set_exception(LookupError("x"))
    loop.settle()

    assert owner.task.result() == "caught"
    assert isinstance(owner.guard.pending, OSError)


def test_a_cancellation_with_nothing_pending_is_one(loop: ClockLoop) -> None:
    owner = Owner(loop, forever())

    owner.task.cancel()
    loop.settle()

    assert owner.task.cancelled()


def test_it_is_not_done_while_it_waits(loop: ClockLoop) -> None:
    owner = Owner(loop, forever())

    assert not owner.steered.done

    owner.task.cancel()
    loop.settle()


# -- interrupted


def test_an_interruption_is_raised_at_the_await_and_may_be_caught(loop: ClockLoop) -> None:
    async def work() -> int | None:
        try:
            await forever()
        except SoftTimeLimit as exc:
            await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            # For TaskGroup and asyncio.timeout: nobody has cancelled it.
            return task.cancelling() if exc.args == (3.0,) else None
        return None

    owner = Owner(loop, work())
    owner.on_soft_limit(3.0)
    loop.settle()

    assert owner.task.result() == 0
    assert owner.guard.pending is None


def test_an_interruption_that_is_not_caught_is_the_outcome(loop: ClockLoop) -> None:
    owner = Owner(loop, forever())
    interruption = LookupError("x")

    owner.guard.interrupt(interruption, owner)
    loop.settle()

    assert owner.task.exception() is interruption


def test_an_interruption_before_the_start_waits_for_the_first_await(loop: ClockLoop) -> None:
    async def work() -> str:
        try:
            await forever()
        except SoftTimeLimit:
            return "caught"
        return "not interrupted"

    guard = Guard(loop)
    guard.pending = SoftTimeLimit(1.0)

    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return await Steered(work(), guard)

    assert loop.finish(main()) == "caught"


def test_an_interruption_reaches_the_innermost_of_nested_coroutines(loop: ClockLoop) -> None:
    caught: list[str] = []
    guard = Guard(loop)

    async def inner() -> None:
        try:
            await forever()
        except LookupError:
            caught.append("inner")
            raise

    async def outer() -> None:
        try:
            await Steered(inner(), guard)
        except LookupError:
            caught.append("outer")

    task = loop.create_task(_await(Steered(outer(), guard)))
    loop.settle()
    guard.pending = LookupError("x")
    task.cancel()
    loop.settle()

    assert caught == ["inner", "outer"]
    assert task.result() is None


def test_a_second_interruption_is_raised_while_it_handles_the_first(loop: ClockLoop) -> None:
    async def work() -> list[object]:
        caught: list[object] = []
        for _ in range(2):
            try:
                await forever()
            except SoftTimeLimit as exc:
                caught.append(exc.args[0])
        return caught

    owner = Owner(loop, work())
    owner.on_soft_limit(1.0)
    loop.settle()
    owner.on_soft_limit(2.0)
    loop.settle()

    assert owner.task.result() == [1.0, 2.0]


# -- ended


def test_who_is_ended_may_clean_up(loop: ClockLoop) -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(1.0)
            cleaned.append("up")

    owner = Owner(loop, work())
    owner.guard.end(owner)
    loop.settle()
    assert not owner.task.done()
    loop.advance(1.0)

    assert owner.task.cancelled()
    assert cleaned == ["up"]


def test_who_does_not_end_is_abandoned(
    loop: ClockLoop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tomskit.celery._running.guard.CLEANUP_SECONDS", 0.5)
    ended: list[str] = []

    async def work() -> None:
        try:
            while True:
                try:
                    await forever()
                except asyncio.CancelledError:
                    continue
        finally:
            ended.append("closed")

    owner = Owner(loop, work())
    owner.guard.end(owner)
    loop.settle()
    assert not owner.task.done()
    loop.advance(0.5)

    assert owner.task.cancelled()
    assert ended == ["closed"]
    assert owner.steered.done
    assert "work[1] did not end within 0.5s" in caplog.text


def test_who_awaits_while_it_is_given_up_is_run_no_further(
    loop: ClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            steps.append("closing")
            await asyncio.sleep(0)
            steps.append("ran on")

    owner = Owner(loop, work())
    owner.guard.given_up = True
    owner.on_abandoned()
    loop.settle()

    assert owner.task.cancelled()
    assert steps == ["closing"]
    assert "ignored GeneratorExit" in caplog.text


def test_what_wakes_one_that_was_given_up_cancels_it(loop: ClockLoop) -> None:
    awaited: asyncio.Future[None] = loop.create_future()

    async def work() -> None:
        await awaited

    owner = Owner(loop, work())
    owner.steered.give_up()
    awaited.set_result(None)
    loop.settle()

    assert owner.task.cancelled()


def test_one_that_cannot_start_is_closed_without_a_warning(loop: ClockLoop) -> None:
    coro = forever()

    Steered(coro, Guard(loop)).close()

    assert is_closed(coro)


# -- what is left of it


@pytest.mark.parametrize(
    "outcome",
    [
        "returns",
        "raises",
        "interrupted",
        "ended",
    ],
)
def test_no_reference_cycle_is_left(loop: ClockLoop, outcome: str) -> None:
    async def work() -> None:
        if outcome == "raises":
            raise LookupError("x")
        if outcome != "returns":
            await forever()

    def run() -> None:
        owner = Owner(loop, work())
        if outcome == "interrupted":
            owner.on_soft_limit(1.0)
        elif outcome == "ended":
            owner.guard.end(owner)
        loop.settle()
        assert owner.task.done()
        owner.guard.stop()
        if not owner.task.cancelled():
            owner.task.exception()
        # The traceback of what was raised below this frame has the frame.
        del owner
        loop.advance(1000.0)

    run()
    gc.collect()
    gc.disable()
    try:
        run()
        assert gc.collect() == 0
    finally:
        gc.enable()


# -- the errors that it makes


def test_a_soft_limit_is_a_cancellation_for_libraries() -> None:
    limit = SoftTimeLimit(3.0)

    assert isinstance(limit, asyncio.CancelledError)
    assert isinstance(limit, SoftTimeLimitExceeded)


def test_a_soft_limit_is_pickled_as_that_of_celery() -> None:
    copy: object = pickle.loads(pickle.dumps(SoftTimeLimit(3.0)))

    assert type(copy) is SoftTimeLimitExceeded
    assert copy.args == (3.0,)


def test_a_soft_limit_is_stored_under_celerys_name() -> None:
    found = SoftTimeLimit.__module__, SoftTimeLimit.__name__, SoftTimeLimit.__qualname__

    assert found == ("billiard.exceptions", "SoftTimeLimitExceeded", "SoftTimeLimitExceeded")


def test_celery_gets_its_own_soft_limit_with_the_traceback() -> None:
    try:
        raise SoftTimeLimit(3.0)
    except SoftTimeLimit as exc:
        error, traceback = as_celery_error(exc), exc.__traceback__

    assert type(error) is SoftTimeLimitExceeded
    assert error.args == (3.0,)
    assert error.__traceback__ is traceback


def test_celery_gets_an_ordinary_error_for_a_cancellation() -> None:
    cancellation = asyncio.CancelledError()

    error = as_celery_error(cancellation)

    assert isinstance(error, concurrent.futures.CancelledError)
    assert isinstance(error, Exception)
    assert error.__cause__ is cancellation


def test_celery_gets_any_other_error_as_it_is() -> None:
    error: Any = LookupError("x")

    assert as_celery_error(error) is error


def test_an_error_that_two_coroutines_share_does_not_end_the_one_that_goes_on(
    loop: ClockLoop,
) -> None:
    """Celery clears the frames of a task that has failed."""
    shared: asyncio.Future[None] = loop.create_future()
    more: asyncio.Future[str] = loop.create_future()

    async def catches() -> str:
        try:
            await shared
        except LookupError:
            return await more
        return "nothing was raised"

    async def raises() -> None:
        await shared

    first, second = Owner(loop, catches()), Owner(loop, raises())
    shared.set_exception(LookupError("x"))
    loop.settle()
    error = second.task.exception()
    assert error is not None
    traceback_clear(as_celery_error(error))
    more.set_result("went on")
    loop.settle()

    assert first.task.result() == "went on"
    assert error.__traceback__ is not None
