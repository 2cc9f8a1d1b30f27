"""Errors with which a worker refuses to start, shown as one line and without a traceback."""

from __future__ import annotations

from click import ClickException

from tomskit.errors import ConfigurationError, UnsupportedPoolError

__all__ = ("RefusedPoolError", "RefusedServerError", "RefusedSettingsError", "RefusedTasksError")


class RefusedPoolError(ClickException, UnsupportedPoolError):
    """The pool cannot run the app's tasks."""


class RefusedTasksError(ClickException, ConfigurationError):
    """There are tasks that could never be called."""


class RefusedServerError(ClickException, ConfigurationError):
    """A server refuses the credentials of a worker, or what they may do."""


class RefusedSettingsError(ClickException, ConfigurationError):
    """Settings name what is not there."""
