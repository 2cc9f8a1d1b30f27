"""An application whose tasks fork, and send tasks from the process that they have made."""

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task

app = AsyncCelery("forking-service", config=CeleryConfig())


@async_shared_task
async def add(a: int, b: int) -> int:
    return a + b


def _sent() -> str:
    return add.delay(1, 2).id


async def _sent_in_loop() -> str:
    return (await add.adelay(1, 2)).id


def _sent_by_asyncio() -> str:
    return asyncio.run(_sent_in_loop())


WAYS: dict[str, Callable[[], str]] = {"delay": _sent, "adelay": _sent_by_asyncio}


def _write(way: str, writer: int) -> None:
    try:
        told = WAYS[way]()
    except BaseException as exc:  # noqa: BLE001 (the test shows it)
        told = f"failed: {exc!r}"
    os.write(writer, told.encode())


def _read(reader: int, writer: int) -> str:
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        return file.read()


@async_shared_task
async def send_from_fork(way: str) -> str:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _write(way, writer)
        os._exit(0)
    told = await asyncio.to_thread(_read, reader, writer)
    await asyncio.to_thread(os.waitpid, pid, 0)
    return told


@async_shared_task
async def send_from_process(way: str) -> str:
    reader, writer = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_write, args=(way, writer))
    process.start()
    told = await asyncio.to_thread(_read, reader, writer)
    await asyncio.to_thread(process.join)
    return told


def _in_pool(way: str) -> str:
    return WAYS[way]()


@async_shared_task
async def send_from_pool(way: str) -> str:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return await asyncio.wrap_future(pool.submit(_in_pool, way))
