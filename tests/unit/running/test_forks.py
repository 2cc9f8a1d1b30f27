"""Threads beside a pool of processes: a forked process finds no lock that one of them held."""

import os
import threading
import time

import pytest

from tests.support.patience import patience
from tomskit.celery._running import forks
from tomskit.celery._running.forks import between_forks, may_fork

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def forked(lock: threading.Lock) -> bool:
    """Fork; whether the lock is free in the child."""
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.acquire(blocking=False) else 1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def test_a_fork_waits_for_what_a_thread_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine a thread that pauses may be late.
    monkeypatch.setattr(forks, "_PATIENCE_SECONDS", patience(10))
    lock, holds = threading.Lock(), threading.Event()

    def work() -> None:
        with between_forks(), lock:
            holds.set()
            time.sleep(0.2)

    thread = threading.Thread(target=work)
    thread.start()
    holds.wait()
    try:
        assert forked(lock)
    finally:
        thread.join()


def test_a_fork_does_not_wait_while_a_thread_waits() -> None:
    lock, waits, done = threading.Lock(), threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with between_forks():
            with may_fork():
                waits.set()
                assert done.wait(patience(10))
            order.append("goes on")

    thread = threading.Thread(target=work)
    thread.start()
    waits.wait()
    assert forked(lock)
    order.append("forked")
    done.set()
    thread.join()
    assert order == ["forked", "goes on"]


def test_a_fork_goes_on_without_a_thread_that_takes_long() -> None:
    lock, holds, done = threading.Lock(), threading.Event(), threading.Event()

    def work() -> None:
        with between_forks():
            holds.set()
            assert done.wait(patience(10))

    thread = threading.Thread(target=work)
    thread.start()
    holds.wait()
    assert forked(lock)
    assert not done.is_set()
    done.set()
    thread.join()


def test_a_forked_process_can_fork_and_have_such_threads() -> None:
    with between_forks():
        child = os.fork()
        if child == 0:
            with between_forks():
                os._exit(0 if forked(threading.Lock()) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
