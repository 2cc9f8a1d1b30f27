"""A service whose tasks take and return values of every kind, configured by environment."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Protocol, TypeVar, cast
from uuid import UUID

from celery import current_task
from celery.backends.redis import RedisBackend
from celery.exceptions import TimeoutError as CeleryTimeoutError

import tests.support.echoes  # noqa: F401 (its tasks)  # pyright: ignore[reportUnusedImport]
from tests.support import values
from tests.support.values import ORDER, Colour, Line, Order, Person, Response, described
from tomskit.celery import AsyncCelery, BoundTask, CeleryConfig, TaskRequest, async_shared_task
from tomskit.redis.redis_pool import redis_client

R_co = TypeVar("R_co", covariant=True)

# Tests import this module as well, and are to keep the current app that they have. In a worker,
# Celery makes this one the current app.
app = AsyncCelery("typed_service", config=CeleryConfig(), set_as_current=False)


# -- for those who call the tasks


@contextmanager
def client(environment: Mapping[str, str]) -> Generator[AsyncCelery]:
    """An app that is configured as a worker in this environment."""
    fields = {
        name: value
        for name, value in environment.items()
        if name.startswith("CELERY_") and value  # an empty variable is as good as none
    }
    config = CeleryConfig.model_validate(fields)
    with AsyncCelery("client", config=config, set_as_current=False) as client_app:
        # Else each thread that sends a task has connections of its own, which nobody closes.
        client_app.conf.update(result_backend_thread_safe=True)
        yield client_app
        cast("_Pool", client_app.pool).force_close_all()
        if isinstance(client_app.backend, RedisBackend):
            backend = cast("_RedisBackend", client_app.backend)
            backend.result_consumer.stop()
            # Results that are collected later would connect once more, to unsubscribe.
            backend.result_consumer._pubsub = None
            backend.client.connection_pool.disconnect()


def got(sent: _Result[R_co]) -> R_co:
    """What a task returns, or all tasks of a group, by ``get()``."""
    # Celery subscribes to a result and looks for it on two connections, and Redis may answer the
    # second one first: a result that is stored in between is not seen before the next get().
    for _ in range(30):
        with suppress(CeleryTimeoutError):
            # Without an interval, the get() of a group sleeps for half a second.
            return sent.get(timeout=1, interval=0.01)
    raise AssertionError(f"{sent} is not there after half a minute")


class _Result(Protocol[R_co]):
    def get(self, timeout: float, *, interval: float) -> R_co: ...


class _Pool(Protocol):
    def disconnect(self) -> None: ...
    def force_close_all(self) -> None: ...


class _Redis(Protocol):
    connection_pool: _Pool


class _ResultConsumer(Protocol):
    _pubsub: object

    def stop(self) -> None: ...


class _RedisBackend(Protocol):
    client: _Redis
    result_consumer: _ResultConsumer


# -- every kind of parameter; the results tell what has arrived


@async_shared_task
async def positional(at: datetime, order: Order) -> list[str]:
    return [described(at), described(order)]


@async_shared_task
async def positional_only(at: datetime, ids: frozenset[UUID], /) -> list[str]:
    return [described(at), described(ids)]


@async_shared_task
async def keyword_only(*, day: date, colour: Colour = Colour.BLUE) -> list[str]:
    return [described(day), described(colour)]


@async_shared_task
async def defaults(
    step: timedelta = timedelta(hours=1), ids: frozenset[UUID] = frozenset({values.ID})
) -> list[str]:
    return [described(step), described(ids)]


@async_shared_task
async def any_number(first: date, *more: datetime) -> list[str]:
    return [described(first), described(more)]


@async_shared_task
async def any_names(first: date, **more: Decimal) -> list[str]:
    return [described(first), described(more)]


# -- tasks that run more than once


@async_shared_task(bind=True)
async def retry_with_args(self: BoundTask, at: datetime, ids: set[UUID]) -> list[str]:
    """Tries again, once, a day later and with one id more."""
    if self.request.retries == 0:
        raise self.retry(args=(at + timedelta(days=1), ids | {values.OTHER_ID}), countdown=0)
    return [described(at), described(ids)]


@async_shared_task(bind=True)
async def retry_with_kwargs(self: BoundTask, *, at: datetime, order: Order) -> list[str]:
    if self.request.retries == 0:
        earlier = order.model_copy(update={"due": None})
        raise self.retry(kwargs={"at": at + timedelta(days=1), "order": earlier}, countdown=0)
    return [described(at), described(order)]


@async_shared_task(bind=True)
async def retry_unchanged(self: BoundTask, at: datetime, *, person: Person) -> list[str]:
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return [described(at), described(person)]


@async_shared_task(bind=True)
async def retry_with_misfit(self: BoundTask, at: datetime) -> str:
    """Tries again with what is no datetime."""
    raise self.retry(args=("soon",), countdown=0)


@async_shared_task(bind=True, autoretry_for=(ConnectionError,), default_retry_delay=0)
async def autoretry(self: BoundTask, at: datetime, orders: dict[UUID, Order]) -> list[str]:
    if self.request.retries == 0:
        raise ConnectionError
    return [described(at), described(orders)]


@async_shared_task(autoretry_for=(Exception,), default_retry_delay=0)
async def autoretry_for_anything(at: datetime) -> None:
    """Is tried again whatever happens in it."""


# -- steps of workflows


@async_shared_task
async def place(day: date, price: Decimal) -> Order:
    """An order of one line."""
    return ORDER.model_copy(update={"due": day, "lines": [Line(item="tea", price=price)]})


@async_shared_task
async def add_line(order: Order, line: Line) -> Order:
    return order.model_copy(update={"lines": [*order.lines, line]})


@async_shared_task
async def respond(order: Order) -> Response[Order]:
    return Response[Order](data=order, took=timedelta(seconds=1))


@async_shared_task
async def total(orders: list[Order]) -> Decimal:
    assert all(type(order) is Order for order in orders)
    return sum((line.price for order in orders for line in order.lines), Decimal(0))


@async_shared_task
async def join(parts: list[str], *, separator: str) -> str:
    return separator.join(parts)


@app.task(name=f"{__name__}.pass_on")
def pass_on(value: object) -> object:
    """A plain task of Celery, which gets and gives what is on the wire."""
    return value


@app.task(name=f"{__name__}.kinds")
def kinds(*args: object) -> list[str]:
    """A plain task of Celery that tells what it gets."""
    return [type(value).__qualname__ for value in args]


# -- callbacks, and tasks that leave a trace


@async_shared_task
async def record(key: str, order: Order) -> None:
    """Leaves a trace, if it runs."""
    await redis_client.set(key, described(order), ex=60)


@async_shared_task
async def record_order(order: Order, key: str) -> None:
    await redis_client.set(key, described(order), ex=60)


@async_shared_task
async def refuse(order: Order) -> Order:
    raise ValueError(order.id)


@async_shared_task
async def give_wrong_result(key: str) -> date:
    await redis_client.set(key, "ran", ex=60)
    return cast("date", "tomorrow")


@async_shared_task
async def on_failure(request: TaskRequest, exc: Exception, traceback: str | None) -> None:
    """A callback of the kind that is called where the task has failed."""
    # For a chord whose header has failed, Celery has no traceback.
    text = f"{exc!r}, {traceback is not None and 'Traceback' in traceback}"
    await redis_client.set(f"failure-{request.id}", text, ex=60)


@async_shared_task
async def on_failure_of(task_id: str) -> None:
    """A callback of the kind that is sent with the id of the task that has failed."""
    await redis_client.set(f"failure-{task_id}", f"{task_id} for {current_task.name}", ex=60)
