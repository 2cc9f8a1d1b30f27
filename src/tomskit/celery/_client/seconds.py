"""Numbers of seconds that cannot work, refused where they are given.

Nothing is greater than NaN, nor less: a wait of so many seconds never ends. JSON has no such number either, and the
limit of a task that is one makes a message that no other program can read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, Final

__all__ = ("check_seconds", "check_times")

_LIMITS: Final = frozenset({"soft_time_limit", "time_limit"})
_TIMES: Final = frozenset({"countdown", "expires", *_LIMITS})


def check_seconds(name: str, value: Any) -> None:
    """Check how long something is to be waited for, which may be negative, infinite, or None for ever.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN.
    """
    if value is None:
        return
    if not isinstance(value, Real):
        raise TypeError(f"{name}={value!r}: it is a number of seconds.")
    if math.isnan(value):
        raise ValueError(f"{name}={value!r}: it is a number of seconds. None waits for ever.")


def check_times(options: Mapping[str, Any]) -> None:
    """Check the options of a call that are numbers of seconds.

    Raises:
        TypeError: A value is no number.
        ValueError: A value is NaN or infinite, or a time limit is negative.
    """
    for name in _TIMES.intersection(options):
        value = options[name]
        if value is None or (name == "expires" and not isinstance(value, Real)):
            continue  # it may be a point in time as well
        if not isinstance(value, Real):
            raise TypeError(f"{name}={value!r}: it is a number of seconds.")
        if not math.isfinite(value) or (name in _LIMITS and value < 0):
            raise ValueError(f"{name}={value!r}: it is a number of seconds.")
