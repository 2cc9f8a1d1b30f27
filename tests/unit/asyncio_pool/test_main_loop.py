"""MainLoop: the worker's own loop as the one that runs coroutines."""

import asyncio
import threading

import pytest

from tests.support.recorder import Recorder
from tomskit.celery import AsyncCelery
from tomskit.celery._running.greenlets import GreenletCoroutine
from tomskit.celery._running.places import GreenletPlace
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.main_loop import MainLoop
from tomskit.errors import EventLoopError

pytestmark = pytest.mark.usefixtures("worker_place")


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def main_loop(hub: LoopHub, events: list[str]) -> MainLoop:
    main_loop = MainLoop(AsyncCelery("test", providers=[Recorder(events)]), hub)
    main_loop.start()
    return main_loop


async def current() -> tuple[object, object]:
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), asyncio.current_task()


def test_it_opens_and_closes_the_resources_and_the_loop(
    hub: LoopHub, main_loop: MainLoop, events: list[str]
) -> None:
    assert events == ["started"]

    main_loop.stop()

    assert events == ["started", "stopped"]
    assert hub.asyncio_loop.is_closed()


def test_the_worker_itself_runs_a_coroutine_on_its_loop(
    hub: LoopHub, main_loop: MainLoop, events: list[str]
) -> None:
    loop, _ = main_loop.run(current())

    assert loop is hub.asyncio_loop
    assert events == ["started", "entered", "left"]
    main_loop.stop()


def test_a_task_in_a_greenlet_runs_it_right_there(
    hub: LoopHub, main_loop: MainLoop, events: list[str]
) -> None:
    async def task() -> bool:
        found = await GreenletCoroutine(lambda: main_loop.run(current()), owner=GreenletPlace())
        return found[1] is asyncio.current_task()

    assert hub.wait(task())
    assert events == ["started", "entered", "left"]
    main_loop.stop()


def test_a_thread_runs_it_on_the_workers_loop(
    hub: LoopHub, main_loop: MainLoop, events: list[str]
) -> None:
    loop, _ = hub.run_in_thread(lambda: main_loop.run(current()))

    assert loop is hub.asyncio_loop
    assert events == ["started", "entered", "left"]
    main_loop.stop()


def test_a_coroutine_may_not_wait_for_its_own_loop(hub: LoopHub, main_loop: MainLoop) -> None:
    async def nested() -> object:
        return main_loop.run(current())

    with pytest.raises(EventLoopError):
        hub.wait(nested())
    main_loop.stop()


def test_it_owns_the_workers_thread_only(hub: LoopHub, main_loop: MainLoop) -> None:
    assert main_loop.owns_this_thread()
    assert not hub.run_in_thread(main_loop.owns_this_thread)
    assert threading.current_thread() is threading.main_thread()
    main_loop.stop()
