"""Threads for calls that block."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

__all__ = ("in_thread",)

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


# A forked process has none of the threads.
os.register_at_fork(after_in_child=_pools.clear)
