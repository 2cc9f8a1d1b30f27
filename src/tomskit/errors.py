"""The errors that tomskit raises, all under one base class.

Each one also derives from the built-in class that fits, so ``except RuntimeError`` or
``except TypeError`` catches it too.
"""

from __future__ import annotations

__all__ = (
    "CommitRefusedError",
    "ConfigurationError",
    "EventLoopError",
    "MissingDriverError",
    "NotACoroutineFunctionError",
    "NotInitializedError",
    "ProviderError",
    "RemoteTaskError",
    "TaskArgumentsError",
    "TaskExitError",
    "TaskResultError",
    "TomsKitError",
    "UnsupportedPoolError",
)


class TomsKitError(Exception):
    """Base class of every error that tomskit raises."""


class NotInitializedError(TomsKitError, RuntimeError):
    """Something was used before it existed: the app, the engine, the redis client, a session."""


class EventLoopError(TomsKitError, RuntimeError):
    """A blocking call in a coroutine would wait for the event loop that it blocks."""


class CommitRefusedError(TomsKitError, RuntimeError):
    """A task with ``once=True`` tried to commit its session, which is committed when it returns."""


class MissingDriverError(TomsKitError, RuntimeError):
    """The database URL names a driver that is not installed."""


class UnsupportedPoolError(TomsKitError, RuntimeError):
    """The worker was started with a pool that cannot run a coroutine."""


class ProviderError(TomsKitError, RuntimeError):
    """A resource provider did not start.

    Attributes:
        provider: The ``name`` of that provider.
    """

    def __init__(self, provider: str, message: str) -> None:
        super().__init__(message)
        self.provider = provider


class NotACoroutineFunctionError(TomsKitError, TypeError):
    """A plain function was given where ``async def`` is needed."""


class TaskArgumentsError(TomsKitError, TypeError):
    """Arguments do not fit the annotations of the task's function.

    Raised at the call site, before anything is published; and in the worker, for messages that
    other programs published, before the function runs.
    """


class TaskExitError(TomsKitError, RuntimeError):
    """A task raised something that is not an `Exception`, such as KeyboardInterrupt or SystemExit.

    The task fails with this error, once; the worker goes on. Its message names what was raised. So it does if
    Python cannot make a traceback or a copy of an error, as a method of its class fails; of a plain task's
    under the asyncio, threads and solo pools.
    """


class RemoteTaskError(TomsKitError):
    """A task has failed with an error whose class is not known here, or cannot be made here.

    Raised where the result is read. Each such error is of a class of its own, derived from this one,
    with the name and the module of the original; ``args`` are those of the original. To get the
    original, import its module before, or name it in ``CELERY_RESULT_ERROR_MODULES``.

    Attributes:
        error_name: The name of the class.
        error_module: Its module.
    """

    error_name: str
    error_module: str


class TaskResultError(TomsKitError, TypeError):
    """A result does not fit the return annotation of the task's function.

    Raised in the worker, so the task fails; and where the result is read, if the function has
    another annotation there than in the worker. Also what a task reports as its progress: in
    `report`, and where it is read as another type.
    """


class ConfigurationError(TomsKitError, ValueError):
    """A setting has a value that cannot work."""
