"""The errors that tomskit raises, all under one base class.

Each one is also an instance of the built-in class that fits, so code that catches
``RuntimeError`` or ``TypeError`` goes on working.
"""

from __future__ import annotations

__all__ = (
    "ConfigurationError",
    "EventLoopError",
    "MissingDriverError",
    "NotACoroutineFunctionError",
    "NotInitializedError",
    "ProviderError",
    "TaskArgumentsError",
    "TaskResultError",
    "TomsKitError",
    "UnsupportedPoolError",
)


class TomsKitError(Exception):
    """Base class of every error that tomskit raises."""


class NotInitializedError(TomsKitError, RuntimeError):
    """Something was used before it existed: the app, the engine, the redis client, a session."""


class EventLoopError(TomsKitError, RuntimeError):
    """A blocking call was made from the event loop that it would have to wait for."""


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

    Raised where the task is called, before anything is sent; and in the worker, for messages from
    elsewhere, before the function runs.
    """


class TaskResultError(TomsKitError, TypeError):
    """A result does not fit the annotation of what the task's function returns.

    Raised in the worker, so the task fails; and where the result is read, when the reader's
    function has another annotation than the worker's.
    """


class ConfigurationError(TomsKitError, ValueError):
    """A setting has a value that cannot work."""
