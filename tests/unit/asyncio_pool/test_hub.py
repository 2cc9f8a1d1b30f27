"""LoopHub: kombu's event loop, waiting through an asyncio loop."""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import cast

import pytest
from kombu.asynchronous import get_event_loop, set_event_loop

from tomskit.celery._running.places import Place
from tomskit.celery.asyncio_pool.hub import LoopHub

LONG = 3600.0
"""Seconds. A turn that is not ended by what the test does fails by the limit of the test."""


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def fail() -> None:
    await asyncio.sleep(0)
    raise LookupError("x")


def in_loop(hub: LoopHub, function: Callable[[], object]) -> list[object]:
    """What a function returns in the asyncio loop, while the worker waits for its turn to end."""
    found: list[object] = []
    hub.asyncio_loop.call_soon(lambda: found.append(function()))
    hub.turn(0)
    return found


def in_thread(function: Callable[[], object]) -> object:
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


# -- turns


def test_a_turn_of_no_time_runs_what_is_ready(hub: LoopHub) -> None:
    assert in_loop(hub, lambda: "ran") == ["ran"]


def test_a_turn_ends_when_its_time_is_over(hub: LoopHub) -> None:
    hub.turn(0.001)


def test_a_turn_ends_when_something_happens_for_the_worker(
    hub: LoopHub, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    hub.add_reader(reading, lambda: None)

    hub.asyncio_loop.call_soon(os.write, writing, b"x")
    hub.turn(LONG)


def test_the_worker_is_called_for_what_it_waits_for(hub: LoopHub, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    got: list[bytes] = []
    hub.add_reader(reading, lambda: got.append(os.read(reading, 1)))

    hub.asyncio_loop.call_later(0.001, os.write, writing, b"x")
    while not got:
        hub.run_once()

    assert got == [b"x"]


def test_a_coroutine_may_give_the_worker_its_turn(hub: LoopHub) -> None:
    hub.asyncio_loop.call_later(0.001, hub.wake)

    hub.turn(LONG)


def test_waking_it_while_it_works_does_not_end_the_next_turn(hub: LoopHub) -> None:
    ended: list[str] = []

    hub.wake()
    hub.asyncio_loop.call_later(0.001, ended.append, "ran")
    hub.asyncio_loop.call_later(0.002, hub.wake)
    hub.turn(LONG)

    assert ended == ["ran"]


def test_what_a_coroutine_has_called_soon_gives_the_worker_its_turn(hub: LoopHub) -> None:
    called: list[str] = []

    hub.asyncio_loop.call_later(0.001, lambda: hub.call_soon(called.append, "in the turn"))
    hub.turn(LONG)
    assert called == []
    hub.run_once()

    assert called == ["in the turn"]


def test_a_signal_is_handled_where_the_worker_waits(hub: LoopHub) -> None:
    running: list[bool] = []

    hub.asyncio_loop.call_later(
        0.001, hub.call_in_turn, lambda: running.append(hub.asyncio_loop.is_running())
    )
    hub.turn(LONG)

    assert running == [False]


def test_a_signal_is_handled_while_the_worker_waits_for_something_else(hub: LoopHub) -> None:
    handled = asyncio.Event()

    hub.asyncio_loop.call_soon(hub.call_in_turn, handled.set)
    hub.wait(handled.wait())


def test_a_thread_that_polls_does_not_run_the_asyncio_loop(
    hub: LoopHub, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    hub.add_reader(reading, lambda: None)
    os.write(writing, b"x")
    ran: list[str] = []
    hub.asyncio_loop.call_soon(ran.append, "ran")

    events = cast("list[tuple[int, int]]", in_thread(lambda: hub.poller.poll(0)))

    assert [fd for fd, _ in events] == [reading]
    assert ran == []


# -- waiting


def test_waiting_gives_the_result(hub: LoopHub) -> None:
    assert hub.wait(double(21)) == 42


def test_waiting_raises_the_error(hub: LoopHub) -> None:
    with pytest.raises(LookupError):
        hub.wait(fail())


def test_waiting_goes_on_when_something_happens_for_the_worker(
    hub: LoopHub, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    got: list[str] = []
    hub.add_reader(reading, lambda: got.append("called"))
    hub.turn(0)
    os.write(writing, b"x")

    async def work() -> str:
        for _ in range(5):
            await asyncio.sleep(0.001)
        return "done"

    assert hub.wait(work()) == "done"
    assert got == []
    # It is looked at in the next turn.
    hub.turn(LONG)
    hub.run_once()
    assert got[:1] == ["called"]


def test_waiting_for_a_thread_runs_the_loop_and_raises_nothing(hub: LoopHub) -> None:
    failing: concurrent.futures.Future[None] = concurrent.futures.Future()
    in_the_loop = threading.Event()
    hub.asyncio_loop.call_later(0.001, in_the_loop.set)

    def work() -> None:
        in_the_loop.wait()
        failing.set_exception(LookupError("x"))

    thread = threading.Thread(target=work)
    thread.start()
    hub.wait_for_thread(failing)
    thread.join()

    assert isinstance(failing.exception(), LookupError)


def test_waiting_for_a_thread_that_has_ended_returns(hub: LoopHub) -> None:
    done: concurrent.futures.Future[int] = concurrent.futures.Future()
    done.set_result(1)

    hub.wait_for_thread(done)


def test_a_function_that_blocks_runs_in_a_thread_in_this_context(hub: LoopHub) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("mine")

    ident, value = hub.run_in_thread(lambda: (threading.get_ident(), variable.get()))

    assert ident != threading.get_ident()
    assert value == "mine"


def test_what_a_function_in_a_thread_raises_is_raised(hub: LoopHub) -> None:
    def raise_error() -> None:
        raise LookupError("x")

    with pytest.raises(LookupError):
        hub.run_in_thread(raise_error)


def test_waiting_until_something_can_be_read(hub: LoopHub, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    hub.asyncio_loop.call_later(0.001, os.write, writing, b"x")

    assert hub.wait_for_socket(reading, seconds=None)

    assert os.read(reading, 1) == b"x"
    assert not hub.asyncio_loop.remove_reader(reading)  # it watches no longer


def test_waiting_until_something_can_be_written(hub: LoopHub, pipe: tuple[int, int]) -> None:
    _, writing = pipe

    assert hub.wait_for_socket(writing, seconds=None, write=True)

    assert not hub.asyncio_loop.remove_writer(writing)


def test_waiting_for_a_socket_has_an_end(hub: LoopHub, pipe: tuple[int, int]) -> None:
    reading, _ = pipe
    turns: list[int] = []
    hub.asyncio_loop.call_later(0.001, turns.append, 1)

    assert not hub.wait_for_socket(reading, seconds=0.05)

    assert turns == [1]
    assert not hub.asyncio_loop.remove_reader(reading)


# -- places


def test_the_workers_own_code_has_a_place(hub: LoopHub) -> None:
    place = hub.place()

    assert isinstance(place, Place)
    assert place.wait(double(21)) == 42
    assert place.wait_to_the_end(asyncio.ensure_future(double(1), loop=hub.asyncio_loop)) == 2


def test_storing_is_not_waited_for_in_the_workers_own_code(hub: LoopHub) -> None:
    place = hub.place()

    assert place is not None
    assert not place.waits_for_stores


def test_a_coroutine_has_none(hub: LoopHub) -> None:
    assert in_loop(hub, hub.place) == [None]
    assert in_loop(hub, hub.can_turn) == [False]


def test_another_thread_has_none(hub: LoopHub) -> None:
    assert in_thread(hub.place) is None
    assert not in_thread(hub.owns_this_thread)
    assert hub.owns_this_thread()


# -- its life


def test_it_can_be_reset_and_goes_on(hub: LoopHub, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    hub.turn(0)

    hub.reset()
    got: list[str] = []
    hub.add_reader(reading, lambda: got.append("called"))
    os.write(writing, b"x")
    hub.turn(LONG)
    hub.run_once()

    assert got[:1] == ["called"]


def test_connections_find_it_after_it_was_reset(hub: LoopHub) -> None:
    set_event_loop(hub)

    hub.reset()
    found = get_event_loop()
    hub.close()

    assert found is hub
    assert get_event_loop() is None


def test_one_that_is_not_the_current_one_does_not_become_it(hub: LoopHub) -> None:
    set_event_loop(None)

    hub.reset()

    assert get_event_loop() is None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_closing_it_leaves_no_descriptor_open() -> None:
    def descriptors() -> set[str]:
        return {path.name for path in Path("/proc/self/fd").iterdir() if path.exists()}

    before = descriptors()
    hub = LoopHub()
    hub.turn(0)
    assert descriptors() > before

    hub.close()
    hub.close()
    hub.asyncio_loop.close()

    assert descriptors() == before


def test_a_turn_that_is_to_begin_soon_does_not_wait(hub: LoopHub) -> None:
    hub.begin_turn_soon()

    hub.turn(LONG)


def test_a_turn_after_a_timer_has_fired_does_not_wait(hub: LoopHub) -> None:
    fired: list[str] = []
    hub.timer.call_after(0, fired.append, ("timer",))

    hub.fire_timers()
    hub.turn(LONG)

    assert fired == ["timer"]


def test_only_the_next_turn_begins_soon(hub: LoopHub) -> None:
    hub.begin_turn_soon()
    hub.turn(LONG)

    assert in_loop(hub, lambda: "ran in a turn that waits") == ["ran in a turn that waits"]


# -- forks


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_own_the_loop(hub: LoopHub) -> None:
    assert hub.owns_this_thread()

    child = os.fork()
    if child == 0:
        os._exit(int(hub.owns_this_thread() or hub.can_turn()))

    assert os.waitpid(child, 0)[1] == 0
