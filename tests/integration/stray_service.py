"""An application whose tasks fork, and forget to end the process that they have made."""

import asyncio
import os
import pty
import sys
from collections.abc import Awaitable, Callable

from celery import shared_task

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("stray-service", config=CeleryConfig())

ENDED = 3
"""With which code `ends` ends."""


async def returns() -> None:
    """Nothing."""


async def raises() -> None:
    raise ValueError("in the child")


async def awaits() -> None:
    await asyncio.sleep(0.01)


async def leaves() -> None:
    sys.exit(ENDED)


async def ends() -> None:
    os._exit(ENDED)


WAYS: dict[str, Callable[[], Awaitable[None]]] = {
    one.__name__: one for one in (returns, raises, awaits, leaves, ends)
}


async def _code_of(pid: int) -> int:
    """With which code a child has ended."""
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    return os.waitstatus_to_exitcode(status)


@async_shared_task
async def fork(way: str) -> int:
    pid = os.fork()
    if not pid:
        await WAYS[way]()
        return -1
    return await _code_of(pid)


@async_shared_task
async def fork_with_terminal() -> int:
    pid, terminal = pty.fork()
    if not pid:
        return -1
    code = await _code_of(pid)
    os.close(terminal)
    return code


@async_shared_task
async def fork_in_child_task(way: str) -> int:
    async def forks() -> int:
        pid = os.fork()
        if not pid:
            await WAYS[way]()
        return pid

    pids = await asyncio.gather(forks(), asyncio.sleep(0.1, 0))
    return await _code_of(pids[0])


@async_shared_task
async def fork_in_thread() -> int:
    return await _code_of(await asyncio.to_thread(os.fork))


@shared_task
def fork_in_plain_task() -> int:
    pid = os.fork()
    if not pid:
        return -1
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@async_shared_task(acks_late=True)
async def count(seconds: float) -> int:
    """Counts twice, before and after a pause."""
    await redis_client.incr("counted")
    await asyncio.sleep(seconds)
    return int(await redis_client.incr("counted"))
