"""An application whose tasks are interrupted while a library waits, or raise what is no Exception."""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import anyio
import httpx
from celery import Task, shared_task
from celery.exceptions import SoftTimeLimitExceeded, WorkerLostError
from celery.signals import task_postrun, task_prerun
from typing_extensions import override

from tomskit.celery import AsyncCelery, AsyncRuntime, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

app = AsyncCelery("interrupted-service", config=CeleryConfig())

FOR_EVER = 3600.0
SOFT = 0.3
"""Seconds; the tests wait for what follows, not for a time."""

NO_EXCEPTIONS: dict[str, BaseException] = {
    "KeyboardInterrupt": KeyboardInterrupt(),
    "SystemExit": SystemExit(3),
    "GeneratorExit": GeneratorExit(),
    "BaseExceptionGroup": BaseExceptionGroup("some", [KeyboardInterrupt()]),
}


@async_shared_task(soft_time_limit=SOFT)
async def in_task_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, FOR_EVER)
        await anyio.sleep(FOR_EVER)


@async_shared_task(soft_time_limit=SOFT)
async def in_cancel_scope() -> None:
    with anyio.move_on_after(FOR_EVER):
        await anyio.sleep(FOR_EVER)


@async_shared_task(soft_time_limit=SOFT)
async def in_standard_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(FOR_EVER))
        await asyncio.sleep(FOR_EVER)


@async_shared_task(soft_time_limit=SOFT)
async def in_timeout() -> None:
    async with asyncio.timeout(FOR_EVER):
        await asyncio.sleep(FOR_EVER)


@async_shared_task(soft_time_limit=SOFT)
async def in_shield() -> None:
    sleeping = asyncio.ensure_future(asyncio.sleep(FOR_EVER))
    try:
        await asyncio.shield(sleeping)
    finally:
        sleeping.cancel()


@async_shared_task(soft_time_limit=SOFT)
async def in_request(port: int) -> None:
    async with httpx.AsyncClient(timeout=FOR_EVER, trust_env=False) as client:
        await client.get(f"http://127.0.0.1:{port}/")


@async_shared_task(soft_time_limit=SOFT)
async def context_of_the_limit() -> str:
    try:
        await asyncio.sleep(FOR_EVER)
    except BaseException as exc:  # noqa: BLE001 (to show what it is)
        return repr((type(exc).__name__, exc.__context__))
    return "it did not come"


@async_shared_task(acks_late=True, reject_on_worker_lost=True)
async def raise_no_exception(kind: str, key: str) -> None:
    await redis_client.incr(key)
    raise NO_EXCEPTIONS[kind]


@async_shared_task(acks_late=True, reject_on_worker_lost=True)
async def take_too_much(key: str) -> None:
    await redis_client.incr(key)
    raise MemoryError("too much")


@app.task(acks_late=True, reject_on_worker_lost=True)
def take_too_much_plainly() -> None:
    raise MemoryError("too much")


@app.task(acks_late=True, reject_on_worker_lost=True)
def raise_no_exception_plainly(kind: str, key: str) -> None:
    AsyncRuntime.run(count(key))
    raise NO_EXCEPTIONS[kind]


@async_shared_task(acks_late=True, reject_on_worker_lost=True)
async def lose_another(key: str) -> None:
    await redis_client.incr(key)
    # As of the result of a task whose process was lost.
    raise WorkerLostError("that of another task")


class UnshowableError(Exception):
    @override
    def __getattribute__(self, name: str) -> object:
        if name == "__cause__":
            raise ValueError("no traceback can be made of it")
        return super().__getattribute__(name)


@async_shared_task(acks_late=True, reject_on_worker_lost=True)
async def raise_unshowable(key: str) -> None:
    await redis_client.incr(key)
    raise UnshowableError


async def count(key: str) -> None:
    await redis_client.incr(key)


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


@shared_task
def clean_up_at_soft_limit(folder: str) -> int:
    """Goes on at its soft limit until there is a file `free`; how often it was interrupted."""
    interrupted = 0
    while True:
        try:
            if Path(folder, "free").exists():
                return interrupted
            time.sleep(0.02)
        except SoftTimeLimitExceeded:
            interrupted += 1
            Path(folder, "cleans up").touch()


@shared_task
def sleep_for_ever() -> None:
    time.sleep(FOR_EVER)


class InterruptingValue:
    """A result at which its process gets the signal of the soft limit, when the result is stored."""

    def __json__(self) -> str:
        os.kill(os.getpid(), signal.SIGUSR1)
        return "stored"


@app.task
def interrupt_the_storing() -> InterruptingValue:
    return InterruptingValue()


@app.task
def begin_interrupted() -> None:
    time.sleep(FOR_EVER)


@async_shared_task
async def begin_interrupted_as_coroutine() -> None:
    await asyncio.sleep(FOR_EVER)


@app.task
def fail_at_length(length: int) -> None:
    raise ValueError("x" * length)


@async_shared_task
async def fail_at_length_as_coroutine(length: int) -> None:
    raise ValueError("x" * length)


_next_task = threading.Event()


def _interrupt_until_the_next_task() -> None:
    while not _next_task.wait(0.001):
        os.kill(os.getpid(), signal.SIGUSR1)


@task_prerun.connect
def interrupt_first(task: Task[..., object], **_: object) -> None:
    _next_task.set()
    if "begin_interrupted" in task.name:
        os.kill(os.getpid(), signal.SIGUSR1)


@task_postrun.connect
def interrupt_last(task: Task[..., object], **_: object) -> None:
    if "fail_at_length" in task.name:
        _next_task.clear()
        threading.Thread(target=_interrupt_until_the_next_task, daemon=True).start()
