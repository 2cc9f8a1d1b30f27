"""What tomskit relies on of how Celery makes tasks and signatures."""

import inspect
from typing import Any

from celery import Celery, Task, canvas, chain, shared_task, signature

from tomskit.celery._internals import celery_tasks as internals


def _run(self: object) -> None: ...


def test_joined_signatures_are_of_the_private_chain_class() -> None:
    """``canvas._chain``."""
    joined = signature("a") | signature("b")
    assert type(joined) is canvas._chain is internals.ChainSignature
    assert issubclass(chain, canvas._chain)


def test_a_task_keeps_the_header_that_it_is_given() -> None:
    """``Task.__header__``, which tells Celery what an error callback takes."""
    app: Any = Celery("header", set_as_current=False)

    def callback(request: object, exc: object, traceback: object) -> None: ...

    options = {internals.HEADER: staticmethod(internals.head_from_fun(callback))}
    task = app.task(bind=True, name="header.task", **options)(_run)
    parameters = inspect.signature(task.__header__).parameters
    assert list(parameters) == ["request", "exc", "traceback"]


def test_a_header_has_the_parameters_of_a_function() -> None:
    """``head_from_fun``."""

    def function(a: int, *, b: str = "") -> None: ...

    assert list(inspect.signature(internals.head_from_fun(function)).parameters) == ["a", "b"]


def test_a_shared_task_is_of_the_given_class_and_has_the_given_attributes() -> None:
    """``shared_task`` and ``Proxy._get_current_object``."""
    app = Celery("shared", set_as_current=False)
    app.set_current()

    class Base(Task[..., object]): ...

    base: type[Base] = Base
    share: Any = internals.shared_task
    proxy = share(base=base, bind=True, name="shared.task", colour="blue")(_run)
    task = internals.target_of(proxy)
    assert share is shared_task
    assert isinstance(task, Base)
    assert vars(type(task))["colour"] == "blue"


def test_celerys_tasks_that_call_others_have_their_names() -> None:
    """``celery.map`` and ``celery.starmap``."""
    app = Celery("names", set_as_current=False)
    app.finalize()
    assert {"celery.map", "celery.starmap"} == internals.CALLS_OF_TASKS
    assert set(app.tasks) >= internals.CALLS_OF_TASKS
