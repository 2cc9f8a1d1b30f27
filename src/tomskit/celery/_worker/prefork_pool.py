"""The prefork pool, whose tasks run once even if the connection to the broker is lost as they begin."""

from __future__ import annotations

from typing import Any

from tomskit.celery._internals.celery_prefork import KeepingJobs, PreforkPool, jobs_class_of
from tomskit.celery.fast_redis.parts import in_front

__all__ = ("keeping_prefork_pool",)


def keeping_prefork_pool(base: type[PreforkPool]) -> type[PreforkPool]:
    """Return a subclass of `base` that keeps the jobs it has handed to its processes."""
    made: Any = in_front(base)
    made.Pool = in_front(jobs_class_of(base), KeepingJobs)
    kind: type[PreforkPool] = made
    return kind
