"""LivingSet: objects that threads note while others look at them."""

from __future__ import annotations

import gc
from weakref import WeakKeyDictionary

import pytest

from tests.support.threads import at_once
from tomskit.living import LivingSet, living_keys


class _Object:
    pass


def test_objects_that_nobody_keeps_are_gone() -> None:
    known: LivingSet[_Object] = LivingSet()
    kept = _Object()
    known.add(kept)
    known.add(kept)
    known.add(_Object())
    gc.collect()

    assert [*known] == [kept]
    assert kept in known
    known.discard(kept)
    known.discard(kept)
    assert [*known] == []
    assert kept not in known


@pytest.mark.parametrize("kind", ["set", "dictionary"])
def test_threads_note_objects_while_others_look(kind: str) -> None:
    known: LivingSet[_Object] = LivingSet()
    dictionary: WeakKeyDictionary[_Object, object] = WeakKeyDictionary()

    def work(_: int) -> None:
        for _ in range(200):
            kept = [_Object() for _ in range(20)]
            for one in kept:
                known.add(one)
                dictionary[one] = None
            found = [*known] if kind == "set" else living_keys(dictionary)
            assert {*kept} <= {*found}

    at_once(work, threads=4)
