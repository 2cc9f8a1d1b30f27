"""What may be decorated: what works like a coroutine function, and what is refused."""

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine
from datetime import date
from typing import Any, ParamSpec, TypeVar, cast

import pytest

from tomskit.celery import AsyncCelery, AsyncTask, async_shared_task
from tomskit.errors import ConfigurationError, NotACoroutineFunctionError

P = ParamSpec("P")
R = TypeVar("R")


async def add_days(day: date, days: int = 1) -> date:
    """Adds days."""
    await asyncio.sleep(0)
    return date.fromordinal(day.toordinal() + days)


def untyped(found: object) -> Any:
    return found


def logged(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return await function(*args, **kwargs)

    return wrapper


def passed_on(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return wrapper


class Adder:
    def __init__(self, days: int) -> None:
        self.days = days

    async def __call__(self, day: date) -> date:
        return await add_days(day, self.days)

    async def method(self, day: date) -> date:
        return await self(day)

    @classmethod
    async def of_class(cls, day: date) -> date:
        return await cls(1)(day)

    async def __aiter__(self) -> AsyncGenerator[int]:
        yield self.days


async def numbers(n: int) -> AsyncGenerator[int]:
    yield n


class Numbers:
    async def __call__(self, n: int) -> AsyncGenerator[int]:
        yield n


Decorator = Callable[..., Callable[[object], AsyncTask[[date], date]]]

TASKS: dict[str, Callable[[Decorator], AsyncTask[[date], date]]] = {
    "partial": lambda make: make(name="made.partial")(functools.partial(add_days, days=2)),
    "partial of a partial": lambda make: make(name="made.nested")(
        functools.partial(functools.partial(functools.partial(add_days), days=5), days=2)
    ),
    "callable object": lambda make: make(name="made.callable")(Adder(2)),
    "partial of a callable object": lambda make: make(name="made.both")(
        functools.partial(Adder(2))
    ),
    "bound method": lambda make: make(name="made.method")(Adder(2).method),
    "bound method without a name": lambda make: make()(Adder(2).method),
    "staticmethod": lambda make: make(name="made.static")(
        staticmethod(functools.partial(add_days, days=2))
    ),
    "wrapped by a coroutine function": lambda make: make(name="made.logged")(
        functools.partial(logged(add_days), days=2)
    ),
}
both_decorators = pytest.mark.parametrize("decorator", ["async_shared_task", "app.task"])


def decorator_of(app: AsyncCelery, name: str) -> Any:
    return async_shared_task if name == "async_shared_task" else app.task


@both_decorators
@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)
def test_works_with_a_name(
    app: AsyncCelery, make: Callable[[Decorator], AsyncTask[[date], date]], decorator: str
) -> None:
    task = make(decorator_of(app, decorator))

    assert isinstance(task, AsyncTask)
    assert task.delay(date(2026, 1, 1)).get() == date(2026, 1, 3)
    assert asyncio.run(task.func(date(2026, 1, 1))) == date(2026, 1, 3)
    with pytest.raises(TypeError, match="day is 'x'"):
        untyped(task).delay("x")


@both_decorators
@pytest.mark.parametrize(
    "found", [functools.partial(add_days, days=2), Adder(2)], ids=["partial", "callable"]
)
def test_has_no_name_of_its_own(app: AsyncCelery, found: object, decorator: str) -> None:
    for options in ({}, {"name": None}, {"name": ""}):
        with pytest.raises(ConfigurationError, match='name="'):
            decorator_of(app, decorator)(**options)(found)


@pytest.mark.parametrize("name", ["shop.charge-v2", "shop:charge", "shop.import", "7", "<é>"])
@pytest.mark.parametrize("found", [functools.partial(add_days, days=2), Adder(2)])
def test_any_name_will_do(app: AsyncCelery, name: str, found: object) -> None:
    task = untyped(app.task)(name=name)(found)

    assert task.name == name
    assert task.delay(date(2026, 1, 1)).get() == date(2026, 1, 3)


def test_documentation_and_annotations_are_those_of_the_function() -> None:
    task = async_shared_task(name="made.documented")(functools.partial(add_days, days=2))

    assert task.__doc__ == "Adds days."
    assert task.__name__ == "documented"


def test_staticmethod_of_a_class(app: AsyncCelery) -> None:
    class Tasks:
        @async_shared_task
        @staticmethod
        async def below(a: int) -> int:
            return a

        @staticmethod
        @async_shared_task
        async def above(a: int) -> int:
            return a

    assert Tasks.below.delay(1).get() == 1
    assert Tasks.above.delay(2).get() == 2


REFUSED: dict[str, tuple[object, str]] = {
    "generator": (numbers, "has one result"),
    "partial of a generator": (functools.partial(numbers, 1), "has one result"),
    "callable generator": (Numbers(), "has one result"),
    "class method": (vars(Adder)["of_class"], "make it a staticmethod"),
    "wrapped by a plain function": (passed_on(add_days), "put a plain function around"),
    "lambda": (lambda: add_days(date.min), "async def"),
    "class": (Adder, "async def"),
    "partial of a plain function": (functools.partial(print, 1), "async def"),
    "object": (object(), "async def"),
    "coroutine": (3, "async def"),
}


@pytest.mark.parametrize(("found", "message"), REFUSED.values(), ids=REFUSED)
def test_is_refused(found: object, message: str) -> None:
    with pytest.raises(NotACoroutineFunctionError, match=message):
        untyped(async_shared_task)(name="refused")(found)


@pytest.mark.parametrize("found", [numbers, Numbers()], ids=["function", "object"])
def test_asynchronous_generator_is_refused_by_the_app(app: AsyncCelery, found: object) -> None:
    with pytest.raises(NotACoroutineFunctionError, match="has one result"):
        untyped(app.task)(name="refused")(found)


def test_a_task_is_refused_once_more(app: AsyncCelery) -> None:
    task = async_shared_task(add_days)

    for again in (async_shared_task, app.task):
        with pytest.raises(NotACoroutineFunctionError, match="is a task already"):
            cast("Any", again)(task)


async def anything(*args: Any, **kwargs: Any) -> list[Any]:
    return [type(args[0]).__name__, *args[1:], kwargs]


def test_a_bound_function_may_take_its_task_among_any_arguments(app: AsyncCelery) -> None:
    task = untyped(async_shared_task(bind=True, name="anything")(untyped(anything)))

    assert task.delay(1, "two", three=3).get() == ["anything", 1, "two", {"three": 3}]
    assert (task.s(1) | task.s(2)).delay().get()[1:3] == [["anything", 1, {}], 2]
    assert [*inspect.signature(task).parameters] == ["args", "kwargs"]


async def without_parameters() -> None: ...


async def by_name_only(*, self: object) -> None: ...


async def named_arguments(**arguments: object) -> None: ...


@pytest.mark.parametrize("function", [without_parameters, by_name_only, named_arguments])
def test_a_bound_function_that_cannot_take_its_task_is_refused(
    app: AsyncCelery, function: object
) -> None:
    for decorator in (untyped(async_shared_task), untyped(app.task)):
        with pytest.raises(ConfigurationError, match=r"bind=True.*no positional parameter"):
            decorator(bind=True)(untyped(function))
