"""What tomskit relies on in Celery beyond its public names: the current app and task, the pools."""

import threading
from collections.abc import Iterator
from typing import Any

import celery.bin.worker
import click
import pytest
from celery import Celery, _state, concurrency, result
from celery.utils import threads
from celery.utils.threads import LocalStack
from greenlet import greenlet

from tests.support.contracts import assert_has, untyped
from tomskit.celery._internals.celery import (
    USE_FAST_LOCALS,
    assert_will_not_block,
    current_app,
    is_anybodys_app,
    is_set_as_current,
    known_apps,
    native_ident,
    register_pool,
    request_stack_of,
    stack_of,
    task_stack,
    top_of,
)

state = untyped(_state)
aliases = untyped(concurrency)
worker_command = untyped(celery.bin.worker)


@pytest.fixture
def stack() -> Any:
    return LocalStack()


def test_a_stack_is_keyed_by_its_ident_func(stack: Any) -> None:
    """``LocalStack.__ident_func__`` can be set, and decides what is on the stack."""
    assert_has(stack, "__ident_func__", "push", "pop", "top")
    key = "first"
    stack.__ident_func__ = lambda: key
    stack.push(1)
    key = "second"
    assert stack.top is None, "__ident_func__ is not called any more"
    key = "first"
    assert stack.top == 1, "__ident_func__ is not called any more"


def test_the_entries_of_a_stack_are_in_the_storage_of_its_local(stack: Any) -> None:
    """``LocalStack._local`` has a ``__storage__``: entries by key."""
    assert_has(stack, "_local")
    assert_has(stack._local, "__storage__")
    assert top_of(stack) is None
    stack.push(1)
    stack.push(2)
    assert (stack_of(stack), top_of(stack)) == ([1, 2], 2)
    stack.pop()
    stack.pop()
    assert (stack_of(stack), top_of(stack)) == ([], None)


def test_the_task_stack_is_the_one_of_current_task() -> None:
    """``_state._task_stack``."""
    assert_has(state, "_task_stack")
    task = object()
    task_stack.push(task)
    try:
        assert _state.get_current_task() is task
    finally:
        task_stack.pop()


def test_every_task_has_a_stack_of_requests() -> None:
    app = Celery("app", set_as_current=False)
    task: Any = app.task(_work)
    request_stack_of(task).push("request")
    assert task.request_stack.top == "request"


def test_an_app_that_is_current_or_the_default_is_known() -> None:
    """``_state._tls.current_app`` and ``_state.default_app``."""
    assert_has(state, "_tls", "default_app")
    assert_has(state._tls, "current_app")
    app = Celery("app", set_as_current=False)
    app.set_current()
    assert known_apps() == [app]
    assert current_app() is app
    _state.set_default_app(app)
    assert known_apps() == [app, app]
    found: list[list[Celery]] = []
    thread = threading.Thread(target=lambda: found.append(known_apps()))
    thread.start()
    thread.join()
    assert found == [[app]]


def test_looking_for_an_app_makes_none() -> None:
    assert known_apps() == []
    assert state.default_app is None


def test_the_native_ident_tells_greenlets_from_each_other() -> None:
    """``threads.get_ident``."""
    assert_has(threads, "get_ident")
    assert native_ident() == native_ident()
    assert greenlet(native_ident).switch() != native_ident()


def test_fast_locals_are_off_unless_the_environment_says_so() -> None:
    """``threads.USE_FAST_LOCALS``."""
    assert_has(threads, "USE_FAST_LOCALS")
    assert USE_FAST_LOCALS is None


def test_waiting_in_a_task_is_refused() -> None:
    """``result.assert_will_not_block``."""
    assert_has(result, "assert_will_not_block", "task_join_will_block", "denied_join_result")
    assert_will_not_block()
    with (
        result.denied_join_result(),
        _in_task(),
        pytest.raises(RuntimeError, match="within a task"),
    ):
        assert_will_not_block()


def test_an_app_knows_whether_it_was_set_as_current() -> None:
    """``Celery.set_as_current``."""
    app = Celery("app", set_as_current=False)
    assert_has(app, "set_as_current")
    assert not is_set_as_current(app)
    assert is_set_as_current(Celery("current"))
    assert is_anybodys_app(app)


def test_the_app_that_celery_makes_for_itself_is_nobodys() -> None:
    assert not is_anybodys_app(_state.get_current_app())


def test_a_registered_pool_is_found_by_its_name(restored_choices: None) -> None:
    """``concurrency.ALIASES`` and ``celery.bin.worker.WORKERS_POOL``, its ``choices``."""
    assert_has(concurrency, "ALIASES")
    assert_has(worker_command, "WORKERS_POOL")
    assert_has(worker_command.WORKERS_POOL, "choices")
    register_pool("ours", "celery.concurrency.solo:TaskPool")
    assert concurrency.get_implementation("ours").__module__ == "celery.concurrency.solo"
    assert "ours" in worker_command.WORKERS_POOL.choices
    assert untyped(click.Choice).convert(worker_command.WORKERS_POOL, "ours", None, None) == "ours"


@pytest.fixture
def restored_choices() -> Iterator[None]:
    choices = worker_command.WORKERS_POOL.choices
    yield
    worker_command.WORKERS_POOL.choices = choices
    aliases.ALIASES.pop("ours", None)


class _in_task:  # noqa: N801 (a context manager)
    def __enter__(self) -> None:
        state._set_task_join_will_block(True)

    def __exit__(self, *_: object) -> None:
        state._set_task_join_will_block(False)


def _work() -> None: ...
