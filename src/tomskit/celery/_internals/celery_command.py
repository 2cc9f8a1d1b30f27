"""Celery: which environment variables it reads itself, beside the configuration.

`celery.bin.celery.celery`, and the prefix of its options' variables
    For: not warning of a variable that an option of the command line reads, such as
    CELERY_WORKER_LOGLEVEL.
    When it is missing: a variable that looks like a setting and is none raises ImportError.

The variables of `celery.app.log`, `celery.worker.state` and other modules
    For: the same.
    When one is added: a warning may name it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

import click

__all__ = ("variables_of_celery",)

_PREFIX: Final = "CELERY"
_OF_MODULES: Final = frozenset(
    {
        "CELERY_BENCH",
        "CELERY_BENCH_EVERY",
        "CELERY_BROKER_READ_URL",
        "CELERY_BROKER_URL",
        "CELERY_BROKER_WRITE_URL",
        "CELERY_CONFIG_MODULE",
        "CELERY_CUSTOM_WORKER_POOL",
        "CELERY_LOADER",
        "CELERY_LOG_FILE",
        "CELERY_LOG_LEVEL",
        "CELERY_LOG_REDIRECT",
        "CELERY_LOG_REDIRECT_LEVEL",
        "CELERY_RDBSIG",
        "CELERY_RDB_HOST",
        "CELERY_RDB_PORT",
        "CELERY_RESULT_BACKEND",
        "CELERY_SKIP_CHECKS",
        "CELERY_TRACE_APP",
        "CELERY_WORKER_REVOKES_MAX",
        "CELERY_WORKER_REVOKE_EXPIRES",
        "CELERY_WORKER_SUCCESSFUL_EXPIRES",
        "CELERY_WORKER_SUCCESSFUL_MAX",
        # Of the scripts that its documentation shows for systemd and init.
        "CELERY_BIN",
        "CELERY_CREATE_DIRS",
        "CELERY_CREATE_LOGDIR",
        "CELERY_CREATE_RUNDIR",
    }
)


@cache
def variables_of_celery() -> frozenset[str]:
    """The variables that Celery's modules, its command line and its plugins read."""
    from celery.bin.celery import celery  # slow to import, and rarely needed

    return frozenset(_of_command(celery, _PREFIX)) | _OF_MODULES


def _of_command(command: click.Command, prefix: str) -> Iterator[str]:
    for parameter in command.params:
        named = parameter.envvar or []
        yield from [named] if isinstance(named, str) else named
        # As click makes it of the prefix.
        yield f"{prefix}_{(parameter.name or '').upper()}"
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _of_command(below, f"{prefix}_{name.upper().replace('-', '_')}")
