"""Processes that coverage measures, and whose threads end at the same time."""

import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest

from tests.support.measuring import let_threads_end
from tests.support.patience import patience
from tests.support.workers import PROJECT

PROGRAM = """
import threading

import coverage

from tests.support.measuring import let_threads_end

let_threads_end()
measuring = coverage.Coverage(data_file=None, config_file=False, concurrency=["thread", "greenlet"])
measuring.start()
for _ in range(20):
    all_at_once = threading.Event()
    threads = [threading.Thread(target=all_at_once.wait) for _ in range(100)]
    for thread in threads:
        thread.start()
    all_at_once.set()
    # Not in join, which is one instruction: greenlet has this thread tidy up between two.
    while any(thread.is_alive() for thread in threads):
        pass
measuring.stop()
"""


class Key:
    """What a dictionary may refer to weakly."""


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A dictionary as they are made in a measured process."""
    monkeypatch.setattr(weakref, "WeakKeyDictionary", weakref.WeakKeyDictionary)
    let_threads_end()
    made: Any = weakref.WeakKeyDictionary
    return made()


def test_a_hundred_threads_end_at_the_same_time() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, cwd=PROJECT, timeout=patience(30))


def test_what_is_gone_is_removed(numbers: Any) -> None:
    keys = [Key() for _ in range(3)]
    numbers.update((key, number) for number, key in enumerate(keys))
    kept = keys[1]
    del keys
    gc.collect()

    assert list(numbers.items()) == [(kept, 1)]
    assert len(numbers) == 1
    assert Key() not in numbers


def test_what_is_gone_while_somebody_iterates(numbers: Any) -> None:
    keys = [Key() for _ in range(3)]
    numbers.update((key, number) for number, key in enumerate(keys))

    seen: list[int] = []
    for number in numbers.values():
        seen.append(number)
        keys.clear()

    assert seen == [0]
    assert len(numbers) == 0


def test_a_copy(numbers: Any) -> None:
    key = Key()
    numbers[key] = 1

    copied = numbers.copy()

    assert dict(copied) == dict(type(numbers)({key: 1})) == {key: 1}
    assert type(copied) is type(numbers)
