"""ContainedTask: a Celery task whose executions do not get in each other's way.

Celery keeps two things of an execution where other threads and coroutines see them: the number of
retries that ``self.retry(max_retries=...)`` sets, on the task object; and, while a task runs eagerly,
a flag of the process that refuses all waiting for results, which stays set where two such tasks overlap.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from celery import Task
from celery.utils import uuid
from kombu.exceptions import OperationalError

from tomskit.celery._client.seconds import check_times
from tomskit.celery._internals.celery import is_anybodys_app, request_stack_of
from tomskit.celery._internals.celery_tasks import OverriddenRetries, eager_arguments
from tomskit.celery._running.context import keep_by_execution

if TYPE_CHECKING:
    from celery.exceptions import Retry
    from celery.result import AsyncResult, EagerResult

__all__ = ("ContainedTask",)

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_NO_APP: Final = (
    "No app has been made in this process, so Celery's default one was used. Import the module that "
    "makes your app before you call tasks, such as: import app"
)


class ContainedTask(Task[P, R_co]):
    """A Celery task whose executions do not get in each other's way."""

    override_max_retries: OverriddenRetries = OverriddenRetries()

    Request = "tomskit.celery._internals.celery_request:WorkerRequest"

    if not TYPE_CHECKING:

        def apply_async(  # noqa: PLR0917 (as of Celery's)
            self,
            args: Sequence[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            task_id: str | None = None,
            producer: object = None,
            link: object = None,
            link_error: object = None,
            shadow: str | None = None,
            **options: Any,
        ) -> AsyncResult[R_co]:
            """Apply the task asynchronously; as of ``celery.Task``, but for eager mode.

            There a task may wait for the results of the tasks that it calls: they are there already.
            """
            if not self.app.conf.task_always_eager:
                # By name: a class of a user's may stand above, whose method names some of them only.
                try:
                    return super().apply_async(
                        args,
                        kwargs,
                        task_id=task_id,
                        producer=producer,
                        link=link,
                        link_error=link_error,
                        shadow=shadow,
                        **options,
                    )
                except OperationalError as exc:
                    if not is_anybodys_app(self.app):
                        exc.add_note(_NO_APP)
                    raise
            args, kwargs, options = eager_arguments(self, args, kwargs, options, producer)
            task_id = task_id or uuid()
            return self.apply(
                args, kwargs, task_id=task_id, link=link, link_error=link_error, **options
            )

        def retry(
            self,
            args: Sequence[object] | None = None,
            kwargs: Mapping[str, object] | None = None,
            exc: Exception | None = None,
            *more: object,
            **options: object,
        ) -> Retry:
            """Retry the task; as of ``celery.Task``, but for an `exc` that counts as false.

            Celery takes it for none. It is raised when there have been too many retries.
            """
            # Celery would reject the message for such an error, and nobody would hear of the task again.
            check_times(options)
            try:
                return super().retry(args, kwargs, exc, *more, **options)
            except self.MaxRetriesExceededError:
                if exc is None:
                    raise
            # As Celery raises others.
            handled = sys.exception()
            if handled is exc:
                raise  # noqa: PLE0704 (what the caller handles)
            raise exc from handled

        def apply(self, *args: object, **options: object) -> EagerResult[R_co]:
            # Several may run in one context of threads that the client starts for them.
            keep_by_execution(request_stack_of(self))
            return super().apply(*args, **options)
