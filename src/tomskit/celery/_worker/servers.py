"""Refuses to start a worker whose broker or result backend refuses it, and always would."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from amqp.exceptions import AccessRefused, NotAllowed

from tomskit.celery._app import AsyncApp
from tomskit.celery._internals.celery_backend import is_redis_backend
from tomskit.celery._internals.refusals import RefusedServerError
from tomskit.celery._settings.urls import redis_address
from tomskit.errors import ConfigurationError
from tomskit.redis.away import is_refused

if TYPE_CHECKING:
    from celery import Celery

__all__ = ("check_servers",)

logger: Final = logging.getLogger(__name__)


def check_servers(app: Celery) -> None:
    """Try the broker and the result backend once.

    One that is away is waited for later, by Celery. Waiting does not help where it refuses.

    Raises:
        RefusedServerError: It refuses the credentials, what they may do, or the database; or a setting
            of the connection cannot work; or its Unix socket is not for this user.
    """
    problems = (
        _refusal(
            lambda: _connect(app),
            lambda: _path_of_broker(app),
            "The broker",
            "CELERY_BROKER_REDIS_USERNAME, CELERY_BROKER_REDIS_PASSWORD and CELERY_BROKER_REDIS_DB, "
            "or the broker's URL",
            "CELERY_BROKER_REDIS_SSL_",
        ),
        _refusal(
            lambda: _read_result(app),
            lambda: _path_of_results(app),
            "The result backend",
            "CELERY_RESULT_BACKEND_REDIS_USERNAME, CELERY_RESULT_BACKEND_REDIS_PASSWORD and "
            "CELERY_RESULT_BACKEND_REDIS_DB, or the URL of the result backend",
            "CELERY_RESULT_BACKEND_REDIS_SSL_",
        ),
    )
    found = [problem for problem in problems if problem is not None]
    if found:
        raise RefusedServerError("\n".join(found))


def _refusal(
    attempt: Callable[[], None],
    path_of: Callable[[], str | None],
    server: str,
    settings: str,
    tls: str,
) -> str | None:
    try:
        attempt()
    except ConfigurationError as exc:
        return str(exc)
    except Exception as exc:  # noqa: BLE001 (what is away, Celery waits for)
        if is_refused(exc) or isinstance(exc, (AccessRefused, NotAllowed)):
            return f"{server} refuses this worker: {exc}. Check {settings}."
        path = path_of()
        if path is not None:
            return _refusal_of_socket(server, path, exc)
        if _is_of(exc, FileNotFoundError):
            # Python does not say which one.
            files = ", ".join(f"{tls}{name}" for name in ("CA_CERTS", "CERTFILE", "KEYFILE"))
            return f"{server} cannot be reached by TLS: a file is not there. Check {files}."
    return None


def _refusal_of_socket(server: str, path: str, exc: Exception) -> str | None:
    if _is_of(exc, PermissionError):
        return (
            f"{server} cannot be reached: the Unix socket {path} is not for this user. Set unixsocketperm 770 "
            "in Redis, and add the user to its group."
        )
    if _is_of(exc, FileNotFoundError):
        # It is there when Redis has started.
        logger.warning(
            "%s is waited for: there is no Unix socket %s. Start Redis, or set the path to that of unixsocket "
            "in its configuration.",
            server,
            path,
        )
    return None


def _is_of(exc: BaseException | None, kind: type[OSError]) -> bool:
    """Whether an error is such an error of the system, or comes from one."""
    while exc is not None and not isinstance(exc, kind):
        exc = exc.__cause__ or exc.__context__
    return exc is not None


def _connect(app: Celery) -> None:
    with app.connection_for_read() as connection:
        connection.ensure_connection(
            max_retries=1, interval_start=0, interval_step=0, reraise_as_library_errors=False
        )


def _read_result(app: Celery) -> None:
    if not isinstance(app, AsyncApp):
        return
    backend = app.celery_backend
    if is_redis_backend(backend):
        try:
            backend.client.get(backend.get_key_for_task("tomskit"))
        finally:
            # The processes of a prefork pool must not share it.
            backend.client.connection_pool.disconnect()


def _path_of_broker(app: Celery) -> str | None:
    """Where the broker's Unix socket is, if it has one."""
    # kombu takes the whole URL for the host then.
    address = redis_address(str(app.connection_for_read().info()["hostname"]))
    return None if address is None else address.host


def _path_of_results(app: Celery) -> str | None:
    backend = app.celery_backend if isinstance(app, AsyncApp) else None
    return backend.connparams.get("path") if is_redis_backend(backend) else None
