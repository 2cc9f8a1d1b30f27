"""What tomskit relies on of how Celery makes tasks and signatures."""

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from celery import Celery, Task, canvas, chain, shared_task, signature
from celery.local import PromiseProxy

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


def test_what_a_retry_overrides_is_an_attribute_of_the_task() -> None:
    """``Task.override_max_retries``."""
    app: Any = Celery("retries", set_as_current=False)
    seen: list[bool] = []

    def fail(self: Any) -> None:
        seen.append(hasattr(self, "override_max_retries"))
        self.retry(max_retries=0, exc=KeyError())

    task: Any = app.task(bind=True, name="retries.task", autoretry_for=(KeyError,))(fail)
    task.apply()
    assert seen == [False]
    assert task.override_max_retries == 0


def test_what_a_retry_overrides_can_be_kept_on_the_request() -> None:
    """``Task.override_max_retries``, `OverriddenRetries` in its place."""

    class Base(Task[..., object]):
        override_max_retries = internals.OverriddenRetries()

    app: Any = Celery("kept", set_as_current=False)
    task: Any = app.task(base=Base, name="kept.task")(_run)
    task.override_max_retries = 1
    assert not hasattr(task, "override_max_retries")
    task.push_request()
    task.override_max_retries = 2
    assert task.override_max_retries == 2
    task.push_request()
    assert not hasattr(task, "override_max_retries")
    task.pop_request()
    del task.override_max_retries
    assert not hasattr(task, "override_max_retries")


def test_what_eager_calls_do_before_they_apply() -> None:
    """``Task.apply_async`` in eager mode, with `_get_exec_options`, `_dump_pydantic_arguments`."""
    app: Any = Celery("eager", set_as_current=False, task_always_eager=True)
    applied: list[tuple[Any, Any, Any]] = []

    def apply(self: object, args: object, kwargs: object, **options: object) -> None:
        applied.append((args, kwargs, options))

    base = type("Base", (Task,), {"apply": apply})

    def add(a: int, *, b: int) -> None: ...

    task: Any = app.task(base=base, name="eager.task", serializer="json")(add)
    task.apply_async((1,), {"b": 2}, task_id="id", expires=5)
    (args, kwargs, options) = applied[0]
    args_, kwargs_, options_ = internals.eager_arguments(task, (1,), {"b": 2}, {"expires": 5}, None)
    assert (list(args_), kwargs_) == (list(args), kwargs)
    assert {**options_, "task_id": "id", "link": None, "link_error": None} == options
    assert inspect.getclosurevars(vars(Task)["apply_async"]).globals.keys() == {
        "denied_join_result",
        "serialization",
        "uuid",
    }


def test_a_task_that_is_made_later_is_made_by_one_thread() -> None:
    """``PromiseProxy``, its ``__evaluate__`` and ``__evaluated__``."""
    app: Any = Celery("once", set_as_current=False)
    entered: list[bool] = []

    @contextmanager
    def making() -> Generator[None]:
        entered.append(made.__evaluated__())
        yield

    made: Any = internals.made_once(app.task(name="once.task")(_run), making)
    assert issubclass(type(made), PromiseProxy)
    assert entered == []
    assert [made.name, made.name] == ["once.task"] * 2
    assert entered == [False]
    assert internals.made_once(app.tasks["once.task"], making) is app.tasks["once.task"]


def test_the_body_of_a_task_that_retries_by_itself_is_looked_up_at_each_call() -> None:
    """``_orig_run``."""
    app: Any = Celery("retried", set_as_current=False)

    def body() -> int:
        return 1

    task = app.task(autoretry_for=(ValueError,), name="retried.task")(body)

    assert getattr(task, internals.RETRIED)() == 1
    vars(task)[internals.RETRIED] = lambda: 2

    assert task.run() == 2
