"""Task classes whose calls return results of another class: they can be awaited as well."""

from __future__ import annotations

import asyncio
import copy
import pickle
from datetime import date
from typing import Any

import pytest
from celery import Task, states
from celery.contrib.abortable import ABORTED, AbortableAsyncResult, AbortableTask
from celery.result import AsyncResult, EagerResult
from typing_extensions import override

from tomskit.celery import AsyncCelery, TypedEagerResult, TypedResult, async_shared_task

DAY = date(2027, 1, 1)


class Named(AsyncResult[Any]):
    """A result of a user's."""

    def label(self) -> str:
        return f"result {self.id}"


class OwnResults(Task[..., Any]):
    @override
    def AsyncResult(self, task_id: str, **kwargs: Any) -> Named:
        return Named(task_id, backend=self.backend, app=self.app, **kwargs)


class Refusing(Task[..., Any]):
    """As celery-once: what runs already is not sent again."""

    @override
    def apply_async(self, *args: Any, **options: Any) -> Any:
        return EagerResult("1", None, states.REJECTED)


class Silent(Task[..., Any]):
    @override
    def apply_async(self, *args: Any, **options: Any) -> Any:
        return None


@pytest.fixture
def app() -> AsyncCelery:
    return AsyncCelery("results", broker="memory://", backend="cache+memory://")


@async_shared_task(base=OwnResults)
async def day() -> date:
    return DAY


@async_shared_task(base=AbortableTask)
async def abortable() -> date:
    return DAY


@async_shared_task(base=Refusing)
async def refused() -> date:
    return DAY


@async_shared_task(base=Silent)
async def silent() -> date:
    return DAY


def finish(app: AsyncCelery, result: AsyncResult[Any]) -> None:
    app.backend.store_result(result.id, "2027-01-01", "SUCCESS")


@pytest.mark.parametrize("way", ["delay", "apply_async", "adelay"])
def test_they_are_of_both_classes(app: AsyncCelery, way: str) -> None:
    sent: Any = getattr(day, way)()
    if way == "adelay":
        sent = asyncio.run(sent)
    finish(app, sent)

    assert issubclass(type(sent), TypedResult)
    assert issubclass(type(sent), Named)
    assert sent.label() == f"result {sent.id}"
    assert asyncio.run(sent.aget(timeout=60)) == sent.get(timeout=60) == DAY


def test_result_of_an_id_is_of_both_classes(app: AsyncCelery) -> None:
    sent = day.delay()
    finish(app, sent)

    again = day.AsyncResult(sent.id)

    assert isinstance(again, Named)
    assert asyncio.run(again.aget(timeout=60)) == DAY


def test_task_that_can_be_aborted(app: AsyncCelery) -> None:
    sent: Any = abortable.delay()
    assert issubclass(type(sent), AbortableAsyncResult)

    sent.abort()

    assert sent.is_aborted()
    assert asyncio.run(abortable.AsyncResult(sent.id).astate()) == ABORTED
    finish(app, sent)
    assert asyncio.run(abortable.AsyncResult(sent.id).aget(timeout=60)) == DAY


def test_copies_are_of_both_classes(app: AsyncCelery) -> None:
    sent: Any = day.delay()
    finish(app, sent)

    copied = copy.copy(sent)
    sent.backend = None  # cannot be pickled if it is in memory
    again = pickle.loads(pickle.dumps(sent))

    assert isinstance(copied, Named)
    assert isinstance(again, Named)
    assert copied.get(timeout=60) == again.get(timeout=60) == DAY


def test_call_that_is_not_sent_has_an_outcome_that_can_be_awaited(app: AsyncCelery) -> None:
    async def main() -> tuple[object, object]:
        sent = await refused.adelay()
        assert isinstance(sent, TypedEagerResult)
        return await sent, await sent.astate()

    assert asyncio.run(main()) == (None, states.REJECTED)


def test_what_is_no_result_stays_as_it_is(app: AsyncCelery) -> None:
    assert silent.delay() is None
