"""async_shared_task: what it refuses, and the tasks that it makes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Never, cast

import pytest
from celery import Celery
from celery.utils.functional import arity_greater

from tomskit.celery import AsyncCelery, BoundTask, async_shared_task
from tomskit.celery._internals.celery_tasks import HEADER
from tomskit.errors import ConfigurationError, NotACoroutineFunctionError


@async_shared_task
async def bare(a: int, *, b: int = 1) -> int:
    """Adds."""
    await asyncio.sleep(0)
    return a + b


@async_shared_task(name="optional", max_retries=7, rate_limit="5/s")
async def optional(a: int) -> int:
    return a


def test_options_are_the_tasks(app: AsyncCelery) -> None:
    assert optional.name == "optional"
    assert optional.max_retries == 7
    assert optional.rate_limit == "5/s"
    assert app.tasks["optional"] == optional


def test_plain_celery_app_runs_it_too() -> None:
    Celery("plain", broker="memory://", task_always_eager=True).set_current()

    assert bare.delay(1, b=2).get() == 3


def test_plain_function_is_refused_at_decoration() -> None:
    def plain(a: int) -> int:
        return a

    wrong = cast("Callable[[int], Coroutine[object, Never, int]]", plain)
    with pytest.raises(NotACoroutineFunctionError, match="async def"):
        async_shared_task(wrong)
    with pytest.raises(TypeError, match="async def"):
        async_shared_task(name="x")(wrong)
    with pytest.raises(TypeError, match="async def"):
        async_shared_task(cast("Callable[[int], Coroutine[object, Never, int]]", bare))


def test_self_without_bind_is_refused_at_decoration() -> None:
    async def forgotten(self: BoundTask, a: int) -> int:
        return a

    with pytest.raises(ConfigurationError, match=r"bind=True"):
        async_shared_task(forgotten)


@pytest.mark.parametrize("bind", [False, True])
def test_celery_knows_an_error_callback_by_its_header(app: AsyncCelery, bind: bool) -> None:
    async def failed(request: object, exc: object, traceback: object) -> None: ...
    async def failed_bound(self: BoundTask, task_id: str) -> None: ...

    task = async_shared_task(bind=True)(failed_bound) if bind else async_shared_task(failed)

    # Of more than one argument it takes the request, the exception and the traceback.
    assert arity_greater(getattr(task, HEADER), 1) is not bind
