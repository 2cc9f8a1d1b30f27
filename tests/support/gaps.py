"""How long an event loop has stood still."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

_TICK_SECONDS: Final = 0.01
_ASK_SECONDS: Final = 0.2


async def longest_gap(is_over: Callable[[], Awaitable[bool]]) -> float:
    """How late the loop has ever been in waking a coroutine, in seconds, beyond what a thread was.

    Args:
        is_over: Asked some times a second.
    """
    over: list[bool] = []
    thread = asyncio.create_task(asyncio.to_thread(_watch_from_thread, over))
    asked, worst = time.monotonic(), 0.0
    last = time.monotonic()
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        now = time.monotonic()
        last, worst = now, max(worst, now - last - _TICK_SECONDS)
        if now - asked > _ASK_SECONDS:
            asked = now
            if await is_over():
                break
    over.append(True)
    return max(worst - await thread, 0.0)


def _watch_from_thread(over: list[bool]) -> float:
    last, worst = time.monotonic(), 0.0
    while not over:
        time.sleep(_TICK_SECONDS)
        now = time.monotonic()
        last, worst = now, max(worst, now - last - _TICK_SECONDS)
    return worst
