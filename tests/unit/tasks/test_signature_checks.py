"""What is refused where a signature is made, joined to another or sent."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.support.pictures import Picture, join, load, scale, untyped, width
from tomskit.celery import AsyncCelery, chain, group
from tomskit.errors import TaskArgumentsError


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
