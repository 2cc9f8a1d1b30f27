"""Plain functions that wait: a greenlet in which synchronous code awaits, inside an asyncio task.

Celery's tracer is synchronous. Here it runs in a greenlet that an `asyncio.Task` steps as if it were
a coroutine: where the code in it waits for something, the greenlet switches back to the task with the
future to wait for, and the task switches into it again when that is done. So everything that runs in
it, the user's coroutine included, is one asyncio task with one context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

from greenlet import getcurrent, greenlet
from typing_extensions import override

__all__ = ("GreenletCoroutine", "await_here", "here", "wait_to_the_end")

R = TypeVar("R")


class GreenletCoroutine(Coroutine[object, object, R]):
    """A coroutine whose body is a plain function that may call `await_here`.

    Args:
        function: Called with `context_of` the task that steps this coroutine.
        owner: What `here` answers inside.
    """

    __slots__ = ("_greenlet", "_waiting", "owner")

    def __init__(self, function: Callable[[], R], owner: object) -> None:
        self.owner: object = owner
        self._greenlet = _Greenlet(function)
        self._greenlet.coroutine = self
        # The greenlet that is switched back into: the function's own, or one that libraries such as
        # SQLAlchemy have put on top of it.
        self._waiting: greenlet = self._greenlet

    @override
    def send(self, value: object) -> object:
        driver = getcurrent()
        if self._greenlet.parent is not driver:
            self._greenlet.parent = driver
        if not self._greenlet:
            # It sees and sets the context variables of the task that steps it.
            self._greenlet.gr_context = driver.gr_context
            return self._after(self._greenlet.switch())
        return self._after(self._waiting.switch(value))

    @override
    def throw(self, exc: BaseException, *_: object) -> object:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self._greenlet.parent = getcurrent()
        return self._after(self._waiting.throw(exc))

    def _after(self, result: object) -> object:
        if self._greenlet.dead:
            raise StopIteration(result)
        return result

    def wait(self, future: object) -> object:
        """Switch to the task that steps this coroutine, until `future` is done."""
        self._waiting = getcurrent()
        driver = self._greenlet.parent
        assert driver is not None  # noqa: S101 (only the main greenlet has none)
        return driver.switch(future)

    @override
    def close(self) -> None:
        """Nothing to do: a greenlet is only left to its end."""

    @override
    def __await__(self) -> Generator[object, object, R]:
        return cast("Generator[object, object, R]", self)

    def __iter__(self) -> GreenletCoroutine[R]:
        return self

    def __next__(self) -> object:
        return self.send(None)


class _Greenlet(greenlet):
    coroutine: GreenletCoroutine[Any]


def _coroutine_here() -> GreenletCoroutine[Any] | None:
    current: greenlet | None = getcurrent()
    while current is not None:
        if isinstance(current, _Greenlet):
            return current.coroutine
        current = current.parent
    return None


def here() -> object:
    """The `owner` of the greenlet that this code runs in; None where code cannot wait."""
    coroutine = _coroutine_here()
    return None if coroutine is None else coroutine.owner


def await_here(awaitable: Awaitable[R]) -> R:
    """Await `awaitable` in a plain function, in a greenlet where `here` is not None."""
    coroutine = _coroutine_here()
    assert coroutine is not None, "there is no greenlet to wait in"  # noqa: S101
    steps = cast("Coroutine[object, object, R]", awaitable.__await__())
    try:
        future = steps.send(None)
        while True:
            try:
                value = coroutine.wait(future)
            except BaseException as exc:  # noqa: BLE001 (a cancellation, and whatever else)
                future = steps.throw(exc)
            else:
                future = steps.send(value)
    except StopIteration as done:
        return cast("R", done.value)


def wait_to_the_end(future: asyncio.Future[R]) -> R:
    """Wait for something that cannot be cancelled, in a greenlet.

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
        future.exception()  # it has been looked at
        raise cancellation
    return future.result()


async def _until_done(future: asyncio.Future[R]) -> None:
    await asyncio.wait([future])
