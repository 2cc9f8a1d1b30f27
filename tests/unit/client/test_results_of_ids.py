"""Results of which only the id is known, or that Celery makes: they can be awaited as well."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from celery import result as celery_result
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, ResultBase

from tomskit.celery import (
    AsyncCelery,
    TypedGroupResult,
    TypedResult,
    TypedResultSet,
    async_shared_task,
    chain,
    group,
)

DAY = date(2027, 1, 1)


@async_shared_task
async def day() -> date:
    return DAY


@pytest.fixture
def client() -> Iterator[AsyncCelery]:
    """An app that sends to nobody."""
    app = AsyncCelery("client", broker="memory://", backend="cache+memory://")
    yield app
    app.close()


def finished(client: AsyncCelery, value: object, state: str = "SUCCESS") -> str:
    """The id of a task that has ended, of which nothing else is known."""
    task_id = str(uuid4())
    client.backend.store_result(task_id, value, state)
    return task_id


def awaited(result: ResultBase | None) -> object:
    assert issubclass(type(result), (TypedResult, TypedResultSet))
    found: Any = result
    return asyncio.run(found.aget(timeout=60))


def test_result_of_an_id_is_awaited(client: AsyncCelery) -> None:
    task_id = finished(client, "2027-01-01")

    async def main() -> list[object]:
        result = client.AsyncResult(task_id)
        found = [await result.astate(), await result.aready(), await result]
        await result.aforget()
        return [*found, await result.astate()]

    assert asyncio.run(main()) == ["SUCCESS", True, "2027-01-01", "PENDING"]


def test_result_of_an_id_is_waited_for(client: AsyncCelery) -> None:
    async def main() -> object:
        result = client.AsyncResult(str(uuid4()))
        store = client.backend.store_result
        asyncio.get_running_loop().call_later(0.05, store, result.id, [1, 2], "SUCCESS")
        return await result

    assert asyncio.run(main()) == [1, 2]


def test_result_of_an_id_raises_the_error_of_its_task(client: AsyncCelery) -> None:
    task_id = finished(client, KeyError("a"), "FAILURE")

    with pytest.raises(KeyError):
        asyncio.run(client.AsyncResult(task_id).aget())


def test_result_of_an_id_has_a_timeout(client: AsyncCelery) -> None:
    with pytest.raises(CeleryTimeoutError):
        asyncio.run(client.AsyncResult("never sent").aget(timeout=0.03))


def test_result_of_an_id_and_the_name_of_its_task_has_the_type(client: AsyncCelery) -> None:
    task_id = finished(client, "2027-01-01")

    assert client.AsyncResult(task_id, task_name=day.name).get(timeout=60) == DAY


def test_task_that_was_sent_by_its_name_is_awaited(client: AsyncCelery) -> None:
    async def main() -> object:
        sent = client.send_task("elsewhere.task", (1,))
        client.backend.store_result(sent.id, 3, "SUCCESS")
        return await sent

    assert asyncio.run(main()) == 3


def test_class_of_the_result_is_the_caller_s(client: AsyncCelery) -> None:
    class Mine(AsyncResult[object]):
        pass

    assert type(client.send_task("elsewhere.task", result_cls=Mine)) is Mine


def test_copies_of_the_result_of_an_id_are_of_its_app(client: AsyncCelery) -> None:
    task_id = finished(client, 3)
    result = client.AsyncResult(task_id)

    copied = copy.copy(result)
    result.backend = None  # type: ignore[assignment]  # cannot be pickled if it is in memory
    again = pickle.loads(pickle.dumps(result))

    assert copied.id == again.id == task_id
    assert copied.app is again.app is client
    assert awaited(copied) == awaited(again) == 3


def test_results_are_awaited_together(client: AsyncCelery) -> None:
    sent = day.delay()
    client.backend.store_result(sent.id, "2027-01-01", "SUCCESS")
    others = [client.AsyncResult(finished(client, number)) for number in range(2)]
    results = client.ResultSet([sent, *others])

    async def main() -> list[object]:
        found: list[object] = [await results.aready(), *await results]
        await results.aforget()
        return [*found, await results.aready()]

    assert results.get(timeout=60) == [DAY, 0, 1]
    assert asyncio.run(main()) == [True, DAY, 0, 1, False]


def test_results_that_are_added_are_waited_for(client: AsyncCelery) -> None:
    results = client.ResultSet([])
    for number in range(2):
        results.add(client.AsyncResult(finished(client, number)))

    assert awaited(results) == [0, 1]


def test_results_of_celery_s_own_classes_are_awaited_together(client: AsyncCelery) -> None:
    ids = [finished(client, number) for number in range(3)]
    plain: list[AsyncResult[object]] = [celery_result.AsyncResult(one, app=client) for one in ids]
    nested = celery_result.ResultSet(plain[1:], app=client)

    results = client.ResultSet([plain[0], nested])  # type: ignore[list-item]  # nor is it in Celery

    assert awaited(results) == [0, [1, 2]]


def test_restored_group_is_awaited(client: AsyncCelery) -> None:
    sent = group(day.s(), day.s()).delay()
    for member in sent:
        client.backend.store_result(member.id, "2027-01-01", "SUCCESS")
    assert sent.id is not None
    sent.save()

    restored = client.GroupResult.restore(sent.id)

    assert isinstance(restored, TypedGroupResult)
    assert restored == sent
    # Their ids are all that was saved.
    assert restored.get(timeout=60) == ["2027-01-01", "2027-01-01"]
    assert awaited(restored) == ["2027-01-01", "2027-01-01"]
    restored.delete()
    assert client.GroupResult.restore(sent.id) is None


def test_results_from_tuples_are_awaited(client: AsyncCelery) -> None:
    """As Celery keeps the children of a task, and users a chain."""
    sent = chain(group(day.s(), day.s()), day.si()).delay()
    for number, task_id in enumerate(_ids(sent)):
        client.backend.store_result(task_id, number, "SUCCESS")

    made = celery_result.result_from_tuple(sent.as_tuple(), client)

    assert awaited(made) == awaited(client.AsyncResult(sent.id))
    assert awaited(made.parent) == [0, 1]


def test_children_are_awaited(client: AsyncCelery) -> None:
    child = client.AsyncResult(finished(client, 3))
    several = client.GroupResult("several", [client.AsyncResult(finished(client, 4))])
    meta = {
        "status": "SUCCESS",
        "result": 1,
        "traceback": None,
        "children": [child.as_tuple(), several.as_tuple()],
        "task_id": "parent",
    }
    backend = client.backend
    backend.set(backend.get_key_for_task("parent"), backend.encode(meta))  # type: ignore[attr-defined]

    children = client.AsyncResult("parent").children or []

    assert [awaited(one) for one in children] == [3, [4]]


def _ids(sent: ResultBase) -> Iterator[str]:
    if sent.parent is not None:
        yield from _ids(sent.parent)
    if isinstance(sent, AsyncResult):
        yield sent.id
    elif isinstance(sent, celery_result.ResultSet):
        for member in sent:
            yield from _ids(member)
