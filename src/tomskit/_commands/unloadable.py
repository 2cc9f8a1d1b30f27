"""Apps that cannot be loaded, as a setting does not fit: a finding of ``doctor`` in place of Celery's traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from tomskit._commands.examination import Finding

__all__ = ("UnloadableApp", "load_for")

_MOST: Final = 20
"""Errors that are looked at: those that have led to one."""


class UnloadableApp:
    """In place of an app whose module has raised `error`.

    Attributes:
        user_options: As of an app, for Celery's command.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.user_options: dict[str, object] = {}

    def findings(self) -> Iterator[Finding]:
        """One for each setting that does not fit."""
        from pydantic import ValidationError

        from tomskit._commands.examination import Finding, described

        advice = "Correct this setting."
        if not isinstance(self.error, ValidationError):
            yield Finding("settings", "failed", described(self.error), advice)
            return
        for one in self.error.errors(include_url=False, include_context=False, include_input=False):
            name = ".".join(map(str, one["loc"]))
            text = " ".join(one["msg"].removeprefix("Value error, ").split())
            yield Finding("settings", "failed", f"{name}: {text}" if name else text, advice)


def load_for(command: str) -> None:
    """Let Celery's command line load an app for one of its commands though a setting does not fit.

    Its module is being imported: the modules of other packages' commands are, in the middle of that.
    """
    celery: Any = sys.modules.get("celery.bin.celery")
    if celery is None:
        return
    find: Callable[..., object] = celery.find_app

    def find_app(*args: object, **options: object) -> object:
        try:
            return find(*args, **options)
        except Exception as exc:
            context = click.get_current_context(silent=True)
            if context is None or context.invoked_subcommand != command:
                raise
            error = _of_settings(exc)
            if error is None:
                raise
            return UnloadableApp(error)

    celery.find_app = find_app


def _of_settings(error: BaseException) -> Exception | None:
    """The error of a setting that has led to this one."""
    from pydantic import ValidationError

    from tomskit.errors import ConfigurationError

    one: BaseException | None = error
    for _ in range(_MOST):
        if isinstance(one, (ValidationError, ConfigurationError)):
            return one
        if one is None:
            break
        one = one.__cause__ or one.__context__
    return None
