"""Job: a task in the pool, from its start to what Celery is told of its end."""

import asyncio
import concurrent.futures
import gc
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Never

import pytest
from billiard.einfo import ExceptionInfo
from celery.exceptions import SoftTimeLimitExceeded, Terminated

from tests.support.jobs import Told
from tests.support.manual_clock import ClockLoop, clock_loop, is_closed
from tomskit.celery._running.guard import CLEANUP_SECONDS
from tomskit.celery._running.places import here
from tomskit.celery._running.steering import Limits
from tomskit.celery.asyncio_pool.failures import Failures
from tomskit.celery.asyncio_pool.job import CoroutineJob, PlainJob, job_of
from tomskit.resources import Resources

NO_LIMITS = Limits(None, None)
ARGS = ("work", "the id")


@pytest.fixture
def loop() -> Iterator[ClockLoop]:
    with clock_loop() as made:
        yield made


class Started:
    """A job in the loop, whose tracer is a function of no arguments."""

    def __init__(
        self,
        loop: ClockLoop,
        tracer: Callable[[], object],
        limits: Limits = NO_LIMITS,
        *,
        start: bool = True,
    ) -> None:
        self.told = Told()
        self.context = copy_context()
        self.job = CoroutineJob(
            lambda *_: tracer(),
            ARGS,
            self.told.report,
            loop=loop,
            limits=limits,
            failures=Failures(),
        )
        if start:
            self.job.start(self.context)
            loop.settle()

    @property
    def news(self) -> list[tuple[object, ...]]:
        """What Celery was told after it has accepted the task."""
        accepted, *rest = self.told.turn()
        assert accepted == ("accepted", 7)
        return rest


def run(coro: Coroutine[object, Never, object]) -> object:
    """Run a coroutine as the tracer of an async task does."""
    place = here()
    assert place is not None
    return place.run(coro, Resources([]))


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def forever() -> None:
    await asyncio.Event().wait()


# -- a coroutine


def test_what_the_tracer_returns_is_told(loop: ClockLoop) -> None:
    started = Started(loop, lambda: run(double(21)))

    assert started.news == [("returned", 42), ("ended", 7)]


def test_the_tracer_gets_the_arguments_of_celery(loop: ClockLoop) -> None:
    for args in (ARGS, (*ARGS, 3, 4, 5, 6)):
        told = Told()
        job = CoroutineJob(
            lambda *got: got, args, told.report, loop=loop, limits=NO_LIMITS, failures=Failures()
        )
        job.start(copy_context())
        loop.settle()

        assert told.turn()[1] == ("returned", args)


def test_what_the_tracer_raises_is_told(loop: ClockLoop) -> None:
    def fail() -> None:
        run(double(1))
        raise LookupError("x")

    assert Started(loop, fail).news == [("failed", "LookupError"), ("ended", 7)]


def test_a_coroutine_that_raises_is_the_tracers_to_handle(loop: ClockLoop) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("x")

    def trace() -> str:
        with pytest.raises(LookupError, match="x"):
            run(fail())
        return "handled"

    assert Started(loop, trace).news[0] == ("returned", "handled")


def test_a_coroutine_that_was_cancelled_is_an_ordinary_error(loop: ClockLoop) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    def trace() -> str:
        with pytest.raises(concurrent.futures.CancelledError):
            run(cancelled())
        return "handled"

    assert Started(loop, trace).news[0] == ("returned", "handled")


def test_celery_is_told_that_it_was_accepted_when_it_starts(loop: ClockLoop) -> None:
    started = Started(loop, lambda: run(forever()))

    assert started.told.news == [("accepted", 7)]
    started.job.terminate()
    loop.settle()


def test_coroutines_run_within_each_other(loop: ClockLoop) -> None:
    async def outer() -> object:
        return [run(double(1)), await double(2)]

    assert Started(loop, lambda: run(outer())).news[0] == ("returned", [2, 4])


def test_it_knows_its_number_and_name(loop: ClockLoop) -> None:
    job = Started(loop, lambda: None).job

    assert (job.report.pid, job.name) == (7, "work[the id]")


def test_it_is_found_by_the_context_that_its_code_runs_in(loop: ClockLoop) -> None:
    found: list[CoroutineJob | None] = []

    async def look() -> None:
        async def child() -> None:
            found.append(job_of(copy_context()))

        await asyncio.create_task(child())

    started = Started(loop, lambda: run(look()))

    assert found == [started.job]
    assert job_of(Context()) is None


# -- its limits


def test_a_soft_limit_is_raised_at_the_await_and_told(loop: ClockLoop) -> None:
    async def work() -> str:
        try:
            await forever()
        except SoftTimeLimitExceeded as exc:
            return f"caught {exc.args[0]}"
        return "not interrupted"

    started = Started(loop, lambda: run(work()), Limits(3.0, None))
    loop.advance(2.9)
    assert started.news == []
    loop.advance(0.1)

    assert started.news == [("timed out", True, 3.0), ("returned", "caught 3.0"), ("ended", 7)]


def test_a_soft_limit_that_is_not_caught_reaches_the_tracer_as_celerys(loop: ClockLoop) -> None:
    def trace() -> object:
        with pytest.raises(SoftTimeLimitExceeded) as caught:
            run(forever())
        return type(caught.value)

    started = Started(loop, trace, Limits(3.0, None))
    loop.advance(3.0)

    assert started.news[1] == ("returned", SoftTimeLimitExceeded)


def test_a_soft_limit_while_no_coroutine_runs_is_raised_in_the_next_one(loop: ClockLoop) -> None:
    go_on: asyncio.Future[None] = loop.create_future()
    coro = double(1)

    def trace() -> str:
        place = here()
        assert place is not None
        place.wait(go_on)  # such as a result that is stored: that is not interrupted
        with pytest.raises(SoftTimeLimitExceeded):
            run(coro)
        return "raised"

    started = Started(loop, trace, Limits(3.0, None))
    loop.advance(3.0)
    assert started.news == [("timed out", True, 3.0)]
    go_on.set_result(None)
    loop.settle()

    assert started.news[1] == ("returned", "raised")
    assert is_closed(coro)


def test_a_hard_limit_ends_the_task_after_its_clean_up(loop: ClockLoop) -> None:
    cleaned: list[str] = []
    traced: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            await double(1)
            cleaned.append("up")

    def trace() -> None:
        try:
            run(work())
        except Exception:
            traced.append("the tracer has seen it")
            raise

    started = Started(loop, trace, Limits(None, 7.0))
    loop.advance(7.0)

    assert started.news == [("timed out", False, 7.0), ("ended", 7)]
    assert cleaned == ["up"]
    assert traced == []  # so it stores nothing of it


def test_a_task_that_has_ended_has_no_limits(loop: ClockLoop) -> None:
    started = Started(loop, lambda: 42, Limits(3.0, 7.0))
    loop.advance(100.0)

    assert started.news == [("returned", 42), ("ended", 7)]


# -- ended


def test_terminating_it_ends_the_coroutine_and_is_told(loop: ClockLoop) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            ended.append("ended")

    started = Started(loop, lambda: run(work()))
    started.job.terminate(15)
    started.job.terminate(9)
    loop.settle()

    assert started.news == [("failed", "Terminated"), ("ended", 7)]
    [error] = started.told.errors
    assert isinstance(error, Terminated)
    assert error.args == (15,)
    assert ended == ["ended"]


def test_usr1_is_a_soft_limit_that_may_be_caught(loop: ClockLoop) -> None:
    async def work() -> str:
        try:
            await forever()
        except SoftTimeLimitExceeded as exc:
            return str(exc)
        return "not interrupted"

    started = Started(loop, lambda: run(work()))
    started.job.terminate(signal.SIGUSR1)
    loop.settle()

    assert started.news == [("returned", "SoftTimeLimitExceeded()"), ("ended", 7)]


def test_terminating_one_that_swallows_its_cancellation_is_told_all_the_same(
    loop: ClockLoop,
) -> None:
    async def work() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "swallowed"
        return "not cancelled"

    started = Started(loop, lambda: run(work()))
    started.job.terminate()
    loop.settle()

    assert started.news == [("failed", "Terminated"), ("ended", 7)]


def test_an_error_while_it_is_ended_is_logged(
    loop: ClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        try:
            await forever()
        finally:
            raise LookupError("in clean-up")

    started = Started(loop, lambda: run(work()))
    started.job.terminate()
    loop.settle()

    assert started.news[0] == ("failed", "Terminated")
    assert "work[the id] raised while it was ended" in caplog.text
    assert "in clean-up" in caplog.text


def test_one_that_does_not_end_is_abandoned(
    loop: ClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        while True:
            try:
                await forever()
            except asyncio.CancelledError:
                continue

    started = Started(loop, lambda: run(work()))
    started.job.terminate()
    loop.settle()
    assert started.news == []
    loop.advance(CLEANUP_SECONDS)

    assert started.news == [("failed", "Terminated"), ("ended", 7)]
    assert "work[the id] did not end within" in caplog.text
    assert asyncio.all_tasks(loop) == set()


def test_terminating_one_that_has_not_started_or_has_ended_does_nothing(loop: ClockLoop) -> None:
    waiting = Started(loop, lambda: 42, start=False)
    waiting.job.terminate()
    loop.settle()
    assert waiting.told.turn() == []

    started = Started(loop, lambda: 42)
    started.job.terminate()
    loop.settle()
    assert started.news == [("returned", 42), ("ended", 7)]


def test_one_that_is_terminated_before_its_first_step_never_runs(loop: ClockLoop) -> None:
    started = Started(loop, lambda: pytest.fail("it ran"), start=False)
    started.job.start(started.context)
    started.job.terminate()
    # Before the task that was made, as from another thread it might be.
    loop.settle()

    assert started.news[-1] == ("ended", 7)


def test_the_tracer_of_an_ended_task_may_not_store_and_its_clean_up_may_publish(
    loop: ClockLoop,
) -> None:
    allowed: list[object] = []

    async def work() -> None:
        place = here()
        assert place is not None
        allowed.append(place.may_store())
        try:
            await forever()
        finally:
            place.check()  # raises nothing
            allowed.append(place.may_store())

    def trace() -> None:
        place = here()
        assert place is not None
        try:
            run(work())
        finally:
            try:
                place.check()
            except BaseException as exc:
                allowed.append(type(exc).__name__)
                raise

    started = Started(loop, trace)
    started.job.terminate()
    loop.settle()

    [before, in_clean_up, in_tracer] = allowed
    assert (before, in_clean_up) == (True, False)
    assert isinstance(in_tracer, str)
    assert started.news[0] == ("failed", "Terminated")


# -- what is left of it


@pytest.mark.parametrize("fails", [True, False])
def test_a_task_that_has_ended_is_kept_by_nothing(loop: ClockLoop, fails: bool) -> None:
    class Data:
        pass

    def start() -> weakref.ref[Data]:
        data = Data()

        async def work() -> object:
            await asyncio.sleep(0)
            assert data is not None
            if fails:
                raise LookupError("x")
            return None

        def trace() -> object:
            try:
                return run(work())
            except LookupError as exc:
                # As Celery's tracer does.
                info = ExceptionInfo()
                info.exception = exc
                return ("outcome", info)

        started = Started(loop, trace, Limits(3.0, 7.0))
        assert started.news[-1] == ("ended", 7)
        return weakref.ref(data)

    gc.collect()
    gc.disable()
    try:
        left = start()
        loop.settle()
        assert left() is None
    finally:
        gc.enable()


# -- a plain function


def plain_job(told: Told, tracer: Callable[..., object], executor: ThreadPoolExecutor) -> PlainJob:
    job = PlainJob(tracer, ARGS, told.report, executor=executor)
    job.start(copy_context())
    executor.shutdown()
    return job


def test_a_plain_function_runs_in_a_thread_and_its_outcome_is_told() -> None:
    told = Told()

    plain_job(told, lambda *args: (args, threading.get_ident()), ThreadPoolExecutor(1))

    accepted, (kind, outcome), ended = told.turn()
    assert isinstance(outcome, tuple)
    assert [accepted, kind, outcome[0], ended] == [
        ("accepted", 7),
        "returned",
        ARGS,
        ("ended", 7),
    ]
    assert outcome[1] != threading.get_ident()


def test_what_a_plain_function_raises_is_told() -> None:
    told = Told()

    def fail(*_: object) -> None:
        raise LookupError("x")

    plain_job(told, fail, ThreadPoolExecutor(1))

    assert told.turn()[1:] == [("failed", "LookupError"), ("ended", 7)]


def test_a_plain_function_cannot_be_terminated(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    job = plain_job(told, lambda *_: 42, ThreadPoolExecutor(1))

    job.terminate(15)

    assert told.turn()[1] == ("returned", 42)
    assert "work[the id] cannot be terminated" in caplog.text
