"""Execution: a coroutine on an event loop, for which a thread waits."""

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import Any, Never, TypeVar

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from typing_extensions import override

from tests.support.manual_clock import is_closed
from tomskit.celery._running.context import TaskIdentity, task_id_context
from tomskit.celery._running.execution import Cancellable, Execution, as_task
from tomskit.celery._running.inbox import Inbox
from tomskit.celery._running.steering import Limits
from tomskit.errors import NotInitializedError, ProviderError
from tomskit.resources import Resources

T = TypeVar("T")

SOON = 0.01
WAIT = 30.0


class Running:
    """A loop in a thread of its own, and what executions on it need."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.inbox = Inbox(self.loop)
        self.running: set[Cancellable] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.inbox.open()
        self.loop.run_forever()

    def execute(
        self,
        coro: Coroutine[object, Never, T],
        *,
        resources: Resources | None = None,
        limits: Limits | None = None,
        identity: TaskIdentity | None = None,
    ) -> Execution[T]:
        return Execution(
            coro,
            loop=self.loop,
            inbox=self.inbox,
            resources=resources or Resources([]),
            running=self.running,
            identity=identity,
            limits=limits,
        )

    def on_loop(self, call: Callable[[], T]) -> T:
        async def run() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT)

    def stop(self) -> None:
        self.on_loop(self.inbox.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()


class Slow:
    """A provider whose scope takes until it is cancelled."""

    name = "slow"

    def __init__(self, entering: threading.Event) -> None:
        self._entering = entering

    async def startup(self) -> None:
        pass

    async def shutdown(self) -> None:
        pass

    @asynccontextmanager
    async def task_scope(self) -> AsyncGenerator[None]:
        self._entering.set()
        await forever()
        yield


class Broken(Slow):
    @override
    async def startup(self) -> None:
        raise OSError("no such host")


async def forever() -> None:
    await asyncio.Event().wait()


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_the_thread_gets_what_the_coroutine_returns(running: Running) -> None:
    assert running.execute(double(21)).run() == 42


def test_the_thread_gets_what_the_coroutine_raises(running: Running) -> None:
    async def fail() -> None:
        raise LookupError("x")

    with pytest.raises(LookupError, match="x"):
        running.execute(fail()).run()


def test_a_coroutine_that_was_cancelled_is_an_ordinary_error(running: Running) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(concurrent.futures.CancelledError):
        running.execute(cancelled()).run()


def test_the_coroutine_has_the_context_of_where_it_was_made(running: Running) -> None:
    variable: ContextVar[str] = ContextVar("variable")

    async def read() -> str:
        return variable.get()

    def make() -> Execution[str]:
        variable.set("mine")
        return running.execute(read())

    assert copy_context().run(make).run() == "mine"


def test_it_is_among_the_running_until_it_ends(running: Running) -> None:
    async def look() -> set[Cancellable]:
        return running.running.copy()

    execution = running.execute(look())

    assert execution.run() == {execution}
    assert running.running == set()


def test_once_the_inbox_is_closed_it_is_refused(running: Running) -> None:
    running.on_loop(running.inbox.close)
    try:
        with pytest.raises(NotInitializedError, match="was shut down before"):
            running.execute(double(1)).run()
    finally:
        running.inbox = Inbox(running.loop)


# -- limits


def test_a_soft_limit_interrupts_the_coroutine(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> str:
        try:
            await forever()
        except SoftTimeLimitExceeded as exc:
            return f"caught {exc.args[0]}"
        return "not interrupted"

    assert running.execute(work(), limits=Limits(SOON, None)).run() == f"caught {SOON}"
    assert f"Soft time limit ({SOON}s) exceeded for a coroutine" in caplog.text


def test_a_soft_limit_that_is_not_caught_is_raised_as_celerys(running: Running) -> None:
    with pytest.raises(SoftTimeLimitExceeded) as caught:
        running.execute(forever(), limits=Limits(SOON, None)).run()

    assert type(caught.value) is SoftTimeLimitExceeded


def test_a_hard_limit_ends_the_coroutine_after_its_clean_up(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    with pytest.raises(TimeLimitExceeded):
        running.execute(work(), limits=Limits(None, SOON)).run()

    assert cleaned == ["up"]
    assert f"Hard time limit ({SOON}s) exceeded" in caplog.text


def test_a_coroutine_cannot_swallow_a_hard_limit(running: Running) -> None:
    async def work() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "swallowed"
        return "not cancelled"

    with pytest.raises(TimeLimitExceeded):
        running.execute(work(), limits=Limits(None, SOON)).run()


@pytest.mark.parametrize("of_a_task", [False, True])
def test_a_coroutine_that_goes_on_is_abandoned(
    running: Running,
    identity: TaskIdentity,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    of_a_task: bool,
) -> None:
    identity.request.id = "the id"
    monkeypatch.setattr("tomskit.celery._running.guard.CLEANUP_SECONDS", SOON)

    async def work() -> None:
        while True:
            try:
                await forever()
            except asyncio.CancelledError:
                continue

    execution = running.execute(
        work(), limits=Limits(None, SOON), identity=identity if of_a_task else None
    )
    with pytest.raises(TimeLimitExceeded):
        execution.run()

    name = "work[the id]" if of_a_task else "a coroutine"
    assert f"{name} did not end within" in caplog.text
    assert running.running == set()
    assert execution.task is not None
    running.on_loop(lambda: None)
    assert execution.task.done()


def test_a_soft_limit_while_a_scope_is_entered_is_raised(running: Running) -> None:
    coro = forever()

    with pytest.raises(SoftTimeLimitExceeded):
        running.execute(
            coro, resources=Resources([Slow(threading.Event())]), limits=Limits(SOON, None)
        ).run()

    assert is_closed(coro)  # closed, though it never ran


# -- cancelled


def test_cancelling_cancels_the_coroutine_at_its_await(running: Running) -> None:
    waits = threading.Event()
    ended: list[str] = []

    async def work() -> None:
        waits.set()
        try:
            await forever()
        finally:
            ended.append("ended")

    execution = running.execute(work())
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        outcome = thread.submit(execution.run)
        assert waits.wait(WAIT)
        running.loop.call_soon_threadsafe(execution.cancel)
        with pytest.raises(concurrent.futures.CancelledError):
            outcome.result(WAIT)

    assert ended == ["ended"]


def test_one_that_is_cancelled_before_its_first_step_never_runs(running: Running) -> None:
    async def work() -> None:
        pytest.fail("it ran")

    execution = running.execute(work())

    def start_and_cancel() -> None:
        execution.start()
        execution.cancel()

    running.on_loop(start_and_cancel)
    with pytest.raises(concurrent.futures.CancelledError):
        execution.run()


def test_cancelling_one_that_has_not_started_or_has_ended_does_nothing(running: Running) -> None:
    execution = running.execute(double(21))

    execution.cancel()

    assert execution.run() == 42
    execution.cancel()


# -- what is left of it


@pytest.mark.parametrize("fails", [True, False])
def test_no_reference_cycle_keeps_what_a_task_has_left(running: Running, fails: bool) -> None:
    class Data:
        pass

    async def work(data: Data) -> None:
        await asyncio.sleep(0)
        if fails:
            raise LookupError(data)

    def run() -> weakref.ref[Data]:
        data = Data()
        with suppress(LookupError):
            running.execute(work(data)).run()
        return weakref.ref(data)

    gc.collect()
    gc.disable()
    try:
        left = run()
        # Twice: what the loop's thread was at when the other one went on is over by then.
        running.on_loop(lambda: None)
        running.on_loop(lambda: None)
        assert left() is None
    finally:
        gc.enable()


# -- as a task


@pytest.fixture
def identity() -> TaskIdentity:
    """A task that runs, and its request."""
    app = Celery("plain", set_as_current=False)
    found: list[TaskIdentity | None] = []

    @app.task(name="work")
    def work() -> None:
        found.append(TaskIdentity.current())

    task: Any = app.tasks["work"]
    task.apply(task_id="the id")
    app.close()
    [current] = found
    assert current is not None
    return current


def test_the_coroutine_is_the_task_that_it_is_given(
    running: Running, identity: TaskIdentity
) -> None:
    async def look() -> object:
        await asyncio.sleep(0)
        current = TaskIdentity.current()
        return None if current is None else (current.task.name, current.request is identity.request)

    assert running.execute(look(), identity=identity).run() == ("work", True)


def test_log_lines_name_the_task(
    running: Running, identity: TaskIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    identity.request.id = "the id"

    with pytest.raises(SoftTimeLimitExceeded):
        running.execute(forever(), identity=identity, limits=Limits(SOON, None)).run()

    assert "exceeded for work[the id]" in caplog.text


def test_on_a_loop_of_its_own_it_is_the_task_as_well(identity: TaskIdentity) -> None:
    identity.request.id = "the id"

    async def look() -> object:
        current = TaskIdentity.current()
        return current is not None and current.task.name, task_id_context.get()

    async def main() -> list[object]:
        found = await as_task(identity, Resources([]), look())
        return [found, TaskIdentity.current()]

    assert asyncio.run(main()) == [("work", "the id"), None]


def test_without_a_task_it_is_none() -> None:
    assert asyncio.run(as_task(None, Resources([]), double(21))) == 42


def test_a_coroutine_whose_resources_do_not_start_is_closed() -> None:
    coro = double(1)

    with pytest.raises(ProviderError):
        asyncio.run(as_task(None, Resources([Broken(threading.Event())]), coro))

    assert is_closed(coro)
