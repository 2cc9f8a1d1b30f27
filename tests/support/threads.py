"""Threads of tests: several at once, that take turns as often as they can."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def switching_often() -> Generator[None]:
    """Python changes threads after a millionth of a second, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


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
