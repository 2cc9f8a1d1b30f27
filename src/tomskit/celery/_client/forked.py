"""Connections to the broker in a process that was forked: it has its own.

Its parent's may all be in use, by threads that the new process does not have.
"""

from __future__ import annotations

import os
from typing import Final

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.inherited import take_pools, take_pools_of
from tomskit.living import LivingSet

__all__ = ("apps",)

apps: Final[LivingSet[AsyncApp]] = LivingSet()
"""All apps."""

_inherited: Final[list[object]] = []
"""Kept: what closes a connection here may tell the server to close the parent's."""


def _begin_anew() -> None:
    _inherited.extend(take_pools())
    for app in apps:
        _inherited.extend(take_pools_of(app))


os.register_at_fork(after_in_child=_begin_anew)
