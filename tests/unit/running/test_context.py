"""Who is running: the app and the identity of a task, in whatever thread its code is."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from celery import Celery

from tomskit.celery import AsyncCelery
from tomskit.celery._running.context import (
    TaskIdentity,
    begin_execution,
    celery_context,
    find_app,
)


@pytest.fixture
def plain() -> Iterator[Celery]:
    app = Celery("plain", set_as_current=False)
    yield app
    app.close()


def run_task(app: Celery, body: Callable[[], object], name: str = "work") -> Any:
    """Run a function as a task, where this is called."""
    task: Any = app.task(name=name)(body)
    return task.apply(task_id=f"id of {name}").get(disable_sync_subtasks=False)


def names() -> tuple[str, str] | None:
    current = TaskIdentity.current()
    return None if current is None else (current.task.name, str(current.request.id))


def in_thread(function: Callable[[], object]) -> object:
    """What a function returns in a thread that knows nothing of this one."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


# -- the app


def test_without_an_app_none_is_found() -> None:
    assert find_app() is None


def test_an_app_of_the_context_goes_first(plain: Celery) -> None:
    app = AsyncCelery("test", providers=[])
    plain.set_current()

    token = celery_context.set(None)
    try:
        assert find_app() is plain
        celery_context.set(app)
        assert find_app() is app
    finally:
        celery_context.reset(token)


def test_another_thread_finds_the_default_app(plain: Celery) -> None:
    plain.set_current()
    plain.set_default()

    assert in_thread(find_app) is plain


# -- the task


def test_outside_of_a_task_there_is_no_identity() -> None:
    assert TaskIdentity.current() is None


def test_a_task_that_runs_is_found_with_its_request(plain: Celery) -> None:
    assert run_task(plain, names) == ("work", "id of work")
    assert names() is None


def test_the_inner_one_of_two_tasks_is_found(plain: Celery) -> None:
    def outer() -> object:
        return [names(), run_task(plain, names, "inner"), names()]

    assert run_task(plain, outer, "outer") == [
        ("outer", "id of outer"),
        ("inner", "id of inner"),
        ("outer", "id of outer"),
    ]


def test_an_identity_can_be_taken_to_another_thread(plain: Celery) -> None:
    def work() -> object:
        identity = TaskIdentity.current()
        assert identity is not None

        def elsewhere() -> object:
            before = names()
            token = identity.assume()
            inside = names()
            identity.leave(token)
            return [before, inside, names()]

        return in_thread(elsewhere)

    assert run_task(plain, work) == [None, ("work", "id of work"), None]


def test_what_starts_in_the_context_is_the_same_task(plain: Celery) -> None:
    def work() -> object:
        identity = TaskIdentity.current()
        assert identity is not None

        async def main() -> list[object]:
            token = identity.assume()
            try:
                child = asyncio.create_task(asyncio.to_thread(names))
                return [await child, names()]
            finally:
                identity.leave(token)

        def run() -> object:
            return asyncio.run(main())

        return in_thread(run)

    assert run_task(plain, work) == [("work", "id of work")] * 2


def test_what_runs_on_in_the_background_does_not_see_the_next_task(plain: Celery) -> None:
    identities: list[TaskIdentity | None] = []

    def note() -> None:
        identities.append(TaskIdentity.current())

    run_task(plain, note, "first")
    run_task(plain, note, "second")
    first, second = identities
    assert first is not None
    assert second is not None

    async def main() -> list[object]:
        go_on = asyncio.Event()

        async def background() -> object:
            await go_on.wait()
            current = TaskIdentity.current()
            return None if current is None else current.task.name

        token = first.assume()
        left = asyncio.create_task(background())
        await asyncio.sleep(0)
        first.leave(token)
        token = second.assume()
        go_on.set()
        found = await left
        second.leave(token)
        return [found]

    assert asyncio.run(main()) == [None]


def test_a_new_execution_has_stacks_of_its_own(plain: Celery) -> None:
    def work() -> object:
        identity = TaskIdentity.current()
        assert identity is not None

        def begin() -> object:
            begin_execution()
            return names()

        return [copy_context().run(begin), names()]

    assert run_task(plain, work) == [None, ("work", "id of work")]


def test_fast_locals_of_celery_are_refused() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import tomskit.celery._running.context"],
        env={**os.environ, "USE_FAST_LOCALS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode != 0
    assert "ConfigurationError: USE_FAST_LOCALS is set" in found.stderr
