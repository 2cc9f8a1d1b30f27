"""Collector: Python's search for reference cycles while a worker runs tasks."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from tests.support.patience import wait_until
from tomskit.celery.asyncio_pool.collector import Collector

USUAL = (700, 10, 10)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    # As it is when the tests begin: see tests/conftest.py.
    gc.freeze()
    gc.set_threshold(*before)


def relaxed(*thresholds: int) -> tuple[int, int, int]:
    """The thresholds while a worker runs that had these."""
    gc.set_threshold(*thresholds)
    Collector().relax()
    return gc.get_threshold()


def test_it_looks_more_rarely() -> None:
    first, second, third = relaxed(*USUAL)

    assert first > 10 * USUAL[0]
    assert (second, third) == USUAL[1:]


def test_it_does_not_look_at_what_is_there() -> None:
    gc.unfreeze()

    Collector().relax()

    assert gc.get_freeze_count() > 1000


def test_one_that_was_turned_off_is_left_so() -> None:
    assert relaxed(0, 10, 10)[0] == 0


def test_one_that_looks_more_rarely_yet_is_left_so() -> None:
    assert relaxed(1_000_000, 20, 30) == (1_000_000, 20, 30)


def test_it_looks_when_the_process_has_grown() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.memory = bytearray(1024 * 1024)

    gc.set_threshold(*USUAL)
    collector = Collector()
    collector.relax()
    alive: list[weakref.ref[Cycle]] = []

    def make_and_drop() -> bool:
        # Filled, so that the system has to give it.
        dropped = Cycle()
        dropped.memory[:] = b"x" * len(dropped.memory)
        alive.append(weakref.ref(dropped))
        del dropped
        collector.look()
        return alive[0]() is None

    wait_until(make_and_drop, 10.0, "a cycle is collected")
    assert len(alive) < 1000
    collector.restore()


def test_it_looks_as_well_when_freed_memory_stays_with_the_process() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.memory = bytearray(b"x" * 5000)

    gc.set_threshold(*USUAL)
    collector = Collector()
    collector.relax()
    # Those between the cycles keep the system from getting their memory back.
    between: list[bytes] = []
    alive: set[weakref.ref[Cycle]] = set()
    most = [0]

    def make_and_drop() -> bool:
        for number in range(100):
            alive.add(weakref.ref(Cycle(), alive.discard))
            if number % 5 == 0:
                between.append(b"y" * 600)
        before = len(alive)
        collector.look()
        if len(alive) < before:
            most.append(before)
        return len(most) > 5

    wait_until(make_and_drop, 60.0, "cycles are collected")
    _, first, *later = most
    assert max(later) <= 1.5 * first
    collector.restore()


def test_restoring_undoes_it() -> None:
    gc.set_threshold(*USUAL)
    collector = Collector()
    collector.relax()

    collector.restore()

    assert gc.get_threshold() == USUAL
    assert gc.get_freeze_count() == 0


def test_restoring_what_was_not_relaxed_does_nothing() -> None:
    gc.set_threshold(*USUAL)
    collector = Collector()
    collector.relax()
    collector.restore()
    gc.set_threshold(123, 4, 5)

    collector.restore()

    assert gc.get_threshold() == (123, 4, 5)
