"""Threads for calls that block."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from tomskit.celery._running.context import begin_execution

__all__ = ("in_thread", "in_thread_of_its_own")

R = TypeVar("R")

_THREADS = 8
"""Less than Celery's ``broker_pool_limit`` of 10: a connection is never what they wait for."""

_pools: list[ThreadPoolExecutor] = []


def in_thread(call: Callable[[], R]) -> asyncio.Future[R]:
    """Call something that blocks, in this context, in one of a few threads that are kept for it.

    asyncio's own threads are left to the application, which may have filled them.
    """
    if not _pools:
        _pools.append(ThreadPoolExecutor(_THREADS, "tomskit-client"))
    return asyncio.get_running_loop().run_in_executor(_pools[0], copy_context().run, call)


def in_thread_of_its_own(call: Callable[[], R]) -> asyncio.Future[R]:
    """Call something that may take long, and may call this in turn, in this context.

    Such calls would take all of the few threads and then wait for another one.
    """
    context = copy_context()
    # It runs tasks, several of them at once where several are called at once from one task.
    context.run(begin_execution)
    thread = ThreadPoolExecutor(1, "tomskit-eager")
    try:
        return asyncio.get_running_loop().run_in_executor(thread, context.run, call)
    finally:
        thread.shutdown(wait=False)


# A forked process has none of the threads.
os.register_at_fork(after_in_child=_pools.clear)
