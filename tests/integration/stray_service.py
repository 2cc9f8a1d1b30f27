"""An application whose tasks fork, and forget to end the process that they have made."""

import asyncio
import os
import pty
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Never

from celery import Task, shared_task
from typing_extensions import override

from tests.support.patience import slowed
from tests.support.tasks import plain_redis
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


STAYED = -99
"""What stands for the code of a child that did not end."""


def _code_soon(pid: int) -> int:
    """With which code a child has ended; one that does not end soon is killed."""
    deadline = time.monotonic() + slowed(5.0)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return STAYED


def _returns() -> int:
    print("written by the child")
    return -1


def _raises() -> Never:
    raise ValueError("in the child")


def _leaves() -> Never:
    sys.exit(ENDED)


PLAIN_WAYS: dict[str, Callable[[], int]] = {
    one.__name__.strip("_"): one for one in (_returns, _raises, _leaves)
}


@shared_task(acks_late=True)
def fork_in_plain_task(way: str) -> int:
    pid = os.fork()
    return _code_soon(pid) if pid else PLAIN_WAYS[way]()


@shared_task(autoretry_for=(ValueError,), retry_kwargs={"countdown": 0})
def fork_in_task_that_retries() -> int:
    pid = os.fork()
    if not pid:
        raise ValueError("in the child")
    return _code_soon(pid)


class _OfClass(Task[..., int]):
    name = "tests.integration.stray_service.fork_in_method"

    @override
    def run(self) -> int:
        pid = os.fork()
        return _code_soon(pid) if pid else -1


app.register_task(_OfClass())


class _Calling(Task[..., int]):
    @override
    def __call__(self, *args: Any, **kwargs: Any) -> int:
        pid = os.fork()
        return _code_soon(pid) if pid else super().__call__(*args, **kwargs)


@app.task(base=_Calling, ignore_result=False)
def fork_in_call() -> int:
    return -1


class _Hooked(Task[..., int]):
    @override
    def before_start(self, task_id: str, args: object, kwargs: object) -> None:
        pid = os.fork()
        if pid:
            self.request.update(code_of_child=_code_soon(pid))


@app.task(base=_Hooked, bind=True, ignore_result=False)
def fork_in_hook(self: Task[..., Any]) -> int:
    return int(self.request.get("code_of_child", -1))


@async_shared_task
async def fork_in_async_task(way: str) -> int:
    pid = os.fork()
    if not pid:
        await WAYS[way]()
        return -1
    return await asyncio.to_thread(_code_soon, pid)


@shared_task
def note(value: int) -> None:
    """What a task is followed by: notes what that has returned."""
    with plain_redis(app.config) as client:
        client.rpush("noted", value)


@async_shared_task(acks_late=True)
async def count(seconds: float) -> int:
    """Counts twice, before and after a pause."""
    await redis_client.incr("counted")
    await asyncio.sleep(seconds)
    return int(await redis_client.incr("counted"))
