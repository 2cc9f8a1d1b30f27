"""What ``celery doctor`` looks at."""

from __future__ import annotations

import asyncio
import os
import platform
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import celery
import kombu
from celery.app.task import Context
from celery.backends.base import DisabledBackend
from celery.backends.rpc import RPCBackend
from celery.utils import uuid
from celery.utils.nodenames import default_nodename
from kombu.transport import redis as kombu_redis
from packaging.requirements import Requirement

import tomskit
from tomskit._commands.databases import databases, where_databases_are
from tomskit._commands.examination import Check, Finding, described, unless_configured
from tomskit.celery._client.encodings import unknown_encodings, unknown_of_tasks, unread_encodings
from tomskit.celery._tasks.task import AsyncTask
from tomskit.celery._worker import overview
from tomskit.celery._worker.health import health_file
from tomskit.defaults import is_configured
from tomskit.errors import ConfigurationError
from tomskit.redis import RedisConfig, RedisProvider
from tomskit.redis.redis_pool import RedisClients

if TYPE_CHECKING:
    from tomskit.celery.app import AsyncCelery

__all__ = ("CHECKS", "clock_difference", "load_modules")

_SHOWN: Final = ("tomskit", "celery", "kombu", "redis", "sqlalchemy", "pydantic", "orjson")
_CLOCK_TOLERANCE: Final = 2.0
"""Seconds by which the clocks may differ. Celery's ETA and expiry compare them."""


def load_modules(app: AsyncCelery) -> Iterator[Finding]:
    """Import the modules with tasks, as a worker does: the checks look at the tasks."""
    try:
        app.loader.import_default_modules()
        app.finalize()
    except Exception as exc:  # noqa: BLE001 (the finding shows it)
        yield Finding(
            "modules",
            "failed",
            _described_with_place(exc),
            "No worker can start: correct the module, or its name in include, CELERY_INCLUDE, "
            "CELERY_IMPORTS or autodiscover_tasks().",
        )
        yield Finding("annotations", "skipped", "without the module not all tasks are known")


def _described_with_place(exc: Exception) -> str:
    """An error as one line, with the file and the line of the application's code, if it is of that."""
    if isinstance(exc, SyntaxError) and exc.filename:
        # Python's own text has the file without its folder.
        return f"{type(exc).__name__}: {exc.msg} ({exc.filename}, line {exc.lineno})"
    return described(exc) + _place_of(exc)


def _place_of(exc: Exception) -> str:
    """Where the application's code has failed, if it has."""
    ours = tuple(
        f"{Path(str(module.__file__)).parent}{os.sep}" for module in (celery, kombu, tomskit)
    )
    for frame in reversed(traceback.extract_tb(exc.__traceback__)):
        if not frame.filename.startswith(("<", *ours)) and "importlib" not in frame.filename:
            return f" ({frame.filename}, line {frame.lineno})"
    return ""


def versions(app: AsyncCelery) -> Iterator[Finding]:  # noqa: ARG001 (all checks take the app)
    """Are the packages that tomskit needs there, in versions that it supports?"""
    found = {name: _version_of(name) for name in _SHOWN}
    shown = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    yield Finding("versions", "ok", f"Python {platform.python_version()}, {shown}")
    for line in metadata.requires("tomskit") or ():
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        version = _version_of(needed.name)
        if version is None or not needed.specifier.contains(version, prereleases=True):
            yield Finding(
                "versions",
                "failed",
                f"{needed.name} {f'{version} is' if version else 'is not'} installed",
                f"pip install '{needed.name}{needed.specifier}'",
            )


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def broker(app: AsyncCelery) -> Iterator[Finding]:
    """Does a message go to the broker and come back?"""
    with app.connection_for_write() as connection:
        connection.connect()
        channel: Any = connection.default_channel
        name = f"tomskit.doctor.{uuid()}"
        started = time.perf_counter()
        with closing(connection.SimpleQueue(name)) as queue:
            try:
                queue.put({"probe": name})
                queue.get(timeout=5).ack()
            finally:
                queue.queue.delete()
        milliseconds = (time.perf_counter() - started) * 1000
        detail = f"{_where(connection)}: a message came back in {milliseconds:.0f} ms"
        yield Finding("broker", "ok", detail)
        if isinstance(channel, kombu_redis.Channel):
            yield from _redis_broker(channel)


def _where_broker_is(app: AsyncCelery) -> str:
    return _where(app.connection_for_write())


def _where(connection: kombu.Connection) -> str:
    # kombu hides a password even where there is none.
    return overview.masked(connection.as_uri(include_password=True))


def _redis_broker(channel: Any) -> Iterator[Finding]:
    client: Any = channel.client
    memory: dict[str, Any] = client.info("memory")
    policy, limit = memory.get("maxmemory_policy"), memory.get("maxmemory", 0)
    if limit and policy != "noeviction":
        yield Finding(
            "broker",
            "warning",
            f"maxmemory-policy is {policy}: a full Redis drops queued tasks",
            "CONFIG SET maxmemory-policy noeviction",
        )
    asked = time.time()
    seconds, microseconds = client.time()
    yield _clock(clock_difference(asked, seconds + microseconds / 1e6, time.time()))


def clock_difference(asked: float, told: float, heard: float) -> float:
    """Seconds by which a server's clock differs from this one at least.

    Args:
        asked: The time here before the server was asked.
        told: The server's answer.
        heard: The time here after it. On a slow network, or a busy machine, that may be seconds later.
    """
    return max(asked - told, told - heard, 0.0)


def _clock(difference: float) -> Finding:
    detail = f"{difference:.1f} s from that of Redis"
    if difference <= _CLOCK_TOLERANCE:
        return Finding("clock", "ok", detail)
    advice = "Synchronise the clocks (NTP): ETA, expiry and time limits of tasks compare them."
    return Finding("clock", "warning", detail, advice)


def results(app: AsyncCelery) -> Iterator[Finding]:
    """Is a result stored, and found again?"""
    backend = app.celery_backend
    if isinstance(backend, DisabledBackend):
        yield Finding("results", "skipped", "no result backend")
        return
    probe = f"tomskit-doctor-{uuid()}"
    backend.store_result(probe, "well", "SUCCESS", request=_caller(app, backend, probe))
    try:
        found = backend.get_result(probe)
    finally:
        backend.forget(probe)
    where = backend.as_uri()
    if found == "well":
        yield Finding("results", "ok", f"{where}: a result was stored and read")
    else:
        yield Finding("results", "failed", f"{where}: stored 'well' and read {found!r}")


def _caller(app: AsyncCelery, backend: object, task_id: str) -> Context | None:
    """The request of a task, for results that are messages and go to whoever has sent it."""
    if not isinstance(backend, RPCBackend):
        return None
    with app.producer_pool.acquire(block=True) as producer:
        backend.on_task_call(producer, task_id)  # declares the queue
    return Context(id=task_id, correlation_id=task_id, reply_to=backend.oid)


def _where_results_are(app: AsyncCelery) -> str:
    # The backend itself is not asked: one in a database connects when it is made, and tries for long.
    url: object = app.conf.get("result_backend")
    # An option may be a password.
    return overview.masked(str.__str__(url)).partition("?")[0] if isinstance(url, str) else ""


def redis(app: AsyncCelery) -> Iterator[Finding]:
    """Does the Redis of ``redis_client`` answer?"""
    provider = _redis_of(app)
    if provider is None:
        yield Finding("redis_client", "skipped", "a provider of yours takes its place")
        return
    config = provider.config
    where = overview.described(provider)
    try:
        limit = asyncio.run(_ask_redis(config))
    except Exception as exc:  # noqa: BLE001 (the finding shows it)
        settings = "REDIS_*, or CELERY_WORKER_REDIS_*"
        is_needed = is_configured(config)
        yield unless_configured("redis_client", where, exc, settings, is_needed=is_needed)
        return
    yield Finding("redis_client", "ok", f"{where}: it answers")
    if limit is not None and limit < config.REDIS_MAX_CONNECTIONS:
        yield Finding(
            "redis_client",
            "warning",
            f"a process opens up to {config.REDIS_MAX_CONNECTIONS} connections, the server admits "
            f"{limit}",
            "Lower REDIS_MAX_CONNECTIONS; commands then wait for a connection.",
        )


def _redis_of(app: AsyncCelery) -> RedisProvider | None:
    return next((p for p in app.resources.providers if isinstance(p, RedisProvider)), None)


def _where_redis_is(app: AsyncCelery) -> str:
    provider = _redis_of(app)
    return overview.described(provider) if provider is not None else ""


async def _ask_redis(config: RedisConfig) -> int | None:
    own = RedisClients()
    own.open(config)
    try:
        client: Any = own.current()
        await client.ping()
        if config.REDIS_USE_CLUSTER:
            return None
        try:
            return int((await client.config_get("maxclients"))["maxclients"])
        except Exception:  # noqa: BLE001 (managed servers do not tell)
            return None
    finally:
        await own.close()


def signatures(app: AsyncCelery) -> Iterator[Finding]:
    """Can the arguments and results of all async tasks be sent?"""
    tasks = [task for task in app.tasks.values() if isinstance(task, AsyncTask)]
    bad = 0
    for task in tasks:
        try:
            task.resolve_annotations()
        except ConfigurationError as exc:
            bad += 1
            yield Finding("annotations", "failed", str(exc), f"Change the function {task.name}.")
    if not tasks:
        detail = (
            "the app has no async tasks; include or CELERY_INCLUDE names the modules with tasks"
        )
        yield Finding("annotations", "skipped", detail)
    elif not bad:
        shown = "1 async task" if len(tasks) == 1 else f"{len(tasks)} async tasks"
        yield Finding("annotations", "ok", f"those of {shown}")


def serializers(app: AsyncCelery) -> Iterator[Finding]:
    """Do workers read what clients write?"""
    found = [*unknown_encodings(app), *unknown_of_tasks(app)] or [*unread_encodings(app)]
    for problem in found:
        yield Finding("serializers", "failed", problem.detail, problem.advice)
    if not found:
        conf = app.conf
        detail = f"tasks as {conf.task_serializer}, results as {conf.result_serializer}"
        yield Finding("serializers", "ok", detail)


def health(app: AsyncCelery) -> Iterator[Finding]:
    """May a worker write its health file, if it is to have one?"""
    path = app.config.CELERY_WORKER_HEALTH_FILE
    if path is None:
        return
    try:
        file = health_file(path, default_nodename(""))
    except ConfigurationError as exc:
        detail, _, advice = str(exc).rpartition(": ")
        yield Finding("health file", "failed", detail, advice.capitalize())
        return
    yield Finding("health file", "ok", f"{file}: a worker may write it")


CHECKS: Final = {
    "versions": Check(versions, "the installed packages"),
    "broker": Check(broker, "CELERY_BROKER_*", _where_broker_is),
    "results": Check(results, "CELERY_RESULT_BACKEND_*", _where_results_are),
    "database": Check(databases, "CELERY_DB_*", where_databases_are),
    "redis_client": Check(redis, "CELERY_WORKER_REDIS_*", _where_redis_is),
    "annotations": Check(signatures, "the tasks"),
    "serializers": Check(serializers, "CELERY_*_SERIALIZER"),
    "health file": Check(health, "CELERY_WORKER_HEALTH_FILE"),
}
"""The checks, in the order in which they are shown."""
