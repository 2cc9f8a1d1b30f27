"""Tasks that leave something behind, or do what only the owner of an event loop may do."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncGenerator

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

app = AsyncCelery("left-behind", config=CeleryConfig())

FOR_EVER = 100_000.0

_kept: list[object] = []


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@async_shared_task(time_limit=1)
async def call_in_thread() -> None:
    """Calls what blocks for ever. The task has a limit; the thread has none."""
    await asyncio.to_thread(time.sleep, FOR_EVER)


@async_shared_task
async def start_thread() -> None:
    threading.Thread(target=time.sleep, args=(FOR_EVER,), name="of-a-task").start()


async def _numbers() -> AsyncGenerator[int]:
    try:
        yield 1
    finally:
        await asyncio.sleep(FOR_EVER)


@async_shared_task
async def keep_generator() -> int:
    numbers = _numbers()
    _kept.append(numbers)
    return await anext(numbers)


async def _never_end() -> None:
    while True:
        try:
            await asyncio.sleep(FOR_EVER)
        except asyncio.CancelledError:
            continue


@async_shared_task
async def keep_task() -> None:
    _kept.append(asyncio.create_task(_never_end()))
    await asyncio.sleep(0.1)


@async_shared_task
async def stop_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)


@async_shared_task
async def exit_in_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 7)
    await asyncio.sleep(0.1)


async def _interrupt() -> None:
    raise KeyboardInterrupt


@async_shared_task
async def interrupt_in_background() -> None:
    _kept.append(asyncio.create_task(_interrupt()))
    await asyncio.sleep(0.1)


async def _exit() -> None:
    sys.exit(7)


@async_shared_task
async def exit_in_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_exit())
        await asyncio.sleep(FOR_EVER)
