"""The parts of Celery that celery-types does not describe, each named and typed once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar, cast

import celery
from celery import Celery, _state, canvas, concurrency, result
from celery.app.utils import Settings
from celery.utils import threads

if TYPE_CHECKING:
    from celery.app.task import Task
    from celery.local import Proxy
    from celery.worker.consumer import Consumer
    from kombu.asynchronous import Hub

__all__ = (
    "HEADER",
    "USE_FAST_LOCALS",
    "ChainSignature",
    "ConfigurationSource",
    "LocalStack",
    "Pool",
    "Worker",
    "assert_will_not_block",
    "current_app",
    "import_configuration",
    "is_anybodys_app",
    "is_set_as_current",
    "known_apps",
    "native_ident",
    "register_pool",
    "shared_task",
    "stack_of",
    "target_of",
    "task_stack",
    "top_of",
)

T = TypeVar("T", bound="Task[..., Any]")

ChainSignature: TypeAlias = canvas._chain
"""What ``|`` makes of two signatures; ``celery.chain`` is a subclass, of which it makes none."""

HEADER: Final = "__header__"
"""The attribute of a task that holds a function with the parameters that its calls have to fit."""


class _Local(Protocol):
    __storage__: dict[object, dict[str, list[object]]]


class LocalStack(Protocol):
    """``celery.utils.threads.LocalStack``: a stack for each thread or greenlet."""

    __ident_func__: Callable[[], object]
    _local: _Local

    def push(self, obj: object, /) -> object: ...
    def pop(self) -> object: ...


class Pool(Protocol):
    """A class of worker pools."""

    __module__: str
    is_green: bool


class _ConnectionInfo(Protocol):
    requires_hub: type[Hub] | None


class Worker(Protocol):
    """``celery.worker.WorkController``, as boot steps see it."""

    app: Celery
    pool_cls: type[Pool]
    consumer_cls: type[Consumer] | str
    concurrency: int
    hub: Hub | None
    options: dict[str, object]
    steps: list[object]
    soft_time_limit: float | None
    time_limit: float | None
    use_eventloop: bool
    wait_for_soft_shutdown: Callable[[], object]
    _conninfo: _ConnectionInfo


class ConfigurationSource(Protocol):
    """An app, as far as it loads its configuration."""

    _config_source: object

    def _load_config(self) -> Settings: ...


class _Loader(Protocol):
    import_from_cwd: Callable[[str], object]

    def _smart_import(self, path: str, imp: Callable[[str], object]) -> object: ...


class _ThreadState(Protocol):
    current_app: Celery | None


class _State(Protocol):
    default_app: Celery | None
    _task_stack: LocalStack
    _tls: _ThreadState


class _Threads(Protocol):
    USE_FAST_LOCALS: str | None
    get_ident: Callable[[], object]


class _Result(Protocol):
    assert_will_not_block: Callable[[], None]


class _App(Protocol):
    set_as_current: bool


class _SharedTask(Protocol):
    """``celery.shared_task``, where the task's class and attributes are given as options."""

    def __call__(
        self, *, base: type[T], bind: bool, **options: object
    ) -> Callable[[Callable[..., object]], Proxy[T]]: ...


_celery_state: Final = cast("_State", _state)
_celery_threads: Final = cast("_Threads", threads)

USE_FAST_LOCALS: Final = _celery_threads.USE_FAST_LOCALS
native_ident: Final = _celery_threads.get_ident
assert_will_not_block: Final = cast("_Result", result).assert_will_not_block
"""Raises in a task, where waiting for another one may be for ever."""
task_stack: Final = _celery_state._task_stack
shared_task: Final = cast("_SharedTask", celery.shared_task)


def top_of(stack: LocalStack) -> object:
    """What is on top of the stack here, or None.

    The stack's own ``top`` finds out that it is empty by two exceptions (1.5 us).
    """
    entries = stack_of(stack)
    return entries[-1] if entries else None


def stack_of(stack: LocalStack) -> list[object]:
    """What is on the stack here, the newest last."""
    entry = stack._local.__storage__.get(stack.__ident_func__())
    return entry["stack"] if entry else []


def current_app() -> Celery:
    """The current app itself, not a proxy of it."""
    return _state.get_current_app()


def known_apps() -> list[Celery]:
    """The current app of this thread and the default app of this process, where there are any."""
    return [
        app
        for app in (_celery_state._tls.current_app, _celery_state.default_app)
        if app is not None and is_anybodys_app(app)
    ]


def is_anybodys_app(app: Celery) -> bool:
    """False for the app called "default" that Celery makes for itself where there is none."""
    return is_set_as_current(app) or app.main != "default"


def is_set_as_current(app: Celery) -> bool:
    """Whether the app made itself the current one."""
    return cast("_App", app).set_as_current


def target_of(proxy: Proxy[T]) -> T:
    """The task that a proxy stands for."""
    return proxy._get_current_object()


class _Pools(Protocol):
    ALIASES: dict[str, str]


class _Choice(Protocol):
    choices: Sequence[str]


def register_pool(name: str, path: str) -> None:
    """Let ``worker_pool``, ``-P`` and their environment variables take `name`.

    Celery's command line has copied the names of the pools before it loads an app.
    """
    cast("_Pools", concurrency).ALIASES[name] = path
    command = sys.modules.get("celery.bin.worker")
    choice = cast("_Choice | None", getattr(command, "WORKERS_POOL", None))
    if choice is not None and name not in choice.choices:
        choice.choices = (*choice.choices, name)


def import_configuration(app: Celery, name: str) -> object:
    """What Celery would import for this name of a configuration; the name where it cannot."""
    loader = cast("_Loader", app.loader)
    try:
        return loader._smart_import(name, imp=loader.import_from_cwd)
    except (ImportError, AttributeError):
        # Celery will say so itself, unless it was told to be silent.
        return name
