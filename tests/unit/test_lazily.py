"""cached_property: the same object to all threads, without a lock."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.patience import patience
from tomskit.lazily import cached_property


class Owner:
    def __init__(self) -> None:
        self.times = 0
        self.together = threading.Barrier(2, timeout=patience(10))

    @cached_property
    def made(self) -> object:
        """What is made."""
        self.times += 1
        return object()

    @cached_property
    def together_made(self) -> object:
        self.together.wait()
        return object()


def test_it_is_made_once_and_may_be_forgotten() -> None:
    owner = Owner()

    first = owner.made
    assert owner.made is first
    assert owner.times == 1

    del owner.made
    assert owner.made is not first
    assert owner.times == 2
    assert Owner.made.__doc__ == "What is made."


def test_threads_that_ask_at_the_same_time_get_the_same() -> None:
    owner = Owner()

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(getattr, owner, "together_made") for _ in range(2)]
        first, second = (one.result() for one in asked)

    assert first is second is owner.together_made


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_a_thread_that_makes_one() -> None:
    owner = Owner()
    thread = threading.Thread(target=lambda: owner.together_made)
    thread.start()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            other = Owner()
            other.together = threading.Barrier(1)
            asking = threading.Thread(target=lambda: other.together_made, daemon=True)
            asking.start()
            asking.join(patience(10))
            code = int(asking.is_alive())
        finally:
            os._exit(code)
    owner.together.wait()
    thread.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
