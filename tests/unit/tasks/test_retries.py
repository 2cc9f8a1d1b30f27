"""How often a task is retried is a matter of that execution only."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tomskit.celery import AsyncCelery, BoundTask, async_shared_task

TOGETHER = 2


@async_shared_task(
    bind=True,
    autoretry_for=(KeyError,),
    max_retries=3,
    default_retry_delay=0,
    retry_backoff=False,
)
async def fetch(self: BoundTask, failures: int, give_up: bool = False) -> int:
    await asyncio.sleep(0)
    if give_up:
        raise self.retry(max_retries=0, exc=KeyError("given up"))
    if self.request.retries < failures:
        raise KeyError(self.request.retries)
    return self.request.retries


@async_shared_task(
    bind=True, autoretry_for=(KeyError,), max_retries=3, retry_kwargs={"countdown": 0}
)
async def meet(self: BoundTask, give_up: bool) -> int:
    if self.request.retries == 0:
        await asyncio.to_thread(_both_run.wait, 30)
    if give_up:
        try:
            raise self.retry(max_retries=0, exc=KeyError("given up"))
        finally:
            await asyncio.to_thread(_one_has_given_up.wait, 30)
    if self.request.retries == 0:
        await asyncio.to_thread(_one_has_given_up.wait, 30)
        raise KeyError("try again")
    return self.request.retries


_both_run = Barrier(TOGETHER)
_one_has_given_up = Barrier(TOGETHER)


def test_no_more_retries_of_one_execution_are_none_of_the_next_ones(app: AsyncCelery) -> None:
    with pytest.raises(KeyError, match="given up"):
        fetch.delay(0, give_up=True).get()

    assert fetch.delay(2).get() == 2


def test_no_more_retries_of_one_execution_are_none_of_another_at_the_same_time(
    app: AsyncCelery,
) -> None:
    def run(give_up: bool) -> object:
        app.set_current()
        return meet.delay(give_up).get(propagate=False)

    with ThreadPoolExecutor(TOGETHER) as threads:
        given_up, retried = threads.map(run, (True, False))

    assert isinstance(given_up, KeyError)
    assert retried == 1


def test_an_execution_keeps_to_the_retries_that_it_has_set(app: AsyncCelery) -> None:
    @async_shared_task(bind=True, autoretry_for=(KeyError,), max_retries=3)
    async def once_more(self: BoundTask, seen: list[int]) -> None:
        _attempts.append(self.request.retries)
        raise self.retry(max_retries=1, countdown=0, exc=KeyError("x"))

    _attempts: list[int] = []
    with pytest.raises(KeyError):
        once_more.delay([]).get()

    assert _attempts == [0, 1]
