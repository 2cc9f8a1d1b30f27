"""LoopSocket: where the worker waits in it, coroutines run; elsewhere it blocks."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.patience import slowed
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.loop_socket import LoopSocket

SECONDS = 30.0


@pytest.fixture
def peers() -> Iterator[tuple[LoopSocket, socket.socket]]:
    mine, other = socket.socketpair()
    mine.settimeout(SECONDS)
    yield LoopSocket(mine), other
    mine.close()
    other.close()


def test_coroutines_run_while_something_is_waited_for(
    current: LoopHub, peers: tuple[LoopSocket, socket.socket]
) -> None:
    mine, other = peers
    turns = 0

    async def tick() -> None:
        nonlocal turns
        for _ in range(20):
            await asyncio.sleep(0.002)
            turns += 1
        other.sendall(b"answer")

    task = current.asyncio_loop.create_task(tick())

    assert mine.recv(100) == b"answer"

    current.wait(task)
    assert turns == 20


def test_coroutines_run_while_something_is_sent(
    current: LoopHub, peers: tuple[LoopSocket, socket.socket]
) -> None:
    mine, other = peers
    other.setblocking(False)
    data = b"x" * (1 << 23)  # more than the buffers of the system hold

    async def read() -> int:
        received = 0
        while received < len(data):
            received += len(await current.asyncio_loop.sock_recv(other, 1 << 16))
        return received

    task = current.asyncio_loop.create_task(read())

    mine.sendall(data)

    assert current.wait(task) == len(data)


def test_what_never_comes_is_waited_for_as_long_as_the_timeout(
    current: LoopHub, peers: tuple[LoopSocket, socket.socket]
) -> None:
    mine, _ = peers
    mine.settimeout(0.05)

    with pytest.raises(TimeoutError):
        mine.recv(1)


def test_an_answer_of_which_hardly_anything_comes_is_not_waited_for(
    current: LoopHub, peers: tuple[LoopSocket, socket.socket]
) -> None:
    mine, other = peers
    mine.settimeout(0.2)

    async def drip() -> None:
        while True:
            other.sendall(b"x")
            await asyncio.sleep(0.01)

    def read() -> None:
        while True:
            mine.recv(100)

    task = current.asyncio_loop.create_task(drip())
    mine.begin_answer()

    with pytest.raises(TimeoutError):
        read()

    mine.end_answer()
    mine.settimeout(SECONDS)
    for _ in range(20):
        assert mine.recv(1)
    task.cancel()


def test_an_answer_that_comes_slowly_is_waited_for(
    current: LoopHub, peers: tuple[LoopSocket, socket.socket]
) -> None:
    mine, other = peers
    mine.settimeout(slowed(0.5))
    received = 0

    async def send() -> None:
        for _ in range(100):
            other.sendall(b"x" * 1000)
            await asyncio.sleep(0.02)

    task = current.asyncio_loop.create_task(send())
    mine.begin_answer()
    while received < 100_000:
        received += len(mine.recv(1000))

    current.wait(task)
    assert received == 100_000


def test_a_thread_blocks_until_something_comes(
    current: LoopHub, peers: tuple[LoopSocket, socket.socket]
) -> None:
    mine, other = peers
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(mine.recv(100)))
    thread.start()

    other.sendall(b"answer")
    thread.join(SECONDS)

    assert found == [b"answer"]


def test_a_thread_has_the_timeout_as_well(peers: tuple[LoopSocket, socket.socket]) -> None:
    mine, _ = peers
    mine.settimeout(0.01)

    with pytest.raises(TimeoutError):
        mine.recv(1)


def test_without_a_timeout_it_does_not_wait(
    current: LoopHub, peers: tuple[LoopSocket, socket.socket]
) -> None:
    mine, other = peers
    mine.settimeout(0)

    with pytest.raises(BlockingIOError):
        mine.recv(1)

    assert mine.gettimeout() == 0
    other.sendall(b"x")
    buffer = bytearray(10)
    assert mine.recv_into(memoryview(buffer)) == 1
    assert buffer[:1] == b"x"
