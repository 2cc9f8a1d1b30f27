"""The worker program, which looks at its settings when the modules with tasks have been imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery.apps.worker import Worker
from typing_extensions import override

from tomskit.celery._app import AsyncApp
from tomskit.celery._client.encodings import Problem, unknown_encodings
from tomskit.celery._internals.refusals import RefusedSettingsError

__all__ = ("CheckedWorker", "refuse")


class CheckedWorker(Worker):
    """Celery's worker program."""

    @override
    def on_before_init(self, quiet: bool = False, **kwargs: Any) -> None:
        # Celery has done the imports, and looks up next which content it accepts.
        if isinstance(self.app, AsyncApp):
            refuse(unknown_encodings(self.app))
        super().on_before_init(quiet=quiet, **kwargs)


def refuse(problems: Iterator[Problem]) -> None:
    """Do not start a worker with these problems, if there are any.

    Raises:
        RefusedSettingsError: There are some.
    """
    if found := list(problems):
        raise RefusedSettingsError("\n".join(map(str, found)))
