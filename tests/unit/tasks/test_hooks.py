# Classes as projects have them that use Celery, whose types know no hook that is awaited.
# mypy: disable-error-code="override, explicit-override, mutable-override"
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
"""Hooks: called as by Celery, and awaited where they are coroutine functions."""

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from celery import Celery, Task, current_task
from celery.app.trace import build_tracer
from celery.exceptions import Ignore
from sqlalchemy import text

from tomskit.celery import AsyncCelery, AsyncTask, BoundTask, async_shared_task
from tomskit.sqlalchemy.database import db

seen: list[tuple[object, ...]] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


def note(hook: str, *values: object) -> None:
    running = current_task.request
    seen.append((hook, *values, running.id))


class Awaited(Task[..., Any]):
    """All of its hooks use a session, which only a coroutine in a task's scopes has."""

    async def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        note("before_start", await one(), task_id, args, kwargs)

    async def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        note("on_success", await one(), retval, task_id, args, kwargs)

    async def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        note("on_retry", await one(), exc.__class__, task_id, args, kwargs, type(einfo).__name__)

    async def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        note("on_failure", await one(), exc.__class__, task_id, args, kwargs, type(einfo).__name__)

    async def after_return(self, status: Any, retval: Any, task_id: Any, *rest: Any) -> None:
        note("after_return", await one(), status, task_id, *rest[:2])


class Plain(Task[..., Any]):
    """The same, as projects have it that use Celery."""

    def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        note("before_start", 1, task_id, args, kwargs)

    def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        note("on_success", 1, retval, task_id, args, kwargs)

    def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        note("on_retry", 1, exc.__class__, task_id, args, kwargs, type(einfo).__name__)

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        note("on_failure", 1, exc.__class__, task_id, args, kwargs, type(einfo).__name__)

    def after_return(self, status: Any, retval: Any, task_id: Any, *rest: Any) -> None:
        note("after_return", 1, status, task_id, *rest[:2])


def untyped(found: object) -> Any:
    return found


async def one() -> int:
    await asyncio.sleep(0)
    return int((await db.session.execute(text("select 1"))).scalar_one())


async def work(n: int, *, fail: bool = False) -> int:
    if fail:
        raise KeyError(n)
    return n


def calls_of(task: Task[..., Any], *args: object, **kwargs: object) -> list[tuple[object, ...]]:
    """The hooks that Celery calls for a call that it traces in this thread."""
    seen.clear()
    tracer: Any = build_tracer(task.name, task, app=task.app, eager=True)
    tracer("id", args, kwargs, {"id": "id", "is_eager": True, "delivery_info": {}})
    return [*seen]


def plain(n: int, *, fail: bool = False) -> int:
    if fail:
        raise KeyError(n)
    return n


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("base", [Plain, Awaited])
def test_hooks_are_called_as_those_of_a_plain_task(
    app: AsyncCelery, base: type[Task[..., Any]], fail: bool
) -> None:
    expected = calls_of(app.task(base=Plain, name="hooks.plain")(plain), 3, fail=fail)
    assert [call[0] for call in expected] == [
        "before_start",
        *(["on_failure", "after_return"] if fail else ["on_success", "after_return"]),
    ]

    task = async_shared_task(base=base, name=f"hooks.{base.__name__}.{fail}")(work)

    assert calls_of(app.tasks[task.name], 3, fail=fail) == expected


@pytest.mark.parametrize("base", [Plain, Awaited])
def test_retry(app: AsyncCelery, base: type[Task[..., Any]]) -> None:
    name = f"hooks.retried.{base.__name__}"

    @async_shared_task(
        base=base, name=name, autoretry_for=(KeyError,), max_retries=1, default_retry_delay=0
    )
    async def retried(n: int) -> None:
        raise KeyError(n)

    task_id = retried.delay(3).id

    # Eagerly, the retry runs within the first try.
    names = [call[0] for call in seen]
    assert names.count("on_retry") == 1
    assert ("on_failure", 1, KeyError, task_id, (3,), {}, "ExceptionInfo", task_id) in seen


def test_where_they_may_come_from(app: AsyncCelery) -> None:
    async def of_option(self: BoundTask, retval: int, *rest: object) -> None:
        note("of option", await one(), self.name, retval)

    async def of_annotations(self: BoundTask, *rest: object) -> None:
        note("of annotations", await one(), self.name)

    class Mine(AsyncTask[..., Any]):
        @staticmethod
        async def after_return(*rest: object) -> None:
            note("of class", await one(), *rest[:2])

    app.conf.task_annotations = {"hooks.mixed": {"before_start": of_annotations}}
    task = async_shared_task(base=Mine, name="hooks.mixed", on_success=of_option)(work)

    task_id = task.delay(3).id

    assert seen == [
        ("of annotations", 1, "hooks.mixed", task_id),
        ("of option", 1, "hooks.mixed", 3, task_id),
        ("of class", 1, "SUCCESS", 3, task_id),
    ]


def test_super_is_awaited(app: AsyncCelery) -> None:
    class Derived(Awaited):
        async def on_success(self, *args: Any) -> None:
            await super().on_success(*args)
            seen.append(("derived",))

        def after_return(self, *args: Any) -> Any:
            return super().after_return(*args)

    untyped(async_shared_task)(base=Derived, name="hooks.derived")(work).delay(3)

    assert [call[0] for call in seen] == ["before_start", "on_success", "derived", "after_return"]


def test_hook_that_is_no_function(app: AsyncCelery) -> None:
    class Hook:
        async def __call__(self, *args: object) -> None:
            note("object", await one(), *args[:1])

    async def bound_before(name: str, *args: object) -> None:
        note("partial", await one(), name, *args[:1])

    # From Python 3.14 on a partial in a class is a method, and 3.13 warns.
    partial = staticmethod(functools.partial(bound_before, "x"))
    hooks: Any = {"on_success": Hook(), "after_return": partial}
    task_id = untyped(async_shared_task)(name="hooks.objects", **hooks)(work).delay(3).id

    assert seen == [("object", 1, 3, task_id), ("partial", 1, "x", "SUCCESS", task_id)]


@pytest.mark.parametrize("hook", ["on_success", "after_return"])
def test_error_of_a_hook_is_logged_as_by_celery(
    app: AsyncCelery, caplog: pytest.LogCaptureFixture, hook: str
) -> None:
    async def wrong(*args: object) -> None:
        await one()
        raise LookupError("in the hook")

    hooks: Any = {hook: wrong}
    task = untyped(async_shared_task)(name=f"hooks.wrong.{hook}", **hooks)(work)
    registered = app.tasks[task.name]
    tracer: Any = build_tracer(task.name, registered, app=app, eager=False)

    with caplog.at_level(logging.ERROR):
        outcome = tracer("id", (3,), {}, {"id": "id", "delivery_info": {}})

    assert outcome.retval == 3
    assert outcome.info is None
    assert f"{hook} handler raised: LookupError('in the hook')" in caplog.text


def test_hook_that_yields_is_an_error(app: AsyncCelery, caplog: pytest.LogCaptureFixture) -> None:
    async def before(*args: object) -> AsyncGenerator[int]:
        yield 1

    task = untyped(async_shared_task)(name="hooks.yields", before_start=before)(work)

    result = task.delay(3)

    assert result.state == "FAILURE"
    assert "The hook" in str(result.result)
    assert "of the task hooks.yields yields" in str(result.result)


def test_hook_may_return_what_it_has_sent(app: AsyncCelery) -> None:
    """That can be awaited as well, and nobody waits for it."""
    sent: list[object] = []

    def send(*args: object) -> object:
        result = app.AsyncResult("never sent")
        sent.append(result)
        return result

    hooks: Any = {"on_success": send}
    task = untyped(async_shared_task)(name="hooks.sends", **hooks)(work)

    assert task.delay(3).get() == 3
    assert len(sent) == 1


def test_before_start_may_refuse_the_task(app: AsyncCelery) -> None:
    async def refuse(*args: object) -> None:
        await one()
        raise Ignore

    task = async_shared_task(name="hooks.refused", before_start=refuse)(work)

    state: str = task.delay(3).state
    assert state == "IGNORED"


def test_hooks_of_a_plain_app() -> None:
    Celery("plain", broker="memory://", task_always_eager=True).set_current()

    async def on_success(self: BoundTask, *args: object) -> None:
        await asyncio.sleep(0)
        note("plain app", self.name)

    async_shared_task(name="hooks.foreign", on_success=on_success)(work).delay(3)

    assert [call[:2] for call in seen] == [("plain app", "hooks.foreign")]
