"""Inbox: work that other threads hand to an event loop."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from typing_extensions import override

from tomskit.celery._running.inbox import Inbox

T = TypeVar("T")


@pytest.fixture(params=["eventfd", "call_soon_threadsafe"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both of how an inbox wakes its loop: not every system has an eventfd."""
    way: str = request.param
    if way == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    monkeypatch.setattr("tomskit.celery._running.inbox._HAS_EVENTFD", way == "eventfd")
    return way


class Note:
    """Work that notes its name and its thread."""

    def __init__(self, started: list[tuple[object, int]], name: object = None) -> None:
        self._started = started
        self._name = name

    def start(self) -> None:
        self._started.append((self._name, threading.get_ident()))


class Last(Note):
    """Work after which the test may look."""

    def __init__(self, started: list[tuple[object, int]], done: asyncio.Event) -> None:
        super().__init__(started, "last")
        self._done = done

    @override
    def start(self) -> None:
        self._done.set()


def with_inbox(function: Callable[[Inbox], Awaitable[T]]) -> T:
    async def main() -> T:
        inbox = Inbox(asyncio.get_running_loop())
        inbox.open()
        async with asyncio.timeout(30):
            try:
                return await function(inbox)
            finally:
                inbox.close()

    return asyncio.run(main())


def test_work_of_another_thread_starts_on_that_of_the_loop() -> None:
    async def main(inbox: Inbox) -> None:
        started: list[tuple[object, int]] = []
        done = asyncio.Event()

        assert await asyncio.to_thread(inbox.put, Note(started))
        assert await asyncio.to_thread(inbox.put, Last(started, done))
        await done.wait()

        assert started == [(None, threading.get_ident())]

    with_inbox(main)


def test_work_of_the_loops_own_thread_starts_in_a_later_turn() -> None:
    async def main(inbox: Inbox) -> None:
        started: list[tuple[object, int]] = []
        done = asyncio.Event()

        assert inbox.put(Note(started))
        assert inbox.put(Last(started, done))
        assert started == []
        await done.wait()

        assert len(started) == 1

    with_inbox(main)


def test_each_threads_work_starts_in_its_order() -> None:
    threads, works = 4, 100

    async def main(inbox: Inbox) -> None:
        started: list[tuple[object, int]] = []
        done = asyncio.Event()

        def put(thread: int) -> None:
            for number in range(works):
                inbox.put(Note(started, (thread, number)))

        def put_all() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(put, range(threads)))
            inbox.put(Last(started, done))

        await asyncio.to_thread(put_all)
        await done.wait()

        names = [name for name, _ in started]
        assert len(names) == threads * works
        for thread in range(threads):
            expected: list[object] = [(thread, number) for number in range(works)]
            assert [name for name in names if name in expected] == expected

    with_inbox(main)


def test_closing_starts_what_was_taken() -> None:
    async def main() -> list[tuple[object, int]]:
        started: list[tuple[object, int]] = []
        inbox = Inbox(asyncio.get_running_loop())
        inbox.open()
        inbox.put(Note(started, 1))
        inbox.put(Note(started, 2))

        inbox.close()

        now = started.copy()
        for _ in range(3):
            await asyncio.sleep(0)
        assert started == now  # and not once more by the loop
        return started

    assert [name for name, _ in asyncio.run(main())] == [1, 2]


def test_it_refuses_work_once_it_is_closed() -> None:
    async def main() -> None:
        started: list[tuple[object, int]] = []
        inbox = Inbox(asyncio.get_running_loop())
        inbox.open()
        inbox.close()

        assert not inbox.put(Note(started))
        assert not await asyncio.to_thread(inbox.put, Note(started))

        assert started == []

    asyncio.run(main())


def test_what_is_put_while_it_closes_is_started_or_refused() -> None:
    async def main() -> None:
        started: list[tuple[object, int]] = []
        inbox = Inbox(asyncio.get_running_loop())
        inbox.open()
        begun, taken = threading.Event(), 0

        def put() -> None:
            nonlocal taken
            while inbox.put(Note(started)):
                taken += 1
                begun.set()

        thread = threading.Thread(target=put)
        thread.start()
        begun.wait()
        inbox.close()
        thread.join()
        await asyncio.sleep(0)

        assert len(started) == taken

    asyncio.run(main())


@pytest.mark.parametrize("way", ["eventfd"], indirect=True)
def test_closing_leaves_no_descriptor_open(way: str) -> None:
    async def main() -> None:
        made: list[int] = []
        eventfd = os.eventfd

        def noting(*args: int) -> int:
            made.append(eventfd(*args))
            return made[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "eventfd", noting)
            inbox = Inbox(asyncio.get_running_loop())
        inbox.open()
        [descriptor] = made
        os.fstat(descriptor)

        inbox.close()

        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)

    asyncio.run(main())
