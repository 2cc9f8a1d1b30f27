"""Signatures at run time: what checkers see is what there is."""

import asyncio
import pickle
from collections.abc import Callable

import celery
import pytest
from celery import canvas
from celery.canvas import Signature

from tests.support.pictures import Picture, load, ready, scale, total, untyped, width
from tomskit.celery import (
    AsyncCelery,
    ImmutableGroup,
    ImmutableSignature,
    PartialGroup,
    PartialSignature,
    TaskCall,
    TypedGroup,
    TypedSignature,
    async_shared_task,
    chain,
    chord,
    group,
)


@async_shared_task(name="canvas.unannotated")
async def unannotated(a, b=2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return [a, b]  # pyright: ignore[reportUnknownVariableType]


@pytest.mark.parametrize(
    ("made", "ours", "celerys"),
    [
        (lambda: load.s("a"), TypedSignature, Signature),
        (lambda: load.si("a"), ImmutableSignature, Signature),
        (lambda: scale.p(2), PartialSignature, Signature),
        (width.s, PartialSignature, Signature),
        (lambda: load.options(queue="q").s("a"), TypedSignature, Signature),
        (lambda: load.options(queue="q").si("a"), ImmutableSignature, Signature),
        (lambda: load.s("a") | width.p(), TypedSignature, canvas._chain),
        (lambda: load.s("a") | scale.p() | ready.si(), TypedSignature, canvas._chain),
        (lambda: scale.p() | width.p(), PartialSignature, canvas._chain),
        (lambda: chain(load.s("a"), scale.p(), width.p()), TypedSignature, canvas._chain),
        (lambda: chain(scale.p(), width.p()), PartialSignature, canvas._chain),
        (lambda: group(load.s("a"), load.s("b")), TypedGroup, celery.group),
        (lambda: group(load.si("a"), ready.si()), ImmutableGroup, celery.group),
        (lambda: group(scale.p(), width.p()), PartialGroup, celery.group),
        (lambda: load.s("a") | group(scale.p(), scale.p(2)), TypedGroup, canvas._chain),
        (lambda: load.s("a") | group(ready.si(), load.si("b")), TypedGroup, canvas._chain),
        (lambda: scale.p() | group(scale.p(), scale.p(2)), PartialGroup, canvas._chain),
        (lambda: load.s("a") | group([width.p()]), TypedGroup, canvas._chain),
        (lambda: load.s("a") | group([width.p()]) | total.p(), TypedSignature, canvas._chain),
        (lambda: chord([ready.si()], ready.si()), TypedSignature, celery.chord),
        (lambda: group(width.p(), width.p()) | total.p(), PartialSignature, celery.chord),
    ],
)
def test_class_is_the_one_that_checkers_see(
    app: AsyncCelery,
    made: Callable[[], Signature[object]],
    ours: type[object],
    celerys: type[object],
) -> None:
    signature = made()

    assert isinstance(signature, ours)
    assert isinstance(signature, celerys)
    assert type(signature.clone()) is type(signature)
    assert untyped(signature).set(priority=3) is signature


def test_partial_signature_is_sent_with_its_first_argument(app: AsyncCelery) -> None:
    assert width.p().delay(Picture(name="a")).get() == 640
    assert (scale.p(2) | width.p()).delay(Picture(name="a")).get() == 1280
    assert group(width.p(), width.p()).delay(Picture(name="a")).get() == [640, 640]


def test_options_are_those_of_the_call(app: AsyncCelery) -> None:
    call = load.options(queue="slow", countdown=3)

    assert isinstance(call, TaskCall)
    assert call.s("a").options == {"queue": "slow", "countdown": 3}
    assert call.delay("a").get() == Picture(name="a")
    assert "load: {'queue': 'slow'" in repr(call)


def test_adelay_of_signatures(app: AsyncCelery) -> None:
    async def send() -> list[object]:
        return [
            await (await load.s("a").adelay()),
            await (await width.p().adelay(Picture(name="b"))),
            await (await group(load.s("c"), ready.s()).adelay()),
            await (await group(width.p(), width.p()).adelay(Picture(name="d"))),
            await (await load.options(countdown=1).adelay("e")),
        ]

    assert asyncio.run(send()) == [
        Picture(name="a"),
        640,
        [Picture(name="c"), "ready"],
        [640, 640],
        Picture(name="e"),
    ]


def test_signature_survives_pickle_as_celerys_does(app: AsyncCelery) -> None:
    copy: Signature[object] = pickle.loads(pickle.dumps(load.s("a") | width.p()))

    assert copy.apply_async().get() == 640


def test_link_gets_the_result(app: AsyncCelery) -> None:
    seen: list[int] = []

    @async_shared_task(name="canvas.note")
    async def note(picture: Picture) -> None:
        seen.append(picture.width)

    signature = load.s("a")
    signature.link(note.p())
    signature.delay().get()

    assert seen == [640]


def test_unannotated_task_is_checked_for_the_number_of_arguments(app: AsyncCelery) -> None:
    task = app.tasks["canvas.unannotated"]

    assert isinstance(task.s(1), TypedSignature)
    assert isinstance(task.s(), PartialSignature)
    assert task.s((1, 2)).delay().get() == [[1, 2], 2]


def test_direct_call_gives_the_value_itself(app: AsyncCelery) -> None:
    assert load("a") == Picture(name="a")
    assert load.s("a")() == Picture(name="a")
