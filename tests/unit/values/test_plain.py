"""The check for arguments that JSON has as they are."""

import inspect
from collections.abc import Callable
from datetime import date
from typing import get_type_hints

import pytest
from pydantic import Field

from tests.support.shop import Level, Word
from tomskit.celery import AsyncCelery, async_shared_task
from tomskit.celery._values.plain import never_plain, plain_check
from tomskit.errors import TaskArgumentsError


def check_of(function: Callable[..., object]) -> Callable[..., bool]:
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return plain_check([one.replace(annotation=hints[one.name]) for one in parameters])


def every(a: int, b: str = "b", /, *, c: float, d: bool = False, e: None = None) -> None: ...
def nothing() -> None: ...
def of_unions(a: int | None) -> None: ...
def of_dates(a: int, day: date) -> None: ...
def any_number(*numbers: int) -> None: ...
def any_names(**numbers: int) -> None: ...
def named_like_a_builtin(type: int) -> None: ...  # noqa: A002
def with_a_field_as_default(a: int = Field(5, gt=1)) -> None: ...


def named_like_a_type(int: str) -> None: ...  # noqa: A002


def test_arguments_of_exactly_these_types_are_plain() -> None:
    check = check_of(every)

    assert check(1, c=0.5)
    assert check(1, "x", c=0.5, d=True, e=None)
    assert check_of(nothing)()


@pytest.mark.parametrize("value", [True, 1.0, "1", None, Level.LOW])
def test_arguments_of_other_types_are_not(value: object) -> None:
    assert not check_of(every)(value, c=0.5)


def test_neither_is_a_member_of_an_enum_of_texts() -> None:
    assert not check_of(every)(1, Word.YES, c=0.5)


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, "x", 2), {"c": 0.5}), ((1,), {"c": 0.5, "f": 1})]
)
def test_too_many_or_too_few_are_a_type_error(
    args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    with pytest.raises(TypeError):
        check_of(every)(*args, **kwargs)


@pytest.mark.parametrize(
    "function",
    [
        *(of_unions, of_dates, any_number, any_names, named_like_a_builtin, named_like_a_type),
        with_a_field_as_default,
    ],
    ids=lambda function: function.__name__,
)
def test_of_other_functions_no_call_is_plain(function: Callable[..., object]) -> None:
    assert check_of(function) is never_plain
    assert not never_plain(1, d=True)


def test_a_field_as_default_is_what_it_says(app: AsyncCelery) -> None:
    @async_shared_task
    async def double(number: int = Field(5, gt=1)) -> int:
        return number * 2

    for _ in range(2):
        assert double.delay().get() == 10
        assert double.delay(3).get() == 6
        with pytest.raises(TaskArgumentsError, match=r"number is 0 .*greater than 1"):
            double.delay(0)
