"""Nobody waits for the results of tasks that have none, in groups and elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import celery
import pytest
from celery import shared_task
from celery.result import AsyncResult, GroupResult

from tests.support.contracts import untyped
from tests.support.deployment import TIMEOUT
from tests.support.servers import RedisServer
from tests.support.servers.redis import fresh_redis_db
from tomskit.celery import AsyncCelery, async_shared_task, chain, group

NOTHING = TIMEOUT
"""Seconds in which nothing comes from a worker. A result that is not waited for is there at once."""


@async_shared_task(ignore_result=True)
async def silent(number: int) -> int:
    return number


@async_shared_task
async def spoken(number: int) -> int:
    return number


@shared_task(ignore_result=True)
def plain_silent(number: int) -> int:
    return number


# Celery stores results with that command.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

plain: Any = plain_silent
stock_group: Any = celery.group


@pytest.fixture
def app(redis_server: RedisServer) -> Iterator[AsyncCelery]:
    db = fresh_redis_db(redis_server)
    app = AsyncCelery("ignored", broker=db.broker_url, backend=db.result_url)
    yield app
    app.close()


GROUPS: dict[str, Callable[[], Any]] = {
    "of two": lambda: group(silent.s(1), silent.s(2)),
    "of one": lambda: group([silent.s(1)]),
    "of plain tasks": lambda: untyped(group)(plain.s(1), plain.s(2)),
    "within a group": lambda: untyped(group)(silent.s(1), group(silent.s(2), silent.s(3))),
    "of chains": lambda: group(chain(spoken.s(1), silent.p()), chain(spoken.s(2), silent.p())),
    "of Celery": lambda: stock_group(silent.s(1), silent.s(2)),
    "of calls": lambda: group(
        spoken.options(ignore_result=True).s(1), spoken.options(ignore_result=True).s(2)
    ),
}

WAYS: dict[str, Callable[[Any], Any]] = {
    "get": lambda result: result.get(timeout=NOTHING),
    "join": lambda result: result.join(timeout=NOTHING),
    "join_native": lambda result: result.join_native(timeout=NOTHING),
    "iteration": lambda result: [one.get(timeout=NOTHING) for one in result],
    "await": lambda result: asyncio.run(_awaited(result.aget(timeout=NOTHING))),
}


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GROUPS)
def test_a_group_has_nothing_to_wait_for(app: AsyncCelery, name: str, way: str) -> None:
    result = GROUPS[name]().apply_async()

    assert isinstance(result, GroupResult)
    assert WAYS[way](result) == [None] * len(result)


@pytest.mark.parametrize("way", WAYS)
def test_a_group_of_an_app_that_ignores_results(app: AsyncCelery, way: str) -> None:
    app.conf.task_ignore_result = True

    result = group(spoken.s(1), spoken.s(2)).delay()

    assert WAYS[way](result) == [None, None]


@pytest.mark.parametrize("way", WAYS)
def test_a_group_that_is_called_without_results(app: AsyncCelery, way: str) -> None:
    result = group(spoken.s(1), spoken.s(2)).apply_async(ignore_result=True)

    assert WAYS[way](result) == [None, None]


def test_a_group_sent_in_an_event_loop(app: AsyncCelery) -> None:
    async def main() -> object:
        result = await group(silent.s(1), silent.s(2)).adelay()
        return await result

    assert asyncio.run(asyncio.wait_for(main(), TIMEOUT)) == [None, None]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("silent_first", [True, False])
def test_a_group_waits_for_those_that_have_results(
    app: AsyncCelery, way: str, silent_first: bool
) -> None:
    members = [spoken.s(1), spoken.s(2)]
    members.insert(0 if silent_first else 1, silent.s(3))
    result = group(members).delay()
    told = [member for member in result if not member.ignored]

    for number, member in enumerate(told):
        app.backend.store_result(member.id, number, "SUCCESS")

    assert WAYS[way](result) == ([None, 0, 1] if silent_first else [0, None, 1])


def test_a_group_of_celery_waits_for_those_that_have_results(app: AsyncCelery) -> None:
    result: GroupResult = stock_group(silent.s(1), spoken.s(2)).apply_async()

    app.backend.store_result(untyped(result)[1].id, 7, "SUCCESS")

    assert result.get(timeout=TIMEOUT) == [None, 7]


def test_a_callback_is_called_for_each(app: AsyncCelery) -> None:
    called: list[object] = []
    result = group(silent.s(1), silent.s(2)).delay()

    result.get(timeout=NOTHING, callback=lambda task_id, value: called.append((task_id, value)))

    assert called == [(one.id, None) for one in result]


@pytest.mark.parametrize(
    "make",
    [
        lambda: chain(spoken.s(1), silent.p()),
        lambda: chain(silent.s(1), silent.p(), silent.p()),
        lambda: group(spoken.s(1), spoken.s(2)) | silent.si(1),
    ],
    ids=["chain", "ignored chain", "chord"],
)
def test_what_ends_in_a_task_without_a_result(app: AsyncCelery, make: Callable[[], Any]) -> None:
    result: AsyncResult[object] = make().delay()

    assert result.get(timeout=NOTHING) is None
