"""EventLoop: an event loop with an app's resources, on which other threads run coroutines."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Never, cast

import pytest
from celery import Celery
from typing_extensions import override

from tests.support.manual_clock import is_closed
from tomskit.celery import AsyncCelery
from tomskit.celery._running.event_loop import EventLoop, discard, resources_of
from tomskit.errors import EventLoopError, NotACoroutineFunctionError, NotInitializedError

WAIT = 30.0


class Recorder:
    """A provider that notes what happens to it."""

    name = "recorder"

    def __init__(self, events: list[str]) -> None:
        self.events = events

    async def startup(self) -> None:
        self.events.append("started")

    async def shutdown(self) -> None:
        self.events.append("stopped")

    def task_scope(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()


class Threaded(EventLoop):
    """One that runs in a thread of its own."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app, asyncio.new_event_loop())
        self.inbox.open()
        self._released = False
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.resources.start(), self.loop).result(WAIT)

    @override
    def owns_this_thread(self) -> bool:
        return threading.current_thread() is self._thread

    @override
    def stop(self) -> None:
        self.release_now()
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()

    def release_now(self) -> None:
        if not self._released:
            self._released = True
            asyncio.run_coroutine_threadsafe(self.release(), self.loop).result(WAIT)


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def event_loop(events: list[str]) -> Iterator[Threaded]:
    made = Threaded(AsyncCelery("test", providers=[Recorder(events)]))
    yield made
    made.stop()


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def forever() -> None:
    await asyncio.Event().wait()


def test_another_thread_runs_a_coroutine_on_the_loop(event_loop: Threaded) -> None:
    async def look() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert event_loop.run(look()) is event_loop.loop


def test_what_is_no_coroutine_is_refused(event_loop: Threaded) -> None:
    function = cast("Coroutine[object, Never, int]", double)

    with pytest.raises(NotACoroutineFunctionError, match=r"not function.*call the async function"):
        event_loop.run(function)


def test_the_loops_own_thread_may_not_wait_for_it(event_loop: Threaded) -> None:
    inner = double(1)

    async def nested() -> int:
        return event_loop.run(inner)

    with pytest.raises(EventLoopError, match="await the coroutine itself"):
        event_loop.run(nested())
    assert is_closed(inner)  # closed, so that Python does not warn


def test_another_loops_thread_may_wait_for_it(event_loop: Threaded) -> None:
    async def elsewhere() -> int:
        return event_loop.run(double(21))

    assert asyncio.run(elsewhere()) == 42


def test_stopping_cancels_what_runs_and_lets_it_clean_up(
    event_loop: Threaded, events: list[str]
) -> None:
    waits = threading.Event()

    async def work() -> None:
        waits.set()
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            events.append("cleaned up")

    def run() -> None:
        with pytest.raises(BaseException, match="cancelled"):
            event_loop.run(work())
        events.append("raised")

    thread = threading.Thread(target=run)
    thread.start()
    assert waits.wait(WAIT)
    event_loop.stop()
    thread.join()

    assert events[:2] == ["started", "cleaned up"]
    assert sorted(events[2:]) == ["raised", "stopped"]


def test_stopping_ends_what_tasks_have_left_in_the_background(
    event_loop: Threaded, events: list[str]
) -> None:
    kept: list[asyncio.Task[None]] = []

    async def background() -> None:
        try:
            await forever()
        finally:
            events.append("ended")

    async def leave_behind() -> None:
        kept.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    event_loop.run(leave_behind())
    event_loop.stop()

    assert events == ["started", "ended", "stopped"]
    assert kept[0].cancelled()


def test_stopping_does_not_wait_for_ever(
    event_loop: Threaded, events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tomskit.celery._running.event_loop.CLEANUP_SECONDS", 0.01)
    stop = threading.Event()
    kept: list[asyncio.Task[None]] = []

    async def stubborn() -> None:
        while not stop.is_set():
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                continue

    async def leave_behind() -> None:
        kept.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)

    event_loop.run(leave_behind())
    event_loop.release_now()

    assert events == ["started", "stopped"]
    assert not kept[0].done()
    stop.set()
    asyncio.run_coroutine_threadsafe(asyncio.wait(kept), event_loop.loop).result(WAIT)


def test_stopping_closes_asynchronous_generators(event_loop: Threaded, events: list[str]) -> None:
    async def numbers() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            events.append("closed")

    kept = numbers()

    async def begin() -> int:
        return await anext(kept)

    event_loop.run(begin())
    event_loop.stop()

    assert events == ["started", "stopped", "closed"]


def test_a_run_after_the_stop_is_refused(event_loop: Threaded) -> None:
    event_loop.stop()

    with pytest.raises(NotInitializedError):
        event_loop.run(double(1))


def test_an_app_of_ours_has_its_own_resources() -> None:
    app = AsyncCelery("test", providers=[Recorder([])])

    assert resources_of(app) is app.resources
    assert "recorder" in [provider.name for provider in resources_of(app).providers]


def test_a_plain_app_has_those_that_the_environment_configures() -> None:
    app = Celery("plain", set_as_current=False)

    resources = resources_of(app)

    assert [provider.name for provider in resources.providers] == ["database", "redis"]


def test_discarding_closes_a_coroutine() -> None:
    coro = double(1)

    discard(coro)

    assert is_closed(coro)


def test_discarding_what_cannot_be_closed_does_nothing() -> None:
    discard(cast("Coroutine[object, Never, object]", object()))
