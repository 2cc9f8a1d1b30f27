"""Periodic tasks: what ``every=`` puts into an app's schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Final, NamedTuple, TypeAlias, TypedDict
from weakref import WeakKeyDictionary

from celery import Celery
from celery.schedules import BaseSchedule
from celery.utils.log import get_logger

from tomskit.celery._internals.celery_app import set_setting
from tomskit.celery._values.parameters import parameters_of
from tomskit.living import LivingSet

__all__ = (
    "EVERY",
    "Every",
    "Periodic",
    "add_to_schedule",
    "check_every",
    "complete_schedule",
    "declare",
    "shared",
)

logger: Final = get_logger(__name__)

Every: TypeAlias = BaseSchedule | timedelta | float
"""When a periodic task is sent: a schedule of Celery's, or an interval; numbers are seconds."""

EVERY: Final = "_tomskit_every"
"""The attribute of a shared task for apps that do not complete their schedules: Celery's own."""


_LONGEST: Final = timedelta(days=365_000).total_seconds()


class Periodic(NamedTuple):
    """A task that was declared with ``every=``, by its name or by its function."""

    name: str | None
    module: str
    function: str
    every: Every


shared: list[Periodic] = []
"""The periodic tasks of all apps."""

_own: Final[WeakKeyDictionary[Celery, list[Periodic]]] = WeakKeyDictionary()
_configured: Final[LivingSet[Celery]] = LivingSet()
_overruled: Final[WeakKeyDictionary[Celery, set[str]]] = WeakKeyDictionary()


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
            f"every={every!r} of the task {name} is not a schedule: give seconds, a timedelta, or a "
            "schedule of Celery's, such as crontab(hour=3)."
        )
    interval: object = getattr(every, "run_every", every)  # of celery.schedules.schedule
    seconds = interval.total_seconds() if isinstance(interval, timedelta) else interval
    if seconds is None:
        raise ValueError(
            f"every= of the task {name} is a schedule whose run_every is None: give it seconds or a "
            "timedelta."
        )
    if isinstance(seconds, (int, float)):
        if not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError(f"every={every!r} of the task {name} has to be longer than 0 seconds.")
        if seconds > _LONGEST:
            # Beat would add it to the time, and end with an OverflowError.
            raise ValueError(f"every={every!r} of the task {name} is longer than 1000 years.")
    needed = _needed(function, bind=bind)
    if needed:
        raise TypeError(
            f"The task {name} is sent by every= without arguments, and needs {', '.join(needed)}: "
            "give each a default, or add an entry with arguments to beat_schedule."
        )


def _needed(function: Callable[..., object], *, bind: bool) -> list[str]:
    return [
        one.name
        for one in parameters_of(function, bind=bind)
        if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]


def declare(periodic: Periodic, app: Celery | None) -> None:
    """Let beat send a task: of this app, or of all that complete their schedules."""
    if app is None:
        shared.append(periodic)
    else:
        _own.setdefault(app, []).append(periodic)
    for one in _configured:
        if app is None or one is app:
            complete_schedule(one)


def complete_schedule(app: Celery) -> None:
    """Put what was declared into the schedule of an app that is configured.

    As the schedule may be replaced as a whole, this is called again before beat reads it.
    """
    _configured.add(app)
    for periodic in (*shared, *_own.get(app, ())):
        name = periodic.name or app.gen_task_name(periodic.function, periodic.module)
        add_to_schedule(app, name, periodic.every)


def add_to_schedule(app: Celery, name: str, every: Every) -> None:
    """Put a task into the schedule of an app.

    An entry of that name in the app's configuration holds: what is deployed can change when a task
    is sent.
    """
    entry: Entry = {"task": name, "schedule": every}
    entries: dict[str, object] = app.conf.beat_schedule or {}
    found = entries.get(name)
    if found is None:
        set_setting(app.conf, "beat_schedule", {**entries, name: entry})
    elif found != entry and name not in (overruled := _overruled.setdefault(app, set())):
        overruled.add(name)
        logger.warning(
            "beat_schedule has an entry %r of its own, which holds: every= of the task of that name "
            "is not used",
            name,
        )
