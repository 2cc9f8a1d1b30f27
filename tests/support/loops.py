"""Event loops of tests: run in one, wait in one, see whether it goes round."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Never, TypeVar

from tests.support.patience import patience

T = TypeVar("T")


def run(coro: Coroutine[object, Never, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(patience(30)):
            return await coro

    return asyncio.run(limited())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (a server is asked)
        await asyncio.sleep(0.01)


async def ticks_while(awaitable: Awaitable[T]) -> tuple[int, T]:
    """How often the loop came round meanwhile, with 5 ms between."""
    waiting = asyncio.ensure_future(awaitable)
    ticks = 0
    while not waiting.done():
        await asyncio.sleep(0.005)
        ticks += 1
    return ticks, waiting.result()


def sockets() -> int:
    """How many this process has open, without what other tests have left."""
    gc.collect()
    descriptors = Path("/proc/self/fd")
    return sum(
        name.startswith("socket:")
        for entry in descriptors.iterdir()
        if (name := _target(entry)) is not None
    )


def _target(link: Path) -> str | None:
    with suppress(OSError):  # that of the listing itself
        return str(link.readlink())
    return None
