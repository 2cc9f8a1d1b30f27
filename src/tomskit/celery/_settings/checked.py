"""Checks of texts that Celery itself looks at only when it uses them, and then without their setting's name."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Final
from zoneinfo import ZoneInfo

from celery.utils.time import rate
from kombu import compression

__all__ = (
    "METHODS",
    "beat_entries",
    "compresses",
    "compression_method",
    "log_format",
    "rate_limit",
    "routes",
    "time_zone",
)

_ALIKE: Final = 0.8
"""How much of an option's name must agree. Brokers have options of their own, which are none of ours."""

METHODS: Final = ("gzip", "bzip2", "lzma", "brotli", "zstd")
"""Methods of compression that kombu has, some of them only where their packages are installed."""
_OF_A_CALL: Final = (
    "compression",
    "countdown",
    "delivery_mode",
    "exchange",
    "expires",
    "headers",
    "ignore_result",
    "priority",
    "queue",
    "retry",
    "retry_policy",
    "routing_key",
    "serializer",
    "soft_time_limit",
    "time_limit",
)
_OF_AN_ENTRY: Final = ("args", "kwargs", "options", "relative", "schedule", "task")
_NEEDED: Final = ("task", "schedule")

Options = Mapping[str, Mapping[str, object]]


def time_zone(name: str) -> str:
    """A name that the time zone database has."""
    if name.upper() != "UTC":  # UTC needs no time zone database
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError("there is no such time zone") from None
    return name


def rate_limit(text: str) -> str:
    """A number of tasks in some time."""
    try:
        a_second = rate(text)
    except (KeyError, ValueError):
        a_second = math.nan
    if not 0 <= a_second < math.inf:
        raise ValueError("a rate limit is a number of tasks, such as 5, 5/s, 5/m or 5/h")
    return text


def compression_method(name: str) -> str:
    """A method that kombu knows; others have to be registered with it before."""
    if not compresses(name):
        known = ", ".join(filter(compresses, METHODS))
        raise ValueError(
            f"kombu has no such compression here, only {known}: install the package of another one "
            "(zstandard for zstd), or register it with kombu before"
        )
    return name


def compresses(method: str) -> bool:
    """Whether kombu has this method of compression here."""
    try:
        compression.get_encoder(method)
    except KeyError:
        return False
    return True


def log_format(text: str) -> str:
    """A format of Python's logging."""
    try:
        logging.Formatter(text)
    except ValueError:
        raise ValueError(
            "a format has fields of Python's log records, such as "
            "[%(asctime)s: %(levelname)s] [task_id=%(task_id)s] %(message)s"
        ) from None
    return text


def routes(found: Options | None) -> Options | None:
    """Options of calls, by the names of tasks."""
    for name, options in (found or {}).items():
        _check_names("route", name, options, _OF_A_CALL)
    return found


def beat_entries(found: Options | None) -> Options | None:
    """What beat sends, and when."""
    for name, entry in (found or {}).items():
        _check_names("entry", name, entry, _OF_AN_ENTRY)
        missing = [key for key in _NEEDED if key not in entry]
        if missing:
            raise ValueError(
                f"the entry {name!r} has no {' and no '.join(missing)}: write "
                '{"task": "module.function", "schedule": seconds}'
            )
    return found


def _check_names(
    what: str, name: str, options: Mapping[str, object], known: Collection[str]
) -> None:
    for option in options.keys() - set(known):
        if nearest := get_close_matches(option, known, n=1, cutoff=_ALIKE):
            raise ValueError(
                f"the {what} {name!r} has an option {option!r}: did you mean {nearest[0]!r}?"
            )
