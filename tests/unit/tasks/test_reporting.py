"""Reports of tasks that run where they are called, and of code that is no task."""

import asyncio
import re
import threading
from collections.abc import Coroutine
from socket import socket
from typing import Any, Never, TypeVar

import pytest
from celery import Task
from pydantic import BaseModel
from typing_extensions import override

from tomskit.celery import AsyncCelery, BoundTask, async_shared_task, report
from tomskit.celery._tasks.reporting import reporters
from tomskit.errors import ConfigurationError, NotInitializedError, TaskResultError

R = TypeVar("R")


class Progress(BaseModel):
    done: int


@async_shared_task
async def count(total: int) -> int:
    for done in range(total):
        await report(Progress(done=done))
    return total


@async_shared_task
async def wrong() -> None:
    await report(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@async_shared_task
async def fail() -> None:
    await report(Progress(done=1))
    raise LookupError("not here")


@async_shared_task(bind=True)
async def watched(self: BoundTask) -> str:
    await report(Progress(done=1))
    result = watched.AsyncResult(str(self.request.id))
    while (state := await result.astate()) != "PROGRESS":  # noqa: ASYNC110 (a backend is asked)
        await asyncio.sleep(0.01)
    return state


def test_report_outside_of_a_task_is_an_error() -> None:
    with pytest.raises(
        NotInitializedError, match=re.escape("report() was called outside of a task")
    ):
        asyncio.run(report(Progress(done=1)))
    with pytest.raises(RuntimeError, match=re.escape("task.apply()")):
        asyncio.run(count.func(1))


def test_task_that_runs_where_it_is_called_may_report(app: AsyncCelery) -> None:
    assert count.apply((3,)).get() == 3
    assert count(3) == 3
    assert not reporters


def test_wrong_report_is_an_error_there_as_well(app: AsyncCelery) -> None:
    with pytest.raises(TaskResultError, match=re.escape("its progress is 3 (int)")):
        wrong.apply().get()


def test_eager_result_has_no_progress(app: AsyncCelery) -> None:
    async def main() -> list[Progress]:
        sent = await count.adelay(3)
        return [progress async for progress in sent.progress(Progress)]

    assert asyncio.run(main()) == []


def test_reports_of_an_eager_task_are_stored_where_its_result_is(app: AsyncCelery) -> None:
    app.conf.update(task_store_eager_result=True, result_backend="cache+memory://")

    done = watched.apply()

    assert done.get() == "PROGRESS"
    assert watched.AsyncResult(done.id).state == "SUCCESS"
    assert not reporters


def test_last_report_is_stored_after_one_that_takes_long(
    app: AsyncCelery, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.conf.update(task_store_eager_result=True, result_backend="cache+memory://")
    begun, reported = threading.Event(), threading.Event()
    stored: list[object] = []
    store_result = app.backend.store_result

    def store(_: object, task_id: str, result: Any, state: str, **options: Any) -> object:
        if state == "PROGRESS":
            begun.set()
            assert reported.wait(30)
            stored.append(result)
        return store_result(task_id, result, state, **options)

    @async_shared_task(name="reporting.twice")
    async def twice() -> None:
        await report(Progress(done=1))
        await asyncio.to_thread(begun.wait, 30)
        await report(Progress(done=2))
        # The task ends before the first one is stored.
        threading.Timer(0.3, reported.set).start()

    # Threads that store have backends of their own.
    monkeypatch.setattr(type(app.backend), "store_result", store)

    twice.apply().get()

    assert stored == [{"done": 1}, {"done": 2}]


def test_reports_end_with_the_task_that_fails(app: AsyncCelery) -> None:
    app.conf.update(task_store_eager_result=True, result_backend="cache+memory://")

    failed = fail.apply()

    assert isinstance(failed.result, LookupError)
    assert fail.AsyncResult(failed.id).state == "FAILURE"
    assert not reporters


class LoopForEach:
    """A runtime that makes an event loop for each coroutine."""

    def init(self, app: object, /) -> None:
        pass

    def run(self, coro: Coroutine[object, Never, R], /) -> R:
        return asyncio.run(coro)

    def shutdown(self) -> None:
        pass


def test_reports_are_stored_by_a_runtime_that_makes_a_loop_for_each_call() -> None:
    with AsyncCelery("own", runtime=LoopForEach(), backend="cache+memory://") as app:
        app.conf.update(task_store_eager_result=True)

        done = watched.apply()
        assert done.get() == "PROGRESS"
        assert not reporters


def test_hooks_cannot_report(app: AsyncCelery) -> None:
    raised: list[Exception] = []

    async def refused() -> None:
        try:
            await report(Progress(done=0))
        except NotInitializedError as exc:
            raised.append(exc)

    class Reporting(Task[..., object]):
        @override
        async def before_start(self, *_: Any) -> None:  # type: ignore[override]
            await refused()

        @override
        async def after_return(self, *_: Any) -> None:  # type: ignore[override]
            await refused()

    @async_shared_task(base=Reporting, name="with_hooks")
    async def with_hooks() -> int:
        await report(Progress(done=1))
        return 1

    assert with_hooks.apply().get() == 1
    assert len(raised) == 2
    assert all("report() was called in a hook of with_hooks[" in str(one) for one in raised)


def test_type_that_cannot_be_sent_is_an_error_where_progress_is_read(app: AsyncCelery) -> None:
    with pytest.raises(ConfigurationError, match="does not understand its progress"):
        count.AsyncResult("an id").progress(socket)


@pytest.mark.parametrize("kind", ["Progress", Progress(done=1), {"done": 1}])
def test_what_is_no_type_is_an_error_where_progress_is_read(app: AsyncCelery, kind: object) -> None:
    result: Any = count.AsyncResult("an id")

    with pytest.raises(ConfigurationError, match=re.escape("progress() takes the type of what")):
        result.progress(kind)
