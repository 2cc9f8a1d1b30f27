"""A group whose members end in groups: nobody cares how deep a result lies."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import celery
import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult

from tests.support.contracts import untyped
from tests.support.deployment import TIMEOUT, close_client
from tests.support.servers import RedisServer
from tests.support.servers.redis import fresh_redis_db
from tomskit.celery import AsyncCelery, async_shared_task, chain, group

NOTHING = 0.5
"""Seconds in which nothing comes from a worker."""


@async_shared_task
async def double(number: int) -> int:
    return 2 * number


@async_shared_task(ignore_result=True)
async def silent(number: int) -> int:
    return number


# Celery stores results with that command.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

stock: Any = celery


@pytest.fixture(scope="module")
def app(redis_server: RedisServer) -> Iterator[AsyncCelery]:
    db = fresh_redis_db(redis_server)
    app = AsyncCelery("nested", broker=db.broker_url, backend=db.result_url)
    yield app
    # Celery's results end their subscriptions when they are collected, and connect for that.
    gc.collect()
    close_client(app)


def fan_out(*members: object) -> Any:
    return untyped(chain)(double.s(0), untyped(group)(*members))


GROUPS: dict[str, tuple[Callable[[], Any], object]] = {
    "first": (lambda: untyped(group)(fan_out(double.p(), double.p()), double.s(9)), [[0, 1], 2]),
    "last": (lambda: untyped(group)(double.s(9), fan_out(double.p(), double.p())), [0, [1, 2]]),
    "two": (
        lambda: untyped(group)(
            fan_out(double.p(), double.p(), double.p()), fan_out(double.p(), double.p())
        ),
        [[0, 1, 2], [3, 4]],
    ),
    "of Celery": (
        lambda: stock.group(
            stock.chain(double.si(0), stock.group(double.p(), double.p())), double.si(9)
        ),
        [[0, 1], 2],
    ),
    "with one that has no result": (
        lambda: untyped(group)(fan_out(silent.p(), double.p()), double.s(9)),
        [[None, 0], 1],
    ),
}

WAYS: dict[str, Callable[[Any], Any]] = {
    "get": lambda result: result.get(timeout=TIMEOUT),
    "join": lambda result: result.join(timeout=TIMEOUT),
    "join_native": lambda result: result.join_native(timeout=TIMEOUT),
    "await": lambda result: asyncio.run(_awaited(result.aget(timeout=TIMEOUT))),
}


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable


def members_of(result: Any) -> Iterator[AsyncResult[object]]:
    for member in result:
        if isinstance(member, GroupResult):
            yield from members_of(member)
        elif not member.ignored:
            yield member


def end(app: AsyncCelery, result: object) -> None:
    """Store what a worker would, had it run the tasks."""
    for number, member in enumerate(members_of(result)):
        if not member.failed():
            app.backend.store_result(member.id, number, "SUCCESS")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GROUPS)
def test_values_lie_as_the_tasks_do(app: AsyncCelery, name: str, way: str) -> None:
    make, values = GROUPS[name]
    result = make().apply_async()
    end(app, result)

    assert WAYS[way](result) == values


def test_values_are_of_the_types_that_the_tasks_return(app: AsyncCelery) -> None:
    result = untyped(group)(fan_out(double.p(), double.p()), double.s(9)).apply_async()
    [first, *_] = members_of(result)
    app.backend.store_result(first.id, "no number", "SUCCESS")
    end(app, result)

    with pytest.raises(TypeError, match="no number"):
        result.get(timeout=TIMEOUT)


@pytest.mark.parametrize("way", ["get", "join", "join_native", "await"])
def test_error_of_one_in_a_nested_group_is_raised(app: AsyncCelery, way: str) -> None:
    result = untyped(group)(fan_out(double.p(), double.p()), double.s(9)).apply_async()
    [first, *_] = members_of(result)
    app.backend.mark_as_failure(first.id, LookupError("gone"))
    end(app, result)

    with pytest.raises(LookupError):
        WAYS[way](result)


def test_errors_are_in_their_places_where_they_are_not_raised(app: AsyncCelery) -> None:
    result = untyped(group)(fan_out(double.p(), double.p()), double.s(9)).apply_async()
    [first, *_] = members_of(result)
    app.backend.mark_as_failure(first.id, LookupError("gone"))
    end(app, result)

    values = result.get(timeout=TIMEOUT, propagate=False)

    assert repr(values) == "[[LookupError('gone'), 1], 2]"


@pytest.mark.parametrize("way", ["get", "join_native", "join"])
def test_timeout_is_for_all_of_them(app: AsyncCelery, way: str) -> None:
    result = untyped(group)(fan_out(double.p(), double.p()), double.s(9)).apply_async()

    with pytest.raises(CeleryTimeoutError):
        getattr(result, way)(timeout=NOTHING)
