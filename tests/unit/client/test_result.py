"""Results, read from a result backend that somebody else has written to."""

import asyncio
import copy
import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import cast
from uuid import uuid4

import pytest
from celery.app.base import Celery
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import denied_join_result

from tomskit.celery import (
    AsyncCelery,
    TypedGroupResult,
    TypedResult,
    async_shared_task,
    chain,
    group,
)
from tomskit.errors import TaskResultError


@async_shared_task
async def days(first: date, count: int) -> list[date]:
    return [first] * count


@async_shared_task
async def names() -> set[str]:
    return set()


@pytest.fixture
def client() -> Iterator[AsyncCelery]:
    """An app that sends to nobody."""
    app = AsyncCelery("client", broker="memory://", backend="cache+memory://")
    yield app
    app.close()


def finish(app: Celery, result_id: str, value: object) -> None:
    app.backend.store_result(result_id, value, "SUCCESS")


def test_result_is_what_the_function_returns(client: AsyncCelery) -> None:
    sent = days.delay(date(2027, 1, 1), 1)
    finish(client, sent.id, ["2027-01-01"])

    assert isinstance(sent, TypedResult)
    assert sent.get(timeout=60) == [date(2027, 1, 1)]
    assert sent.result == [date(2027, 1, 1)]
    assert days.AsyncResult(sent.id).get(timeout=60) == [date(2027, 1, 1)]


def test_result_of_another_annotation_is_an_error_for_its_reader(client: AsyncCelery) -> None:
    sent = days.delay(date(2027, 1, 1), 1)
    finish(client, sent.id, ["some day"])

    with pytest.raises(TaskResultError, match=re.escape("its result.0 is 'some day'")):
        sent.get(timeout=60)


def test_copies_know_the_type(client: AsyncCelery) -> None:
    sent = names.delay()
    finish(client, sent.id, ["a"])

    assert copy.copy(sent).get(timeout=60) == {"a"}


def test_result_of_a_task_that_is_not_here_is_as_json_has_it(client: AsyncCelery) -> None:
    result = TypedResult[object](str(uuid4()), task_name="elsewhere.task", app=client)
    finish(client, result.id, ["a"])

    assert result.get(timeout=60) == ["a"]


def test_await_waits_until_it_is_there(client: AsyncCelery) -> None:
    async def main() -> set[str]:
        sent = await names.adelay()
        asyncio.get_running_loop().call_later(0.05, finish, client, sent.id, ["a", "b"])
        return await sent

    assert asyncio.run(main()) == {"a", "b"}


def test_aget_has_a_timeout(client: AsyncCelery) -> None:
    async def main() -> None:
        await (await names.adelay()).aget(timeout=0.03)

    with pytest.raises(CeleryTimeoutError):
        asyncio.run(main())


def test_awaiting_a_result_in_a_task_is_refused_in_words_of_await(client: AsyncCelery) -> None:
    result = days.AsyncResult("id")

    async def wait() -> object:
        return await result

    with (
        denied_join_result(),
        pytest.raises(RuntimeError, match=r"must not await the result .*chain\(.*disable_sync"),
    ):
        asyncio.run(wait())
    with (
        denied_join_result(),
        pytest.raises(RuntimeError, match=r"must not wait for the progress .*result\.progress\("),
    ):
        result.progress(int)


def test_aget_raises_what_the_task_has_raised(client: AsyncCelery) -> None:
    sent = names.delay()
    client.backend.store_result(sent.id, KeyError("a"), "FAILURE")

    with pytest.raises(KeyError):
        asyncio.run(sent.aget())
    assert isinstance(asyncio.run(sent.aget(propagate=False)), KeyError)


def test_aget_raises_what_the_task_before_it_has_raised(client: AsyncCelery) -> None:
    sent = (days.s(date(2027, 1, 1), 1) | names.si()).delay()
    assert sent.parent is not None
    parent = days.AsyncResult(str(sent.parent))
    client.backend.store_result(parent.id, KeyError("a"), "FAILURE")

    with pytest.raises(KeyError):
        asyncio.run(sent.aget(timeout=60))


def test_cancelled_wait_leaves_nothing_behind(client: AsyncCelery) -> None:
    async def main() -> None:
        sent = await names.adelay()
        waiting = asyncio.ensure_future(sent.aget())
        await asyncio.sleep(0.03)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        finish(client, sent.id, ["a"])
        assert await sent == {"a"}

    asyncio.run(main())


def test_many_wait_without_a_thread_each(client: AsyncCelery) -> None:
    """More than the default executor has threads, and then somebody sends what they wait for."""

    async def main() -> list[set[str]]:
        sent = [await names.adelay() for _ in range(100)]
        waiting = [asyncio.ensure_future(one.aget(timeout=60)) for one in sent]
        await asyncio.sleep(0.05)
        for one in sent:
            await asyncio.to_thread(finish, client, one.id, ["a"])
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [{"a"}] * 100


def test_ignored_result_is_none(client: AsyncCelery) -> None:
    sent = names.options(ignore_result=True).delay()

    assert sent.get(timeout=60) is None
    assert asyncio.run(sent.aget()) is None


def test_group_joins_typed_values(client: AsyncCelery) -> None:
    results = group(names.s(), names.s()).delay()
    for number, one in enumerate(results):
        finish(client, one.id, [str(number)])

    assert isinstance(results, TypedGroupResult)
    assert results.supports_native_join
    assert results.get(timeout=60) == [{"0"}, {"1"}]
    assert results.join(timeout=60) == [{"0"}, {"1"}]
    assert asyncio.run(results.aget(timeout=60)) == [{"0"}, {"1"}]


def test_group_waits_no_longer_than_asked(client: AsyncCelery) -> None:
    results = group(names.s(), names.s()).delay()

    with pytest.raises(CeleryTimeoutError):
        asyncio.run(results.aget(timeout=0.03))


def test_result_can_be_pickled(client: AsyncCelery) -> None:
    sent = names.AsyncResult("1")

    made, args = cast("tuple[type[object], tuple[object, ...]]", sent.__reduce__())
    assert made is TypedResult
    assert args[0] == "1"
    assert args[2] == names.name


@pytest.mark.parametrize("backend", ["disabled://", None])
def test_without_a_backend_each_way_of_asking_raises_celerys_error(backend: str | None) -> None:
    app = AsyncCelery("client", broker="memory://", backend=backend)
    app.conf.update(result_backend=backend)
    result = names.delay()
    steps = chain(names.s(), names.si()).delay()

    async def progress() -> None:
        async for _ in result.progress(dict[str, int]):
            pass

    ways: list[Callable[[], object]] = [
        result.ready,
        lambda: result.state,
        result.get,
        steps.get,
        lambda: asyncio.run(result.aget()),
        lambda: asyncio.run(result.astate()),
        lambda: asyncio.run(result.aready()),
        lambda: asyncio.run(progress()),
    ]
    for ask in ways:
        with pytest.raises(NotImplementedError, match="No result backend is configured"):
            ask()
    app.close()
