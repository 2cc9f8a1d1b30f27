"""An event loop whose clock a test moves, so that time limits need no waiting."""

import asyncio
import inspect
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from typing_extensions import override

T = TypeVar("T")

_TURNS = 20
"""More than anything in these tests needs until it waits for something again."""


class ClockLoop(asyncio.SelectorEventLoop):
    """Its clock stands still until `advance`; it runs only in these methods."""

    def __init__(self) -> None:
        self._seconds = 0.0
        super().__init__()

    @override
    def time(self) -> float:
        return self._seconds

    def settle(self) -> None:
        """Run what is ready, and what becomes ready by that."""
        for _ in range(_TURNS):
            self.call_soon(self.stop)
            self.run_forever()

    def advance(self, seconds: float) -> None:
        """Let time pass, and run what that makes ready."""
        self._seconds += seconds
        self.settle()

    def finish(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that needs no time to pass."""
        task = self.create_task(coro)
        self.settle()
        assert task.done(), "it waits for something that does not come"
        return task.result()


def is_closed(coro: Coroutine[Any, Any, object]) -> bool:
    """Whether a coroutine has ended, or was closed before it began."""
    return inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED


@contextmanager
def clock_loop() -> Generator[ClockLoop]:
    """A new loop, closed in the end."""
    loop = ClockLoop()
    try:
        yield loop
    finally:
        loop.close()
