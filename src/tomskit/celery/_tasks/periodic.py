"""Periodic tasks: what ``every=`` puts into an app's schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypedDict

from celery import Celery, Task
from celery.schedules import BaseSchedule
from celery.utils.log import get_logger

from tomskit.celery._internals.celery_app import set_setting

__all__ = ("EVERY", "Every", "add_to_schedule", "check_every")

logger: Final = get_logger(__name__)

Every: TypeAlias = BaseSchedule | timedelta | float
"""When a periodic task is sent: a schedule of Celery's, or an interval; numbers are seconds."""

EVERY: Final = "_tomskit_every"
"""The attribute of a task that holds its schedule entry."""


class Entry(TypedDict):
    """An entry of ``beat_schedule``."""

    task: str
    schedule: Every


def check_every(every: object, function: Callable[..., object], *, name: str, bind: bool) -> None:
    """Check when a task is to be sent, and that it can be called without arguments.

    Args:
        every: What was given as ``every=``.
        function: The task's function.
        name: The task's name, for messages.
        bind: Whether the function's first parameter is the task.

    Raises:
        TypeError: `every` is no schedule, or the function needs an argument.
        ValueError: `every` is no time that could pass.
    """
    if isinstance(every, bool) or not isinstance(every, (BaseSchedule, timedelta, int, float)):
        raise TypeError(
            f"every={every!r} of the task {name} is no schedule: give seconds, a timedelta, or a "
            "schedule of Celery's, such as crontab(hour=3)."
        )
    interval: object = getattr(every, "run_every", every)  # of celery.schedules.schedule
    seconds = interval.total_seconds() if isinstance(interval, timedelta) else interval
    if isinstance(seconds, (int, float)) and not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"every={every!r} of the task {name} has to be longer than 0 seconds.")
    needed = _needed(function, bind=bind)
    if needed:
        raise TypeError(
            f"The task {name} is sent by every= without arguments, and needs {', '.join(needed)}: "
            "give each a default, or add an entry with arguments to beat_schedule."
        )


def _needed(function: Callable[..., object], *, bind: bool) -> list[str]:
    parameters = [*inspect.signature(function).parameters.values()][1 if bind else 0 :]
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]


def add_to_schedule(app: Celery, kind: type[Task[..., Any]]) -> None:
    """Let beat send the task of this class, if its decorator was given ``every=``.

    An entry of that name in the app's configuration holds: what is deployed can change when a task
    is sent. As the configuration may replace the whole schedule, this is called again before beat
    reads it.
    """
    every: Every | None = getattr(kind, EVERY, None)
    if every is None:
        return
    entry: Entry = {"task": kind.name, "schedule": every}
    entries: dict[str, object] = app.conf.beat_schedule
    found = entries.get(kind.name)
    if found is None:
        set_setting(app.conf, "beat_schedule", {**entries, kind.name: entry})
    elif found != entry:
        setattr(kind, EVERY, None)  # said once
        logger.warning(
            "beat_schedule has an entry %r of its own, which holds: every= of the task of that name "
            "is not used",
            kind.name,
        )
