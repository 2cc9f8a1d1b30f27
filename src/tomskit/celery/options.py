"""Celery's option dictionaries, closed: a misspelt option is a type error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Never

from typing_extensions import TypedDict

if TYPE_CHECKING:
    import kombu
    from celery.canvas import Signature

__all__ = ("AppTaskOptions", "CallOptions", "TaskOptions")


class _Options(TypedDict, total=False):
    name: str
    """The name in messages; ``module.function`` by default."""
    queue: str
    """Where calls go that name no queue, unless ``task_routes`` routes the task."""
    serializer: str
    compression: str
    priority: int
    expires: float | datetime
    ignore_result: bool
    store_errors_even_if_ignored: bool
    track_started: bool
    send_events: bool
    trail: bool
    resultrepr_maxsize: int
    typing: bool
    """Whether arguments are checked against the function's parameters when it is called."""

    max_retries: int | None
    """Retries before giving up; None never gives up."""
    default_retry_delay: float
    autoretry_for: tuple[type[Exception], ...]
    dont_autoretry_for: tuple[type[Exception], ...]
    retry_kwargs: dict[str, object]
    retry_backoff: bool | float
    retry_backoff_max: float
    retry_jitter: bool

    rate_limit: str | None
    """Such as ``"10/s"``, for each worker."""
    time_limit: float | None
    soft_time_limit: float | None
    throws: tuple[type[Exception], ...]
    """Errors that are expected: logged without a traceback."""

    once: bool | str
    """The body runs in one transaction of ``db.session``, committed with a mark of the task's id.

    A text is the name of the provider of another database.
    """
    acks_late: bool
    acks_on_failure: bool
    acks_on_timeout: bool
    reject_on_worker_lost: bool
    retry_on_worker_lost: bool

    # Whatever types its parameters have; they are counted.
    before_start: Callable[[Never, Never, Never, Never], object]
    """A hook, plain or ``async def``: ``(self, task_id, args, kwargs)``."""
    on_success: Callable[[Never, Never, Never, Never, Never], object]
    """``(self, retval, task_id, args, kwargs)``, where `retval` is what is stored."""
    on_retry: Callable[[Never, Never, Never, Never, Never, Never], object]
    """``(self, exc, task_id, args, kwargs, einfo)``."""
    on_failure: Callable[[Never, Never, Never, Never, Never, Never], object]
    """``(self, exc, task_id, args, kwargs, einfo)``."""
    after_return: Callable[[Never, Never, Never, Never, Never, Never, Never], object]
    """``(self, status, retval, task_id, args, kwargs, einfo)``."""


class TaskOptions(_Options, total=False, closed=True):
    """Keyword arguments of `async_shared_task`, beside ``bind``, ``base`` and ``every``.

    Times are in seconds.
    """


class AppTaskOptions(_Options, total=False, closed=True):
    """Keyword arguments of `AsyncCelery.task`, beside ``bind``, ``base`` and ``every``."""

    shared: bool
    """Whether other apps of the process have the task too, as they do by default."""
    lazy: bool
    """Whether the task is made when it is first used, as it is by default."""
    pydantic: bool
    """Celery's conversion of models, for plain functions; coroutine functions have it anyway."""
    pydantic_strict: bool
    pydantic_context: dict[str, object]
    pydantic_dump_kwargs: dict[str, object]


class CallOptions(TypedDict, total=False, closed=True):
    """Options of one call: of ``task.options()``, ``apply_async`` and ``signature.set``.

    Times are in seconds.
    """

    countdown: float
    """How long from now the task may run at the earliest."""
    eta: datetime
    """When it may run at the earliest, with a time zone."""
    expires: float | datetime
    """When, or how long from now, it is no longer to be run."""
    time_limit: float
    soft_time_limit: float

    queue: str | kombu.Queue
    exchange: str | kombu.Exchange
    routing_key: str
    priority: int
    serializer: str
    compression: str
    headers: Mapping[str, object]
    shadow: str
    """Another name for the logs."""
    task_id: str
    """By default a new UUID."""
    ignore_result: bool
    add_to_parent: bool
    producer: kombu.Producer
    retry: bool
    """Whether to try again when the broker cannot be reached."""
    retry_policy: Mapping[str, float | None]

    link: Signature[object] | list[Signature[object]]
    """Called with the result."""
    link_error: Signature[object] | list[Signature[object]]
    """Called when the task fails."""
