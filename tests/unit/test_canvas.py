"""Signatures, chains, groups and chords at run time: what checkers see is what there is."""

import asyncio
import pickle
from collections.abc import Callable
from typing import Any, cast

import celery
import pytest
from celery import canvas
from celery.canvas import Signature
from pydantic import BaseModel

from tomskit.celery import (
    AsyncCelery,
    ImmutableGroup,
    ImmutableSignature,
    PartialGroup,
    PartialSignature,
    TaskCall,
    TypedGroup,
    TypedGroupResult,
    TypedSignature,
    async_shared_task,
    chain,
    chord,
    group,
)
from tomskit.errors import TaskArgumentsError


class Picture(BaseModel):
    name: str
    width: int = 640


@async_shared_task
async def load(name: str) -> Picture:
    return Picture(name=name)


@async_shared_task
async def scale(picture: Picture, factor: float = 0.5, *, suffix: str = "") -> Picture:
    return Picture(name=picture.name + suffix, width=int(picture.width * factor))


@async_shared_task
async def width(picture: Picture) -> int:
    return picture.width


@async_shared_task
async def total(widths: list[int]) -> int:
    return sum(widths)


@async_shared_task
async def ready() -> str:
    return "ready"


@async_shared_task(name="canvas.unannotated")
async def unannotated(a, b=2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return [a, b]  # pyright: ignore[reportUnknownVariableType]


def untyped(task: object) -> Any:
    """The task for calls that type checkers refuse."""
    return task


def join(left: Any, right: Any) -> Any:
    return left | right


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


def test_partial_signature_is_sent_with_its_first_argument(app: AsyncCelery) -> None:
    assert width.p().delay(Picture(name="a")).get() == 640
    assert (scale.p(2) | width.p()).delay(Picture(name="a")).get() == 1280
    assert group(width.p(), width.p()).delay(Picture(name="a")).get() == [640, 640]


def test_first_argument_that_does_not_fit_is_refused(app: AsyncCelery) -> None:
    for signature in (width.p(), scale.p() | width.p(), group(width.p(), width.p())):
        with pytest.raises(TaskArgumentsError, match="picture is 'a'"):
            untyped(signature).delay("a")


def test_values_that_do_not_fit_are_refused_when_the_signature_is_made(app: AsyncCelery) -> None:
    for make in (load.s, load.si, load.options(queue="q").s):
        with pytest.raises(TaskArgumentsError, match=r"name is 3 \(int\), not str"):
            untyped(make)(3)
    with pytest.raises(TaskArgumentsError, match="factor is 'x'"):
        untyped(scale.p)("x")
    with pytest.raises(TaskArgumentsError, match="factor is 'x'"):
        untyped(scale.s)(Picture(name="a"), "x")
    with pytest.raises(TaskArgumentsError, match="name: str is missing"):
        untyped(load.si)()


def test_complete_signature_cannot_follow(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"unexpected positional argument 2: .*\.si\(\)"):
        join(untyped(load.s("a")), load.s("b"))


def test_nothing_but_a_signature_is_chained(app: AsyncCelery) -> None:
    for other in ({"a": 1}, width, 3):
        with pytest.raises(TypeError, match="are joined with signatures"):
            join(untyped(load.s("a")), other)
        with pytest.raises(TypeError, match="are joined with signatures"):
            join(untyped(other), load.s("a"))


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


def test_signatures_work_in_celerys_own_canvas(app: AsyncCelery) -> None:
    header = celery.group(load.s("a") | width.s(), load.s("b") | width.s())

    assert celery.chain(load.s("a"), width.s())().get() == 640
    assert celery.chord(header)(total.s()).get() == 1280


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


def test_map_checks_items_and_sends_results(app: AsyncCelery) -> None:
    pictures = [Picture(name="a"), Picture(name="b", width=3)]

    mapped = cast("list[dict[str, object]]", scale.map(pictures).apply_async().get())
    assert [one["width"] for one in mapped] == [320, 1]
    starred = scale.starmap([(pictures[0], 2.0)]).apply_async().get()
    assert cast("list[dict[str, object]]", starred)[0]["width"] == 1280
    with pytest.raises(TaskArgumentsError):
        width.map(["a"])


def test_direct_call_gives_the_value_itself(app: AsyncCelery) -> None:
    assert load("a") == Picture(name="a")
    assert load.s("a")() == Picture(name="a")


@pytest.mark.parametrize(
    "signature",
    [
        lambda: load.s("a"),
        lambda: group(load.s("a"), load.s("b")),
        lambda: chain(load.s("a"), width.s()),
    ],
    ids=["signature", "group", "chain"],
)
def test_nothing_but_a_signature_comes_before_one(signature: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="are joined with signatures"):
        cast("object", 1 | signature())


def test_a_chain_of_nothing_is_none() -> None:
    empty = cast("Callable[[], object]", chain)
    with pytest.raises(TypeError, match="at least one signature"):
        empty()
