"""Plain tasks that return a coroutine, which nobody would await."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
from celery import Task, shared_task
from typing_extensions import override

from tomskit.celery import AsyncCelery
from tomskit.errors import NotACoroutineFunctionError


async def add(a: int, b: int) -> int:
    return a + b


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


def synchronous(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return asyncio.run(function(*args, **kwargs))

    return wrapper


def made(app: AsyncCelery) -> list[Task[..., Any]]:
    @shared_task(name="made.shared", bind=True)
    def shared(self: object, a: int, b: int) -> object:
        return add(a, b)

    class Adding(Task[..., Any]):
        name = "made.class"

        @override
        def run(self, *args: Any, **kwargs: Any) -> object:
            return add(*args, **kwargs)

    return [
        app.task(name="made.decorated")(logged(add)),
        app.task(name="made.retried", autoretry_for=(ValueError,))(logged(add)),
        app.tasks[shared.name],
        app.register_task(Adding()),
    ]


@pytest.mark.filterwarnings("error")
def test_a_coroutine_that_a_plain_task_returns_is_an_error(app: AsyncCelery) -> None:
    for task in made(app):
        with pytest.raises(NotACoroutineFunctionError, match=f"{task.name}.* the coroutine add,"):
            task.delay(1, 2).get()


def test_who_calls_such_a_task_like_a_function_gets_the_coroutine(app: AsyncCelery) -> None:
    for task in made(app):
        called: Any = task(1, 2)

        assert asyncio.run(called) == 3


def test_a_plain_function_that_runs_the_coroutine_is_a_task(app: AsyncCelery) -> None:
    task = app.task(name="made.synchronous")(synchronous(add))

    assert task.delay(1, 2).get() == 3
