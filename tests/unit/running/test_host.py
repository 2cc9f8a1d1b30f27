"""RuntimeHost: starts, uses and stops whichever runtime an app was given."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from celery import Celery
from typing_extensions import override

from tests.support.threads import at_once, wait_until_in
from tomskit.celery import AsyncCelery, AsyncRuntime
from tomskit.celery._running.greenlets import GreenletCoroutine
from tomskit.celery._running.host import RuntimeHost
from tomskit.celery._running.places import GreenletPlace
from tomskit.errors import ProviderError
from tomskit.resources import Resources

T = TypeVar("T")


class Recorder:
    name = "recorder"

    def __init__(self, events: list[str], *, fails: bool = False) -> None:
        self.events = events
        self.fails = fails

    async def startup(self) -> None:
        if self.fails:
            raise OSError("no such host")
        self.events.append("resources started")

    async def shutdown(self) -> None:
        self.events.append("resources stopped")

    @asynccontextmanager
    async def task_scope(self) -> AsyncGenerator[None]:
        self.events.append("entered")
        yield
        self.events.append("left")


class LoopForEachCall:
    """A runtime that makes a loop for each call."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def init(self, app: Celery, /) -> None:
        self.events.append("init")

    def run(self, coro: Coroutine[Any, Any, T], /) -> T:
        return asyncio.run(coro)

    def shutdown(self) -> None:
        self.events.append("shutdown")


class OneLoop(LoopForEachCall):
    """A runtime whose loop lasts."""

    @override
    def init(self, app: Celery, /) -> None:
        super().init(app)
        self.runner = asyncio.Runner()

    @override
    def run(self, coro: Coroutine[Any, Any, T], /) -> T:
        return self.runner.run(coro)

    @override
    def shutdown(self) -> None:
        super().shutdown()
        self.runner.close()


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def plain() -> Iterator[Celery]:
    app = Celery("plain", set_as_current=False)
    yield app
    app.close()


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_resources_live_as_long_as_the_loop_of_the_runtime(
    plain: Celery, events: list[str]
) -> None:
    host = RuntimeHost(plain, OneLoop(events), Resources([Recorder(events)]))

    host.start()
    assert [host.run(double(1)), host.run(double(2))] == [2, 4]
    host.stop()

    assert events == [
        *("init", "resources started"),
        *("entered", "left", "entered", "left"),
        *("resources stopped", "shutdown"),
    ]


def test_a_runtime_without_a_lasting_loop_starts_them_within_each_call(
    plain: Celery, events: list[str]
) -> None:
    host = RuntimeHost(plain, LoopForEachCall(events), Resources([Recorder(events)]))

    host.start()
    assert host.run(double(21)) == 42
    host.stop()

    assert events == [
        "init",
        *("resources started", "entered", "left", "resources stopped"),
        "shutdown",
    ]


def test_it_starts_once(plain: Celery, events: list[str]) -> None:
    host = RuntimeHost(plain, LoopForEachCall(events), Resources([]))

    host.start()
    host.start()

    assert events == ["init"]


def test_the_first_run_starts_it(plain: Celery, events: list[str]) -> None:
    host = RuntimeHost(plain, LoopForEachCall(events), Resources([]))

    assert host.run(double(21)) == 42

    assert events == ["init"]


def test_stopping_what_was_not_started_does_nothing(plain: Celery, events: list[str]) -> None:
    RuntimeHost(plain, LoopForEachCall(events), Resources([])).stop()

    assert events == []


def test_it_can_be_started_again(plain: Celery, events: list[str]) -> None:
    host = RuntimeHost(plain, LoopForEachCall(events), Resources([]))

    host.start()
    host.stop()
    host.start()

    assert events == ["init", "shutdown", "init"]


def test_resources_that_do_not_start_are_an_error(plain: Celery, events: list[str]) -> None:
    runtime = OneLoop(events)
    host = RuntimeHost(plain, runtime, Resources([Recorder(events, fails=True)]))

    with pytest.raises(ProviderError):
        host.start()
    runtime.shutdown()


def test_async_runtime_and_its_subclasses_look_after_the_resources(
    plain: Celery, events: list[str]
) -> None:
    class Mine(AsyncRuntime):
        pass

    def uses(runtime: Any) -> bool:
        return RuntimeHost(plain, runtime, Resources([])).uses_async_runtime

    assert uses(AsyncRuntime)
    assert uses(Mine)
    assert not uses(LoopForEachCall(events))


def test_async_runtime_is_started_for_the_app_that_runs(events: list[str]) -> None:
    first = AsyncCelery("first", providers=[Recorder(events)])
    second = AsyncCelery("second", providers=[])

    first.runtime_host.run(double(1))
    assert AsyncRuntime.app() is first
    assert second.runtime_host.run(double(21)) == 42
    assert AsyncRuntime.app() is second
    second.runtime_host.stop()

    assert events == ["resources started", "entered", "left", "resources stopped"]


def test_runtime_of_another_app_goes_on_with_what_it_runs(events: list[str]) -> None:
    first = AsyncCelery("first", providers=[Recorder(events)])
    second = AsyncCelery("second", providers=[])

    async def nested() -> int:
        # In the loop's own thread, and in another one.
        here = second.runtime_host.run(double(1))
        return here + await asyncio.to_thread(second.runtime_host.run, double(2))

    assert first.runtime_host.run(nested()) == 6
    assert AsyncRuntime.app() is first
    assert events == ["resources started", "entered", "left"]


def test_another_app_does_not_take_the_place_of_a_runtime_that_is_about_to_run() -> None:
    class Interrupted(AsyncRuntime):
        """In the middle of the first run a thread runs something for another app."""

        is_first = True

        @classmethod
        @override
        def run(cls, coro: Coroutine[Any, Any, T], /) -> T:
            if cls.is_first:
                cls.is_first = False
                thread = threading.Thread(target=lambda: other.runtime_host.run(running_in()))
                thread.start()
                thread.join()
            return super().run(coro)

    async def running_in() -> object:
        return asyncio.get_running_loop()

    mine = AsyncCelery("mine", runtime=Interrupted, providers=[])
    other = AsyncCelery("other", providers=[])
    loop = mine.runtime_host.run(running_in())

    assert AsyncRuntime.app() is mine
    assert mine.runtime_host.run(running_in()) is loop


def test_threads_that_run_together_for_several_apps() -> None:
    apps = [AsyncCelery(f"of-{number}", providers=[]) for number in range(3)]

    def work(number: int) -> None:
        for times in range(50):
            app = apps[(number + times) % 3]
            assert app.runtime_host.run(double(times)) == 2 * times

    at_once(work, 8)


def test_threads_that_start_it_together_start_it_once(plain: Celery, events: list[str]) -> None:
    class Slow(LoopForEachCall):
        @override
        def init(self, app: Celery, /) -> None:
            super().init(app)
            if threading.current_thread() is first:
                second.start()
                wait_until_in(second, "start")

    host = RuntimeHost(plain, Slow(events), Resources([]))
    first, second = (threading.Thread(target=host.start) for _ in range(2))
    first.start()
    first.join()
    second.join()

    assert events == ["init"]


def test_in_a_greenlet_the_coroutine_runs_right_there(events: list[str]) -> None:
    host = RuntimeHost(
        AsyncCelery("test", providers=[]), AsyncRuntime, Resources([Recorder(events)])
    )

    async def current() -> object:
        await asyncio.sleep(0)
        return asyncio.current_task()

    async def main() -> bool:
        found: object = await GreenletCoroutine(lambda: host.run(current()), owner=GreenletPlace())
        return found is asyncio.current_task()

    assert asyncio.run(main())
    assert "entered" in events
    assert AsyncRuntime.app() is None
