"""What tomskit relies on in Python beyond its documentation: frames, asyncio's callbacks, and threads of executors."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import thread as executors
from contextvars import Context, ContextVar, copy_context
from types import FrameType

import pytest

from tests.support.contracts import assert_has
from tests.support.patience import patience
from tomskit.celery._internals.python import (
    call_nothing_but,
    context_of_callback,
    end_thread_of_executor_with,
    frame_of_thread,
    is_closed_by_clearing,
    program_waits_for_threads,
)

variable: ContextVar[str] = ContextVar("variable")

LOOKING = """
import gc, sys, threading, time
from tomskit.celery._internals.python import frame_of_thread

class Thing: ...

def collected(phase, info):
    if sys._getframe(1).f_code is frame_of_thread.__code__ and not is_over:
        meanwhile.set()
        time.sleep(0.001)  # the other thread goes on

def look_meanwhile():
    while not is_over:
        meanwhile.wait()
        meanwhile.clear()
        frame_of_thread(threading.get_ident())

is_over = False
meanwhile = threading.Event()
other = threading.Thread(target=look_meanwhile)
other.start()
gc.set_threshold(3)
gc.callbacks.append(collected)
kept = []
for _ in range(2000):
    kept.append(Thing())
    frame_of_thread(threading.get_ident())
is_over = True
meanwhile.set()
other.join()
assert gc.isenabled()
"""

WAITED_FOR = """
import threading
from tomskit.celery._internals.python import program_waits_for_threads

program_ends = threading.Event()

def wait():
    program_ends.wait()
    while not program_waits_for_threads():
        pass
    print("ended")

threading.Thread(target=wait).start()
assert not program_waits_for_threads()
program_ends.set()
"""


def run(program: str) -> str:
    command = [sys.executable, "-c", program]
    timeout = patience(60)
    return subprocess.run(
        command, check=True, timeout=timeout, stdout=subprocess.PIPE
    ).stdout.decode()


def test_the_frame_of_a_thread_is_the_innermost_one() -> None:
    """``sys._current_frames``."""
    assert_has(sys, "_current_frames")
    frame = frame_of_thread(threading.get_ident())
    while (
        frame is not None
        and frame.f_code.co_name != "test_the_frame_of_a_thread_is_the_innermost_one"
    ):
        frame = frame.f_back
    assert frame is not None
    assert frame_of_thread(0) is None


def test_threads_that_look_for_frames_do_not_wait_for_each_other_for_ever() -> None:
    run(LOOKING)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="garbage is not collected meanwhile")
def test_a_process_that_is_forked_while_frames_are_looked_for_collects_garbage() -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            frame_of_thread(threading.get_ident())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                found = frame_of_thread(threading.get_ident()) is not None
                os._exit(0 if found and gc.isenabled() else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_a_program_waits_for_threads_when_python_waits_for_its_threads() -> None:
    """``threading._SHUTTING_DOWN``."""
    assert_has(threading, "_SHUTTING_DOWN")
    assert not program_waits_for_threads()
    assert run(WAITED_FOR) == "ended\n"


def test_a_callback_runs_in_the_context_of_its_handle() -> None:
    """``asyncio.Handle._run``, its ``self``, and ``asyncio.Handle._context``."""
    assert_has(asyncio.Handle, "_run")
    found: list[Context | None] = []

    def callback() -> None:
        frame: FrameType | None = sys._getframe().f_back
        assert frame is not None
        found.append(context_of_callback(frame))

    async def call() -> Context:
        context = copy_context()
        context.run(variable.set, "this one")
        asyncio.get_running_loop().call_soon(callback, context=context)
        await asyncio.sleep(0)
        return context

    context = asyncio.run(call())
    [seen] = found
    assert seen is context, "asyncio runs callbacks in another way than Handle._run"


def test_any_other_frame_has_no_context() -> None:
    assert context_of_callback(sys._getframe()) is None


def test_clearing_a_frame_closes_a_coroutine_that_waits_up_to_python_3_12() -> None:
    """``gc.get_referents`` of a frame that waits and of one that has ended, and ``frame.clear``."""
    assert_has(gc, "get_referents")

    frames: list[FrameType] = []

    async def waits() -> None:
        frames.append(sys._getframe())
        await asyncio.sleep(0)

    coro = waits()
    coro.send(None)
    [frame] = frames

    assert is_closed_by_clearing(frame) == (sys.version_info < (3, 13))
    if is_closed_by_clearing(frame):
        frame.clear()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coro.send(None)
    coro.close()


def test_clearing_the_frame_of_a_coroutine_that_has_ended_closes_nothing() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError) as caught:
        asyncio.run(fails())

    assert not any(is_closed_by_clearing(entry.frame.raw) for entry in caught.traceback)


def test_a_loop_calls_what_is_ready_and_nothing_else() -> None:
    """``asyncio.BaseEventLoop._ready``."""
    called: list[str] = []
    kept: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert_has(loop, "_ready")
        loop.call_soon(called.append, "ready")
        kept.extend(call_nothing_but(loop, lambda: called.append("only")))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert called == ["only"]
    assert [type(one) for one in kept] == [asyncio.Handle]


def test_a_thread_of_an_executor_calls_what_is_in_its_queue() -> None:
    """``concurrent.futures.thread._threads_queues``, and ``run`` of what is in the queue."""
    assert_has(executors, "_threads_queues")
    kept: list[object] = []
    ended = threading.Event()
    begin = threading.Event()

    def work() -> None:
        begin.wait(patience(10))
        kept.extend(end_thread_of_executor_with(ended.set))

    with ThreadPoolExecutor(1) as executor:
        executor.submit(work)
        waiting: Future[None] = executor.submit(lambda: None)
        begin.set()
        assert ended.wait(patience(10))
        assert not waiting.done()
    assert len(kept) == 1
    assert end_thread_of_executor_with(ended.set) == []
