"""Which functions are checked, what they get, and what fails without a retry."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Concatenate, Never, NotRequired, ParamSpec, TypeVar, cast

import pytest
from kombu.exceptions import EncodeError
from pydantic import BaseModel
from typing_extensions import TypedDict, Unpack

from tests.support.calling import Maker, delay
from tests.support.shop import Customer, Span, Word
from tomskit.celery import AsyncCelery, AsyncTask, BoundTask, TypedResult, async_shared_task
from tomskit.errors import ConfigurationError, TaskArgumentsError, TaskResultError

if TYPE_CHECKING:
    from decimal import Decimal as HiddenDecimal

    from tomskit.celery import BoundTask as HiddenTask

P = ParamSpec("P")
R = TypeVar("R")


# -- annotations that cannot be resolved


def test_a_name_that_is_imported_for_type_checkers_only_is_refused(app: AsyncCelery) -> None:
    with pytest.raises(ConfigurationError, match=r"HiddenDecimal.*Import the name at run time"):
        delay(pay, Decimal(1))


@async_shared_task
async def pay(amount: HiddenDecimal) -> None: ...


def test_such_a_name_in_the_annotation_of_the_result_is_refused_too(app: AsyncCelery) -> None:
    with pytest.raises(ConfigurationError, match=r"HiddenDecimal.*not only under TYPE_CHECKING"):
        delay(earn, 1)


@async_shared_task
async def earn(hours: int) -> HiddenDecimal:
    return Decimal(hours)


@pytest.mark.parametrize("annotation", ["dict[str, int", "not_defined.Here"])
def test_what_is_no_annotation_is_refused(make: Maker, annotation: str) -> None:
    task = make.taking(annotation)

    with pytest.raises(ConfigurationError, match=task.name):
        delay(task, 1)


def test_the_class_of_self_is_never_resolved(app: AsyncCelery) -> None:
    assert double.delay(4).get() == 8
    assert double.s(4).apply().get() == 8


@async_shared_task(bind=True)
async def double(self: HiddenTask, n: int) -> int:
    assert self.name == double.name
    return 2 * n


def test_a_wrapped_function_has_a_self_that_is_never_resolved_either(app: AsyncCelery) -> None:
    @async_shared_task(bind=True)
    @logged
    async def halve(self: HiddenTask, n: int) -> int:
        return n // 2

    assert halve.delay(4).get() == 2


def test_a_parameter_after_self_is_resolved(app: AsyncCelery) -> None:
    with pytest.raises(ConfigurationError, match=r"HiddenDecimal.*Import the name at run time"):
        delay(charge, Decimal(1))


@async_shared_task(bind=True)
async def charge(self: HiddenTask, amount: HiddenDecimal) -> None: ...


# -- tasks that say less


async def _bare(*args: object, **kwargs: object) -> object:
    return [args, kwargs]


async def _partly(checked: int, free: object, *, also: date) -> object:
    return [checked, free, also.isoformat()]


# Taken away here, because type checkers want them.
_bare.__annotations__.clear()
del _partly.__annotations__["free"]
bare: AsyncTask[..., object] = async_shared_task(_bare)
partly: AsyncTask[..., object] = async_shared_task(_partly)


def test_without_annotations_values_arrive_as_with_plain_celery(app: AsyncCelery) -> None:
    result = bare.delay((1, (2,)), word=Word.YES, when=date(2024, 1, 1))

    assert result.get() == [([1, [2]],), {"word": "yes", "when": date(2024, 1, 1)}]


def test_without_annotations_pass_models_as_plain_celery_does_not(app: AsyncCelery) -> None:
    with pytest.raises((EncodeError, TaskArgumentsError)):
        delay(bare, Customer())


def test_a_parameter_without_annotation_is_left_alone_beside_others(app: AsyncCelery) -> None:
    assert partly.delay(1, (2,), also=date(2024, 1, 1)).get() == [1, [2], "2024-01-01"]


def test_the_other_parameters_are_checked_all_the_same(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"also is '2024-01-01' \(str\)") as caught:
        delay(partly, 1, (2,), also="2024-01-01")

    assert "free" not in str(caught.value)


def test_a_result_without_annotation_is_left_alone(make: Maker) -> None:
    async def unsaid(number: int) -> object:
        return {"number": number}

    del unsaid.__annotations__["return"]

    assert async_shared_task(unsaid).delay(1).get() == {"number": 1}


def test_with_typing_false_nothing_is_checked_where_it_is_called(published: list[object]) -> None:
    delay(unchecked, "5", on="2024-01-01")

    assert published == [(("5",), {"on": "2024-01-01"})]


def test_with_typing_false_values_become_what_the_annotations_say(app: AsyncCelery) -> None:
    call = cast("Callable[..., TypedResult[str]]", unchecked.delay)

    assert call("5", on="2024-01-01").get() == "5 on Monday"


def test_with_typing_false_what_does_not_fit_fails_in_the_task(app: AsyncCelery) -> None:
    call = cast("Callable[..., TypedResult[str]]", unchecked.delay)

    with pytest.raises(TaskArgumentsError, match=r"copies is 'five' \(str\), not int"):
        call("five", on="2024-01-01").get()


@async_shared_task(typing=False)
async def unchecked(copies: int, on: date) -> str:
    return f"{copies} on {on:%A}"


def test_with_pickle_objects_arrive_as_they_are(app: AsyncCelery) -> None:
    app.conf.accept_content = ["pickle"]

    assert keep.delay((1, Customer), Word.YES).get() == "(tuple, Word)"


@async_shared_task(serializer="pickle")
async def keep(pair: Any, word: object) -> str:
    return f"({type(pair).__name__}, {type(word).__name__})"


# -- functions


def test_self_is_no_parameter_of_a_bound_task(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError) as caught:
        delay(bound, "5")

    assert "number is '5' (str), not int" in str(caught.value)
    assert "self" not in str(caught.value)


def test_a_bound_task_gets_what_was_sent(app: AsyncCelery) -> None:
    assert bound.delay(5).get() == 5


@async_shared_task(bind=True)
async def bound(self: BoundTask, number: int) -> int:
    return number


def logged(
    function: Callable[P, Coroutine[object, Never, R]],
) -> Callable[P, Coroutine[object, Never, R]]:
    @functools.wraps(function)
    async def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        return await function(*args, **kwargs)

    return inner


@async_shared_task
@logged
async def decorated(day: date) -> int:
    return day.year


def test_the_annotations_of_a_wrapped_function_count(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"day is '2024-01-01' \(str\)"):
        delay(decorated, "2024-01-01")


def test_a_wrapped_function_gets_what_its_annotations_say(app: AsyncCelery) -> None:
    assert decorated.delay(date(2024, 1, 1)).get() == 2024


def yearly(function: Callable[[int], Coroutine[object, Never, int]]) -> Any:
    """Changes what a function takes and returns, and says so in a signature."""

    @functools.wraps(function)
    async def inner(day: date, *more: date) -> list[date]:
        year = await function(day.year)
        return [one.replace(year=year) for one in (day, *more)]

    signature = inspect.signature(inner, follow_wrapped=False)
    parameters = [one.replace(annotation="date") for one in signature.parameters.values()]
    vars(inner)["__signature__"] = inspect.Signature(parameters, return_annotation=list[date])
    return inner


def test_the_signature_that_a_decorator_declares_counts(app: AsyncCelery) -> None:
    @async_shared_task(name="next-year")
    @yearly
    async def task(year: int) -> int:
        return year + 1

    days = date(2024, 1, 1), date(2023, 2, 2)

    assert task.delay(*days).get() == [date(2025, 1, 1), date(2025, 2, 2)]
    with pytest.raises(TaskArgumentsError, match=r"day is 2024 \(int\)"):
        delay(task, 2024)


@pytest.mark.filterwarnings("error")
def test_a_decorator_need_not_say_what_it_has_wrapped(app: AsyncCelery) -> None:
    def counting(
        function: Callable[Concatenate[int, P], Coroutine[object, Never, R]],
    ) -> Callable[P, Coroutine[object, Never, R]]:
        async def inner(*args: P.args, **kwargs: P.kwargs) -> R:
            return await function(100, *args, **kwargs)

        return inner

    @async_shared_task(name="counted")
    @counting
    async def task(first: int, second: int) -> int:
        return first + second

    assert task.delay(5).get() == 105
    assert task.delay(second=5).get() == 105


def test_classes_of_the_enclosing_function_are_found(app: AsyncCelery) -> None:
    class Local(BaseModel):
        day: date

    @async_shared_task(name="with-a-local-class")
    async def task(local: Local) -> Local:
        return Local(day=local.day + timedelta(1))

    assert task.delay(Local(day=date(2024, 1, 1))).get() == Local(day=date(2024, 1, 2))


def test_the_types_of_keyword_arguments_may_come_from_a_typed_dict(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"start is '2024-01-01' \(str\)"):
        delay(between, start="2024-01-01")


@async_shared_task
async def between(**span: Unpack[Span]) -> list[date]:
    return [span["start"]]


def test_keyword_arguments_of_a_typed_dict_arrive(app: AsyncCelery) -> None:
    assert between.delay(start=date(2024, 1, 1)).get() == [date(2024, 1, 1)]


def test_a_keyword_argument_of_a_typed_dict_is_checked_by_its_own_annotation(
    app: AsyncCelery,
) -> None:
    assert measure.delay(ratio=1, marks=(1, 2)).get() == "1.0 [1, 2]"
    with pytest.raises(TaskArgumentsError, match=r"ratio is 'x' \(str\), not float"):
        delay(measure, ratio="x")
    with pytest.raises(TaskArgumentsError, match=r"ratio: float is missing"):
        delay(measure)


def test_a_keyword_argument_that_a_typed_dict_lacks_is_refused(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"unexpected keyword argument width: 2 \(int\)"):
        delay(measure, ratio=1.5, width=2)


class Measures(TypedDict):
    ratio: float
    marks: NotRequired[Sequence[int]]


@async_shared_task
async def measure(**measures: Unpack[Measures]) -> str:
    return f"{measures['ratio']} {measures.get('marks')}"


def test_each_of_many_arguments_is_checked(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError) as caught:
        delay(add, 1, "2", a=1.5, b="3")

    assert "'2' (str)" in str(caught.value)
    assert "'3' (str)" in str(caught.value)


@async_shared_task
async def add(*numbers: int, **named: float) -> float:
    return sum(numbers) + sum(named.values())


def test_many_arguments_arrive(app: AsyncCelery) -> None:
    assert add.delay(1, 2, a=1, b=0.5).get() == 4.5


# -- retries


def test_arguments_that_do_not_fit_are_not_tried_again(app: AsyncCelery) -> None:
    call = cast("Callable[..., TypedResult[int]]", stubborn.delay)

    with pytest.raises(TaskArgumentsError):
        call("five").get()

    assert tries == []


def test_a_result_that_does_not_fit_is_not_made_again(app: AsyncCelery) -> None:
    with pytest.raises(TaskResultError):
        stubborn.delay(5).get()

    assert tries == [5]


def test_other_errors_are_tried_again(app: AsyncCelery) -> None:
    with pytest.raises(ZeroDivisionError):
        stubborn.delay(0).get()

    assert tries == [0, 0, 0]


tries: list[int] = []


@pytest.fixture(autouse=True)
def _no_tries() -> None:
    tries.clear()


@async_shared_task(
    typing=False,
    autoretry_for=(Exception,),
    max_retries=2,
    default_retry_delay=0,
)
async def stubborn(number: int) -> int:
    tries.append(number)
    return cast("int", str(1 / number))


# -- messages from elsewhere


class TestFromElsewhere:
    """A plain client sends JSON; the task in the registry is what a worker calls."""

    @pytest.fixture
    def registered(self, app: AsyncCelery) -> AsyncTask[..., object]:
        return cast("AsyncTask[..., object]", app.tasks["shop.order"])

    def test_it_becomes_what_the_annotations_say(self, registered: AsyncTask[..., object]) -> None:
        body = {"title": "Emma", "authors": [{"name": "Jane", "born": "1775-12-16"}]}

        assert registered.apply((body, "2"), {"on": "2024-01-01"}).get() == ["Emma", "Emma"]

    def test_what_does_not_fit_is_refused(self, registered: AsyncTask[..., object]) -> None:
        with pytest.raises(TaskArgumentsError, match=r"book\.title.*missing|book\.title.*required"):
            registered.apply(({}, 2)).get()
