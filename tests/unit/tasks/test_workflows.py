"""Chains, groups and chords at run time."""

from collections.abc import Callable
from typing import cast

import celery
import pytest

from tests.support.pictures import Picture, load, ready, scale, total, width
from tomskit.celery import AsyncCelery, TypedGroupResult, chain, chord, group


def test_chain_passes_results_on(app: AsyncCelery) -> None:
    assert (load.s("a") | scale.p(0.25, suffix="!")).delay().get() == Picture(name="a!", width=160)
    assert chain(load.s("a"), scale.p(), width.p()).delay().get() == 320


def test_immutable_signature_gets_nothing_from_before(app: AsyncCelery) -> None:
    assert (load.s("a") | ready.si()).delay().get() == "ready"
    assert (load.s("a") | ready.si() | load.si("b") | width.p()).delay().get() == 640


def test_group_gives_a_list(app: AsyncCelery) -> None:
    results = group(load.s(name) for name in "ab").delay()

    assert isinstance(results, TypedGroupResult)
    assert results.get() == [Picture(name="a"), Picture(name="b")]
    assert [one.get() for one in results] == results.get()


def test_group_of_one_is_a_group(app: AsyncCelery) -> None:
    assert group([load.s("a")]).delay().get() == [Picture(name="a")]
    assert (load.s("a") | group([width.p()])).delay().get() == [640]
    assert (load.s("a") | group([width.p()]) | total.p()).delay().get() == 640
    assert chord([load.s("a") | width.p()], total.p()).delay().get() == 640


def test_chain_into_a_group_and_on(app: AsyncCelery) -> None:
    workflow = load.s("a") | group(width.p(), scale.p(2) | width.p()) | total.p()

    assert workflow.delay().get() == 640 + 1280


def test_signatures_work_in_celerys_own_canvas(app: AsyncCelery) -> None:
    header = celery.group(load.s("a") | width.s(), load.s("b") | width.s())

    assert celery.chain(load.s("a"), width.s())().get() == 640
    assert celery.chord(header)(total.s()).get() == 1280


def test_a_chain_of_nothing_is_none() -> None:
    empty = cast("Callable[[], object]", chain)
    with pytest.raises(TypeError, match="at least one signature"):
        empty()
