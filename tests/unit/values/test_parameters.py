"""Arguments that do not fit are refused where the task is called, and the message helps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import cast

import pytest
from typing_extensions import override

from tests.support.calling import Maker, Way, by_every_complete_way, by_every_way, delay
from tests.support.shop import Book, order
from tomskit.celery import AsyncCelery, async_shared_task
from tomskit.errors import TaskArgumentsError, TaskResultError, TomsKitError


@by_every_way
def test_a_value_of_another_type_is_refused_before_anything_is_sent(
    published: list[object], call: Way
) -> None:
    with pytest.raises(TaskArgumentsError, match=r"shop\.order: copies is '5' \(str\), not int: "):
        call(order, Book(title="Emma"), "5")

    assert published == []


@by_every_way
def test_a_wrong_keyword_argument_is_refused(published: list[object], call: Way) -> None:
    expected = r"shop\.order: on is 'today' \(str\), not datetime\.date \| None: "
    with pytest.raises(TaskArgumentsError, match=expected):
        call(order, Book(title="Emma"), copies=1, on="today")

    assert published == []


def test_a_wrong_argument_of_a_partial_signature_is_refused(published: list[object]) -> None:
    partial = cast("Callable[..., object]", order.p)

    with pytest.raises(TaskArgumentsError, match=r"shop\.order: copies is '5' \(str\), not int: "):
        partial("5")


def test_the_argument_that_comes_later_is_refused_when_it_comes(published: list[object]) -> None:
    partial = order.p(2)

    with pytest.raises(TaskArgumentsError, match=r"shop\.order: book.*'Emma' \(str\)"):
        cast("Callable[[object], object]", partial.delay)("Emma")

    assert published == []


@by_every_way
def test_what_fits_is_accepted(published: list[object], call: Way) -> None:
    call(order, Book(title="Emma"), 2, on=date(2024, 1, 1))


def test_the_error_is_a_type_error_of_ours() -> None:
    assert issubclass(TaskArgumentsError, TypeError)
    assert issubclass(TaskArgumentsError, TomsKitError)
    assert issubclass(TaskResultError, TypeError)


@by_every_complete_way
def test_a_missing_argument_is_named_with_its_annotation(
    published: list[object], call: Way
) -> None:
    with pytest.raises(TaskArgumentsError, match=r"^shop\.order: copies: int is missing$"):
        call(order, Book(title="Emma"))

    assert published == []


@by_every_way
def test_an_argument_for_no_parameter_is_named(published: list[object], call: Way) -> None:
    with pytest.raises(TaskArgumentsError, match=r"unexpected keyword argument of: 3 \(int\)"):
        call(order, Book(title="Emma"), 2, of=3)

    assert published == []


@by_every_way
def test_one_argument_too_many_is_counted(published: list[object], call: Way) -> None:
    with pytest.raises(TaskArgumentsError, match=r"unexpected positional argument 3: 4 \(int\)"):
        call(order, Book(title="Emma"), 2, 4)

    assert published == []


@by_every_way
def test_an_argument_that_is_given_twice_is_named(published: list[object], call: Way) -> None:
    with pytest.raises(TaskArgumentsError, match="copies is given twice"):
        call(order, Book(title="Emma"), 2, copies=2)

    assert published == []


@by_every_way
def test_arguments_for_a_task_without_parameters_are_refused(
    published: list[object], call: Way
) -> None:
    with pytest.raises(TaskArgumentsError, match="unexpected positional argument 1: 1"):
        call(ping, 1)

    assert published == []


@async_shared_task
async def ping() -> str:
    return "pong"


def test_all_that_is_wrong_is_said_at_once(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError) as caught:
        delay(order, Book(title="Emma"), "two", on=3, of=4)

    message = str(caught.value)
    assert "copies is 'two' (str), not int: " in message
    assert "on is 3 (int), not datetime.date | None: " in message
    assert "unexpected keyword argument of: 4 (int)" in message


def test_a_wrong_part_is_named_by_its_path(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"value\.1\.b\.0 is 'x' \(str\)"):
        delay(nesting, [{}, {"b": ["x"]}])


@async_shared_task
async def nesting(value: list[dict[str, list[int]]]) -> None: ...


def test_a_long_value_is_shortened(app: AsyncCelery) -> None:
    token = "sk-" + "0123456789" * 30

    with pytest.raises(TaskArgumentsError, match=r"'sk-0123.*\.\.\. \(str\), not int") as caught:
        delay(order, Book(title="Emma"), token)

    assert token[:120] not in str(caught.value)


def test_a_long_value_within_another_is_shortened(app: AsyncCelery) -> None:
    token = "sk-" + "0123456789" * 30

    with pytest.raises(TaskArgumentsError) as caught:
        delay(nesting, [{"b": [token]}])

    assert token[:120] not in str(caught.value)


def test_a_value_whose_repr_fails_is_named_all_the_same(make: Maker) -> None:
    class Shy:
        @override
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    with pytest.raises(TaskArgumentsError, match=r"value.*Shy"):
        delay(make.taking(int), Shy())


def test_an_integer_too_long_for_text_is_refused_where_a_text_belongs(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError, match=r"value is .*int.*, not str"):
        delay(make.taking(str), 10**5000)
