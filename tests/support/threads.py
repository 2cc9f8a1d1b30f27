"""Threads of tests: several at once, that take turns as often as they can."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tests.support.patience import patience, wait_until


@contextmanager
def switching_often() -> Generator[None]:
    """Python changes threads after a millionth of a second, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def wait_until_in(thread: threading.Thread, function: str) -> None:
    """Wait until a thread is in a function, or in one that this calls."""

    def is_in() -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        while frame is not None and frame.f_code.co_name != function:
            frame = frame.f_back
        return frame is not None

    wait_until(is_in, patience(10), f"the thread does not come to {function}")


def at_once(work: Callable[[int], None], threads: int) -> None:
    """Call `work` with 0, 1, ... in a thread each; the first error of any of them is raised."""
    errors: list[Exception] = []
    barrier = threading.Barrier(threads)

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except Exception as exc:  # noqa: BLE001 (raised below)
            errors.append(exc)

    started = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    with switching_often():
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    for error in errors:
        raise error
