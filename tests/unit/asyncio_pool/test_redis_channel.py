"""What takes long in a channel is done in a thread, and coroutines run meanwhile."""

import threading
from typing import Any

import pytest

from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.redis_channel import waiting_parts


def channel() -> Any:
    first, *_ = waiting_parts(fast=True).channel
    return first()


def test_coroutines_run_while_a_thread_does_what_takes_long(current: LoopHub) -> None:
    has_run = threading.Event()
    current.asyncio_loop.call_soon(has_run.set)
    threads: list[int] = []

    def take_long() -> None:
        assert has_run.wait(60)
        threads.append(threading.get_ident())

    channel().call_aside(take_long)

    assert threads != [threading.get_ident()]


def test_its_error_is_raised(current: LoopHub) -> None:
    def fail() -> None:
        raise LookupError("x")

    with pytest.raises(LookupError):
        channel().call_aside(fail)


def test_without_a_loop_it_is_done_at_once() -> None:
    threads: list[int] = []

    channel().call_aside(lambda: threads.append(threading.get_ident()))

    assert threads == [threading.get_ident()]
