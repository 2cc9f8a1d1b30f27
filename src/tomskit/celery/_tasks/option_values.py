"""Values of a decorator's options that cannot work: a worker would stumble over them, or a retry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import kombu

from tomskit.celery._settings.checked import rate_limit

__all__ = ("check_values",)


def check_values(given: Mapping[str, object], kind: object, name: str) -> None:
    """Refuse values that neither Celery nor a worker can use.

    Args:
        given: The options of a task, as they were given.
        kind: The class of the task, whose attributes stand where an option is not given.
        name: The task, as the error calls it.

    Raises:
        TypeError: A value is of another kind.
        ValueError: A value is out of range.
    """
    for option, (fits, meant) in _CHECKS.items():
        value: object = given.get(option, getattr(kind, option, None))
        # A class may find out a value for each task.
        if value is None or hasattr(value, "__get__"):
            continue
        if not fits(value):
            raise _error(value)(f"The task {name} has {option}={value!r}: {meant}.")


def _error(value: object) -> type[Exception]:
    return ValueError if isinstance(value, (int, float)) else TypeError


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value < math.inf


def _is_count(value: Any) -> bool:
    # Retries are compared with it: infinity has no limit either.
    return _is_number(value) and not math.isnan(value)


def _is_backoff(value: Any) -> bool:
    # Celery makes a number of it, also of a text from the environment.
    try:
        return 0 <= float(value) < math.inf
    except (ValueError, TypeError):
        return False


def _is_longest_backoff(value: Any) -> bool:
    try:
        return int(value) >= 0
    except (ValueError, TypeError, OverflowError):
        return False


def _is_rate(value: Any) -> bool:
    try:
        rate_limit(value)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _are_errors(value: Any) -> bool:
    # An iterator would have nothing left for Celery.
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return False
    return all(map(_is_class_of_errors, value))


def _is_class_of_errors(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _may_be_thrown(value: object) -> bool:
    # Celery asks isinstance.
    if isinstance(value, tuple):
        return all(map(_may_be_thrown, cast("tuple[object, ...]", value)))
    return _is_class_of_errors(value)


def _is_queue(value: object) -> bool:
    return isinstance(value, (str, kombu.Queue))


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


_TEXT: Final = _is_text, "it is a text"
_TIME: Final = _is_time, "it is a number of seconds"
_ERRORS: Final = _are_errors, "it is a tuple of classes of errors, such as (ConnectionError,)"

_CHECKS: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "name": _TEXT,
    "serializer": _TEXT,
    "compression": _TEXT,
    "queue": (_is_queue, "it is the name of a queue"),
    "rate_limit": (_is_rate, "a rate limit is a number of tasks, such as 5, 5/s, 5/m or 5/h"),
    "time_limit": _TIME,
    "soft_time_limit": _TIME,
    "max_retries": (_is_count, "it is a number, or None for no limit"),
    "default_retry_delay": _TIME,
    "retry_backoff": (_is_backoff, "it is True, False or a number of seconds"),
    "retry_backoff_max": (_is_longest_backoff, "it is a number of seconds"),
    "retry_kwargs": (_is_mapping, "it is a dict of arguments of self.retry"),
    "autoretry_for": _ERRORS,
    "dont_autoretry_for": _ERRORS,
    "throws": (_may_be_thrown, "it is a class of errors, or a tuple of such"),
}
