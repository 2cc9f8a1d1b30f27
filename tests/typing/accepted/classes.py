# A result that nobody waits for is as it should be here.
# mypy: disable-error-code="unused-awaitable"
"""Classes of tasks, tasks of an app, and periodic ones."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, assert_type

from billiard.einfo import ExceptionInfo
from celery import Task
from celery.schedules import crontab, schedule, solar
from typing_extensions import override

from tomskit.celery import (
    AppTaskOptions,
    AsyncCelery,
    AsyncTask,
    BoundTask,
    TaskOptions,
    TypedResult,
    async_shared_task,
)


class Plain(Task[..., Any]):
    """As of a project that uses Celery."""

    unique_on: list[str] | None = None

    @override
    def on_success(
        self, retval: object, task_id: str, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None: ...


class Ours(AsyncTask[..., Any]):
    """Its hooks are awaited. Only mypy compares with the class above AsyncTask as well."""

    lock_expiry = 30

    @override
    async def on_failure(  # type: ignore[override]
        self,
        exc: Exception,
        task_id: str,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        einfo: ExceptionInfo,
    ) -> None: ...


async def on_retry(  # noqa: PLR0917 (as Celery calls it)
    self: BoundTask,
    exc: Exception,
    task_id: str,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    einfo: ExceptionInfo,
) -> None: ...


def after_return(self: BoundTask, status: str, *rest: object) -> None: ...


# -- bases and hooks


@async_shared_task(base=Plain, unique_on=["account"], max_retries=3)
async def of_plain(account: int, *, dry_run: bool = False) -> float:
    return account


@async_shared_task(base=Ours, bind=True, queue="slow")
async def of_ours(self: BoundTask, account: int) -> float:
    return account * self.request.retries


@async_shared_task(on_retry=on_retry, after_return=after_return)
async def with_hooks(account: int) -> float:
    return account


def of_bases() -> None:
    assert_type(of_plain.delay(1, dry_run=True), TypedResult[float])
    assert_type(of_ours.delay(account=1), TypedResult[float])
    assert_type(with_hooks.delay(1), TypedResult[float])


# -- of an app

app = AsyncCelery("classes", task_cls=Plain)


@app.task
async def bare(account: int, *, dry_run: bool = False) -> float:
    return account


@app.task(name="shop.charge", max_retries=3, shared=False, queue="slow")
async def with_options(account: int) -> float:
    return account


@app.task(bind=True, on_retry=on_retry)
async def bound(self: BoundTask, account: int) -> float:
    return account


@app.task(base=Ours, lock_expiry=60)
async def with_base(account: int) -> float:
    return account


@app.task
def plain(account: int) -> float:
    return account


@app.task(name="shop.plain", pydantic=True, lazy=False)
def plain_with_options(account: int) -> float:
    return account


@app.task(bind=True)
def plain_bound(self: Task[..., Any], account: int) -> float:
    return account


async def of_the_app() -> None:
    assert_type(bare.delay(1, dry_run=True), TypedResult[float])
    assert_type(await bare.adelay(1), TypedResult[float])
    assert_type(await bare.func(1), float)
    assert_type(with_options.delay(account=1).get(), float)
    assert_type(bound.delay(1).get(), float)
    assert_type(with_base.delay(1).get(), float)
    assert_type(plain.delay(1).get(), float)
    assert_type(plain(1), float)
    assert_type(plain_with_options.delay(account=1).get(), float)
    assert_type(plain_bound.delay(1).get(), float)


# -- what is called like a coroutine function


class Charge:
    async def __call__(self, account: int) -> float:
        return account

    async def method(self, account: int) -> float:
        return account

    @async_shared_task
    @staticmethod
    async def static(account: int) -> float:
        return account


of_object = async_shared_task(name="shop.object")(Charge())
of_method = async_shared_task(Charge().method)
of_partial = async_shared_task(name="shop.partial")(partial(Charge().method))


def of_others() -> None:
    assert_type(of_object.delay(1).get(), float)
    assert_type(of_method.delay(account=1).get(), float)
    assert_type(Charge.static.delay(1).get(), float)
    assert_type(of_partial.delay(1).get(), float)


# -- periodic


@async_shared_task(every=crontab(hour="3"))
async def nightly() -> int:
    return 1


@async_shared_task(every=timedelta(minutes=5), queue="slow")
async def with_defaults(days: int = 3, *accounts: int, dry_run: bool = False) -> int:
    return days


@async_shared_task(bind=True, every=30)
async def periodic_bound(self: BoundTask, days: int = 3) -> int:
    return days


@app.task(every=0.5)
async def of_app(days: int = 3) -> int:
    return days


@app.task(bind=True, every=solar("sunset", 48.2, 16.4))
async def bound_of_app(self: BoundTask) -> int:
    return 1


@app.task(every=schedule(timedelta(seconds=30)))
def plain_of_app(days: int = 3) -> int:
    return days


@async_shared_task(base=Plain, every=30)
async def with_base_and_every(days: int = 3) -> int:
    return days


def periodic() -> None:
    assert_type(nightly.delay().get(), int)
    assert_type(with_defaults.delay().get(), int)
    assert_type(with_defaults.delay(4, 5, dry_run=True).get(), int)
    assert_type(periodic_bound.delay(days=4).get(), int)
    assert_type(of_app.delay(4).get(), int)
    assert_type(bound_of_app.delay().get(), int)
    assert_type(plain_of_app.delay(4).get(), int)
    assert_type(with_base_and_every.delay(4).get(), int)


# -- options that are collected


def collected(options: TaskOptions, of_app: AppTaskOptions) -> None:
    async def charge(account: int) -> float:
        return account

    assert_type(async_shared_task(**options)(charge).delay(1).get(), float)
    assert_type(app.task(**of_app)(charge).delay(1).get(), float)


# -- a task that is a class


class Notify(AsyncTask[[str], int]):
    @override
    async def run(self, address: str) -> int:  # type: ignore[override]
        return len(address)


def of_class() -> None:
    notify = Notify()
    app.register_task(notify)
    assert_type(notify.delay("ada@example.org"), TypedResult[int])


def not_a_coroutine_function(account: int) -> Coroutine[Any, Any, float]:
    return bare.func(account)
