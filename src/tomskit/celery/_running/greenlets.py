"""Plain functions that wait: a greenlet in which synchronous code awaits, inside an asyncio task.

Celery's tracer is synchronous. Here it runs in a greenlet that an `asyncio.Task` steps like a
coroutine: where its code waits, the greenlet switches back to the task with the future to wait for, and
the task switches into it again when that is done. So everything that runs in it, the user's coroutine
included, is one asyncio task with one context.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Final, TypeVar, cast

from greenlet import getcurrent, greenlet
from typing_extensions import override

from tomskit.celery._internals.python import leave_out_others

__all__ = ("GreenletCoroutine", "await_here", "greenlet_here", "wait_to_the_end")

R = TypeVar("R")

_RETURNED: Final = object()
"""What a greenlet switches to its driver with when its function has returned."""

_MOST_IDLE: Final = 250
"""Greenlets of a thread that wait for another function to call. Each has 16 KB; to make one takes 8 us, and to
free it as much again, to use one again 0.6. With 1000 tasks at once that sleep, 200 are idle now and then."""


class _Idle(threading.local):
    def __init__(self) -> None:
        self.greenlets: list[_Greenlet] = []


_idle: Final = _Idle()


class GreenletCoroutine(Coroutine[object, object, R]):
    """A coroutine whose body is a plain function that may call `await_here`.

    Args:
        function: Called in the context of the task that steps this coroutine.
        owner: What `greenlet_here` has as its owner inside.
    """

    __slots__ = ("_function", "_greenlet", "_owner")

    def __init__(self, function: Callable[[], R], owner: object) -> None:
        self._function: Callable[[], R] | None = function
        self._owner = owner
        self._greenlet: _Greenlet | None = None

    @override
    def send(self, value: object) -> object:
        return self.__next__()  # a task sends nothing but None

    def __next__(self) -> object:
        mine = self._greenlet
        driver = getcurrent()
        if mine is not None:
            if mine.parent is not driver:
                mine.parent = driver
            return self._after((mine.waiting or mine).switch(None))
        function, self._function = self._function, None
        if function is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        idle = _idle.greenlets
        mine = self._greenlet = idle.pop() if idle else _Greenlet(_serve)
        mine.function, mine.owner, self._owner = function, self._owner, None
        mine.parent = driver
        # It sees and sets the context variables of the task that steps it.
        mine.gr_context = driver.gr_context
        return self._after(mine.switch())

    @override
    def throw(self, exc: BaseException, *_: object) -> object:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        mine = self._greenlet
        try:
            if mine is None:
                self._function = self._owner = None
                raise exc
            mine.parent = getcurrent()
            return self._after((mine.waiting or mine).throw(exc))
        finally:
            # Its traceback holds this frame: no cycle may keep the task's data alive.
            del exc

    def _after(self, result: object) -> object:
        if result is not _RETURNED:
            return result
        mine, self._greenlet = self._greenlet, None
        assert mine is not None  # noqa: S101 (it has returned)
        value, mine.returned = mine.returned, None
        mine.owner = mine.gr_context = None
        idle = _idle.greenlets
        if len(idle) < _MOST_IDLE:
            idle.append(mine)
        raise StopIteration(value)

    @override
    def close(self) -> None:
        """Do nothing: a greenlet always runs to its end."""

    @override
    def __await__(self) -> Generator[object, object, R]:
        return cast("Generator[object, object, R]", self)

    def __iter__(self) -> GreenletCoroutine[R]:
        return self


def _serve() -> None:
    """Call one function after another, each for another coroutine, until one raises."""
    while True:
        mine = getcurrent()
        assert isinstance(mine, _Greenlet)  # noqa: S101 (which runs nothing else)
        function, mine.function = mine.function, None
        assert function is not None  # noqa: S101 (it is set before the switch)
        mine.returned = function()
        driver = mine.parent
        assert driver is not None  # noqa: S101 (only the main greenlet has none)
        # An idle one holds nothing of the task that it ran; nor itself, or it would live for ever.
        del function, mine
        driver.switch(_RETURNED)


class _Greenlet(greenlet):
    """The greenlet of a GreenletCoroutine.

    It has no reference to that: such a cycle would keep the objects of a task alive until Python
    searches for cycles.

    Attributes:
        function: What it calls next.
        returned: What that has returned.
        owner: What `greenlet_here` has as its owner inside.
        waiting: The greenlet that waits, if a library such as SQLAlchemy has started one inside of this.
    """

    function: Callable[[], object] | None = None
    returned: object = None
    owner: object = None
    waiting: greenlet | None = None

    def wait(self, future: object) -> object:
        """Switch to the task that steps the coroutine, until `future` is done."""
        driver = self.parent
        assert driver is not None  # noqa: S101 (only the main greenlet has none)
        current = getcurrent()
        if current is self:
            return driver.switch(future)
        self.waiting = current
        try:
            return driver.switch(future)
        finally:
            self.waiting = None


def greenlet_here() -> _Greenlet | None:
    """The greenlet of a GreenletCoroutine that this code runs in; None outside of such greenlets."""
    current: greenlet | None = getcurrent()
    while current is not None:
        if isinstance(current, _Greenlet):
            return current
        current = current.parent
    return None


def _disown() -> None:
    # A forked process is in a copy of the greenlet, and has no event loop that would run on.
    current: greenlet | None = getcurrent()
    while current is not None:
        if isinstance(current, _Greenlet):
            current.owner = None
        current = current.parent


os.register_at_fork(after_in_child=_disown)


def await_here(awaitable: Awaitable[R]) -> R:
    """Await `awaitable` in a plain function that a GreenletCoroutine runs."""
    found = greenlet_here()
    assert found is not None, "there is no greenlet to wait in"  # noqa: S101
    steps = awaitable.__await__()
    value: object = None
    error: BaseException | None = None
    try:
        future = steps.send(None)
        while True:
            error = None
            try:
                value = found.wait(future)
                # Celery stores a failure before it clears the frames of the error that it handles, and
                # meanwhile another task may have raised the same one.
                if sys.exception() is not None:
                    leave_out_others(sys.exception())
            except BaseException as exc:  # noqa: BLE001 (a cancellation, and whatever else)
                error = exc
            # Not in the block above: what is thrown there would have the cancellation as its context,
            # and anyio takes one that has a cancellation of its own as its context for its own.
            future = steps.send(value) if error is None else steps.throw(error)
    except StopIteration as done:
        result: R = done.value
        return result
    finally:
        error = None  # its traceback holds this frame: no cycle may keep the task's data


def wait_to_the_end(future: asyncio.Future[R]) -> R:
    """Wait in a greenlet for something that cannot be cancelled.

    A cancellation that arrives meanwhile is raised when it has ended, not before.

    Raises:
        asyncio.CancelledError: The task was cancelled meanwhile. The result is lost.
    """
    cancellation: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await_here(_until_done(future))
        except asyncio.CancelledError as exc:
            cancellation = exc
    if cancellation is not None:
        future.exception()  # or asyncio would log that nobody has retrieved it
        raise cancellation
    return future.result()


async def _until_done(future: asyncio.Future[R]) -> None:
    await asyncio.wait([future])
