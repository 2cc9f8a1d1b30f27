"""FakeTask: a ``self`` for functions with ``bind=True``."""

import asyncio

import pytest
from celery.exceptions import MaxRetriesExceededError, Retry

from tomskit.celery import BoundTask, TaskRequest
from tomskit.testing import FakeRequest, FakeTask, RetryCall, StateUpdate


class BusyError(Exception):
    """What the gateway of the tests raises."""


async def charge(task: BoundTask, amount: int) -> str:
    task.update_state(state="CHARGING", meta={"amount": amount})
    if amount > 100:
        raise task.retry(exc=BusyError("later"), countdown=5, args=(amount - 100,))
    return f"{amount} by {task.request.id}"


def test_it_satisfies_the_protocols() -> None:
    task = FakeTask()
    assert isinstance(task, BoundTask)
    assert isinstance(task.request, TaskRequest)


def test_the_function_runs_with_it() -> None:
    task = FakeTask(request=FakeRequest(id="7"))
    assert asyncio.run(charge(task, 5)) == "5 by 7"
    assert task.updates == [StateUpdate(None, "CHARGING", {"amount": 5})]
    assert task.retried == []


def test_each_call_has_an_id_of_its_own() -> None:
    one, two = FakeTask().request, FakeTask().request
    assert one.id != two.id
    assert one.root_id == one.id


def test_a_retry_is_raised_and_remembered() -> None:
    task = FakeTask()
    with pytest.raises(Retry) as caught:
        asyncio.run(charge(task, 500))
    assert isinstance(caught.value.exc, BusyError)
    (call,) = task.retried
    assert call == RetryCall((400,), None, caught.value.exc, 5)


def test_after_the_last_retry_the_error_is_raised() -> None:
    with pytest.raises(BusyError, match="later"):
        asyncio.run(charge(FakeTask(retries=3), 500))


def test_after_the_last_retry_without_an_error() -> None:
    with pytest.raises(MaxRetriesExceededError, match="Can't retry pay"):
        FakeTask(name="pay", retries=3).retry()


def test_a_limit_of_the_call() -> None:
    task = FakeTask(retries=1)
    with pytest.raises(MaxRetriesExceededError):
        task.retry(max_retries=1)
    assert isinstance(task.retry(max_retries=2, throw=False), Retry)


def test_no_limit() -> None:
    assert isinstance(FakeTask(max_retries=None, retries=1000).retry(throw=False), Retry)
