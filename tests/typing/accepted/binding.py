# A result that nobody waits for is as it should be here.
# mypy: disable-error-code="unused-awaitable"
"""Whatever a user may write as the type of `self`; and what can be passed on as a BoundTask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from celery import Task
from celery.exceptions import Retry

from tomskit.celery import AsyncTask, BoundTask, TaskRequest, TypedResult, async_shared_task


@async_shared_task(bind=True)
async def by_protocol(self: BoundTask, account: int, *, dry_run: bool = False) -> float:
    assert_type(self.request, TaskRequest)
    assert_type(self.retry(countdown=1, throw=False), Retry)
    return account * self.request.retries


@async_shared_task(bind=True, max_retries=None)
async def by_celery(self: Task[..., Any], account: int, *, dry_run: bool = False) -> float:
    assert_type(self.request.id, str | None)
    return account


@async_shared_task(bind=True)
async def by_celery_object(self: Task[..., object], account: int) -> float:
    return account


@async_shared_task(bind=True, name="binding.by_class")
async def by_class(self: AsyncTask[..., object], account: int, *, dry_run: bool = False) -> float:
    assert_type(self.request.retries, int)
    give_up_or_retry(self, ValueError())
    return account


@async_shared_task(bind=True)
async def by_class_any(self: AsyncTask[..., Any], account: int) -> float:
    return float(account)


@async_shared_task(bind=True)
async def by_own_result(self: AsyncTask[..., float], account: int) -> float:
    return account


@async_shared_task(bind=True)
async def alone(self: BoundTask) -> None:
    self.update_state(state="PROGRESS", meta={"done": 3})


@async_shared_task(bind=True)
async def positional(self: BoundTask, account: int, /, *rates: float, **labels: str) -> list[str]:
    return [*labels.values()][: len(rates) + account]


@async_shared_task(bind=False, max_retries=2)
async def unbound(account: int) -> int:
    return account


def give_up_or_retry(task: BoundTask, exc: Exception) -> None:
    if task.request.retries < 3:
        raise task.retry(exc=exc, countdown=1.5 * task.request.retries)


def self_is_not_a_parameter() -> None:
    assert_type(by_protocol.delay(1), TypedResult[float])
    assert_type(by_protocol.delay(account=1, dry_run=True), TypedResult[float])
    assert_type(by_celery.delay(1, dry_run=True), TypedResult[float])
    assert_type(by_celery_object.delay(1), TypedResult[float])
    assert_type(by_class.delay(1, dry_run=True), TypedResult[float])
    assert_type(by_class_any.delay(1), TypedResult[float])
    assert_type(by_own_result.delay(account=1), TypedResult[float])
    assert_type(alone.delay().get(), None)
    assert_type(positional.delay(1, 0.5, 0.25, label="a").get(), list[str])
    assert_type(unbound.delay(1).get(), int)


async def func_has_its_self() -> None:
    assert_type(await by_protocol.func(1, dry_run=True), float)
    assert_type(await by_class.func(1), float)
    assert_type(await alone.func(), None)


def every_task_is_a_bound_task() -> list[BoundTask]:
    tasks: list[BoundTask] = [by_protocol, by_celery, by_class, alone, positional, unbound]
    give_up_or_retry(unbound, ValueError())
    return tasks


@dataclass
class FakeRequest:
    id: str | None = "1"
    root_id: str | None = None
    parent_id: str | None = None
    retries: int = 2
    hostname: str | None = None
    is_eager: bool = False


class FakeTask:
    """What a test hands to the function of a bound task."""

    name = "fake"
    max_retries = 3

    def __init__(self) -> None:
        self.request = FakeRequest()
        self.states: list[str | None] = []

    def retry(
        self,
        *,
        args: tuple[object, ...] | None = None,
        kwargs: dict[str, object] | None = None,
        exc: Exception | None = None,
        throw: bool = True,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> Retry:
        return Retry(exc=exc)

    def update_state(
        self,
        *,
        task_id: str | None = None,
        state: str | None = None,
        meta: dict[str, object] | None = None,
    ) -> None:
        self.states.append(state)


def a_fake_is_a_bound_task() -> None:
    fake: BoundTask = FakeTask()
    give_up_or_retry(fake, KeyError())
    request: TaskRequest = FakeRequest()
    assert_type(request.retries, int)
