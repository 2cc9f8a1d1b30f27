"""An application whose tasks fork, and send tasks from the process that they have made."""

import asyncio
import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from celery import shared_task
from sqlalchemy import text

from tomskit.celery import AsyncCelery, AsyncRuntime, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy.database import db

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


TIMES = 40
"""How often both processes use each connection."""


async def _use(first: int) -> list[int]:
    """Use the client and the session: what these answer to numbers, from `first` on."""
    answers: list[int] = []
    for number in range(first, first + TIMES):
        await redis_client.set(f"number-{number}", number)
        answers.append(int(await redis_client.get(f"number-{number}") or 0))
        answers.append((await db.session.execute(text(f"SELECT {number}"))).scalar_one())
    return answers


def _send(first: int) -> list[str]:
    return [add.delay(number, 1).id for number in range(first, first + TIMES)]


def _use_in_child(writer: int, first: int) -> None:
    try:
        told = json.dumps([AsyncRuntime.run(_use(first)), _send(first)])
    except BaseException as exc:  # noqa: BLE001 (the test shows it)
        told = f"failed: {exc!r}"
    with os.fdopen(writer, "w", encoding="utf-8") as file:
        file.write(told)
    os._exit(0)


@async_shared_task
async def use_beside_fork(mine: int, of_child: int) -> tuple[str, str]:
    """What a coroutine and a process that it forks are answered at the same time."""
    await _use(0)
    await add.adelay(1, 2)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _use_in_child(writer, of_child)
    answers = await _use(mine)
    sent = [(await add.adelay(number, 1)).id for number in range(mine, mine + TIMES)]
    told = await asyncio.to_thread(_read, reader, writer)
    await asyncio.to_thread(os.waitpid, pid, 0)
    return json.dumps([answers, sent]), told


@shared_task
def use_beside_fork_of_plain(mine: int, of_child: int) -> tuple[str, str]:
    """The same, of a plain function."""
    AsyncRuntime.run(_use(0))
    add.delay(1, 2)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _use_in_child(writer, of_child)
    own = json.dumps([AsyncRuntime.run(_use(mine)), _send(mine)])
    told = _read(reader, writer)
    os.waitpid(pid, 0)
    return own, told
