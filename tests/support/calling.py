"""Ways to call a task, and tasks of any annotation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import count
from typing import Final, Never, Protocol, cast

import pytest

from tomskit.celery import AsyncTask, async_shared_task

_numbers = count()


class Way(Protocol):
    """A way of calling a task."""

    def __call__(
        self, task: AsyncTask[..., object], /, *args: object, **kwargs: object
    ) -> object: ...


def delay(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.delay(*args, **kwargs)


def adelay(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return asyncio.run(cast("Coroutine[object, Never, object]", task.adelay(*args, **kwargs)))


def apply_async(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.apply_async(args, kwargs)


def apply(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.apply(args, kwargs)


def s(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.s(*args, **kwargs)


def si(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.si(*args, **kwargs)


def options_delay(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.options(countdown=1).delay(*args, **kwargs)


def options_si(task: AsyncTask[..., object], /, *args: object, **kwargs: object) -> object:
    return task.options(countdown=1).si(*args, **kwargs)


COMPLETE: Final[tuple[Way, ...]] = (
    delay,
    adelay,
    apply_async,
    apply,
    si,
    options_delay,
    options_si,
)
"""Ways to call a task that want all of its arguments."""

by_every_way = pytest.mark.parametrize("call", [*COMPLETE, s])
by_every_complete_way = pytest.mark.parametrize("call", COMPLETE)


class Maker:
    """Makes tasks, and keeps what their functions got."""

    def __init__(self) -> None:
        self.received: list[object] = []

    def taking(self, annotation: object) -> AsyncTask[..., object]:
        received = self.received

        async def function(value: object) -> None:
            received.append(value)

        function.__annotations__ = {"value": annotation, "return": None}
        return async_shared_task(name=f"taking-{next(_numbers)}")(function)

    def returning(self, annotation: object, value: object) -> AsyncTask[..., object]:
        async def function() -> object:
            return value

        function.__annotations__ = {"return": annotation}
        return async_shared_task(name=f"returning-{next(_numbers)}")(function)
