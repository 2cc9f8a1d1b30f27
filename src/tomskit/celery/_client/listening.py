"""What waits for results in a thread, without trusting a connection that is silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

import redis.exceptions
from celery import Celery, states
from celery.utils.log import get_logger
from typing_extensions import override

from tomskit.celery._client.retrying import Outage, Retrying, pauses_of, publish_pauses
from tomskit.celery._client.waiting import log_in, reading, until_the_end
from tomskit.celery._internals.celery_backend import (
    ResultConsumer,
    is_redis_backend,
    refuse_states,
    replace_result_consumer,
)
from tomskit.celery.fast_redis.deadlines import SECONDS
from tomskit.redis.away import ServerAwayError, is_away

__all__ = ("close_connections", "listen_well", "replace_backends")

logger = get_logger(__name__)

_DATABASE: Final = "tomskit.celery._client.database_results:LimitedDatabaseBackend"
_BACKENDS: Final = {
    "database": _DATABASE,
    "db": _DATABASE,
    "rpc": "tomskit.celery._client.replies:RepliesBackend",
}
"""Their classes. They are imported where they are used, which is seldom."""


def replace_backends(app: Celery) -> None:
    """Let `app` find every result that comes in a message, and not wait for a silent database without end."""
    # Whoever has named a class for them in the loader has the last word.
    app.loader.override_backends = {**_BACKENDS, **app.loader.override_backends}


def listen_well(backend: object) -> None:
    """Let a backend find results where Celery's would not hear of them.

    One for Redis does although the connection on which it listens is dead. One that gets messages, as
    ``rpc://`` does, gets them from the queue of the thread that has sent the tasks, whichever thread looks.
    """
    refuse_states(backend)
    if is_redis_backend(backend):
        # redis-py's parameter.
        backend.connparams["redis_connect_func"] = log_in
        _suit_sockets(backend.connparams, backend.app.conf.get("redis_socket_connect_timeout"))
        replace_result_consumer(backend, _ListeningConsumer)
    # Celery takes the queue of the thread that first asks, and for an event loop a thread of its own does.
    getattr(backend, "oid", None)


def _suit_sockets(parameters: dict[str, Any], connect_timeout: float | None) -> None:
    """Leave out what connections by a Unix socket do not take, and give back what they take, but Celery leaves out."""
    if issubclass(parameters.get("connection_class", object), redis.UnixDomainSocketConnection):
        parameters.pop("socket_keepalive", None)
        parameters.setdefault("socket_connect_timeout", connect_timeout)


def close_connections(backend: object) -> None:
    """Close those of a backend for Redis, which are in use by nobody any more.

    The collector would close them at some time, and Python would warn of sockets that nobody has closed.
    """
    # The client is made when it is first used.
    if is_redis_backend(backend) and "client" in vars(backend):
        backend.client.connection_pool.disconnect()


_TRIED: Final = 2
"""How many connections redis-py tries before it says that the server does not answer."""

_cancelling: Final[ContextVar[bool]] = ContextVar("tomskit_cancelling", default=False)
"""Whether a consumer unsubscribes from what nobody waits for any more."""


class _ListeningConsumer(ResultConsumer):
    """Celery's, which hears of results on one connection. Now and then it looks for them as well.

    Nothing else tells a connection on which nothing is announced from one that is dead.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seconds: float = self.backend.connparams.get("socket_timeout") or SECONDS
        self._looked_at = time.monotonic()
        self._outage = Outage("listen for results", "the result backend", logger)

    @override
    @contextmanager
    def reconnect_on_error(self) -> Generator[None]:
        has_heard = self._has_heard
        try:
            yield
        except TimeoutError:
            raise  # of a wait for the next announcement
        except self._connection_errors as error:
            if _cancelling.get():
                self._drop_connection()
            else:
                self._try_again(self._reconnect_pubsub, error, has_heard=has_heard)

    @property
    def _has_heard(self) -> bool:
        return self._pubsub is not None and self._pubsub.connection is not None

    def _try_again(
        self, operation: Callable[[], object], error: Exception, *, has_heard: bool
    ) -> None:
        """Try, after an error, as often as the settings for results say.

        If Redis was never there, as those for publishing say.
        """
        policy = self.backend.retry_policy
        pauses = pauses_of(**policy) if has_heard else publish_pauses(self.app.conf)
        retrying = Retrying(
            self._outage,
            pauses=until_the_end(pauses),
            timeout=self._seconds,
            connections=_TRIED,
            is_unanswered=_is_silent,
        )
        with reading(self.backend):
            time.sleep(retrying.failed(error))
            retrying.run(operation)

    def _drop_connection(self) -> None:
        """Let the next one who waits make another connection. The subscriptions of this one have ended with it."""
        if not self.subscribed_to and self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None

    @override
    def _flush_pending_unsubscribe(self) -> None:
        # A result is collected at any time, in any thread: that is no place to wait for a server.
        token = _cancelling.set(True)
        try:
            super()._flush_pending_unsubscribe()
        finally:
            _cancelling.reset(token)

    @override
    def on_wait_for_pending(self, result: Any, **options: Any) -> None:
        look = partial(super().on_wait_for_pending, result, **options)
        try:
            look()
        except self._connection_errors as error:
            self._try_again(look, error, has_heard=self._has_heard)

    @override
    def drain_events(self, timeout: float | None = None) -> None:
        super().drain_events(timeout=timeout)
        now = time.monotonic()
        if now - self._looked_at >= self._seconds:
            self._looked_at = now
            self._look()

    @override
    def consume_from(self, task_id: str) -> None:
        if not self.subscribed_to:
            self._looked_at = time.monotonic()
        try:
            super().consume_from(task_id)
        except BaseException:
            # Also where the time is over, or at a KeyboardInterrupt. Otherwise whoever waits for it later would
            # be taken for subscribed.
            self.subscribed_to.discard(self.backend.get_key_for_task(task_id))
            for pending in self._pending_results:
                pending.pop(task_id, None)
            raise

    def _look(self) -> None:
        keys = tuple(self.subscribed_to)
        if not keys:
            return
        values: list[Any] = []
        try:
            values = self.backend.client.mget(keys)
        except self._connection_errors as error:
            # That looks for them as well.
            self._try_again(self._reconnect_pubsub, error, has_heard=True)
        except Exception as exc:
            if not is_away(exc):
                raise
            logger.debug("Cannot look for results, which may be there: %r", exc)
        ended = [meta for value in values if value is not None and (meta := self._ended(value))]
        with self._locked():
            missed = [meta for meta in ended if self._is_waited_for(meta)]
            for meta in missed:
                self.on_state_change(meta, None)
            if missed and self._pubsub is not None and self._pubsub.connection is not None:
                # They were announced, and that has not arrived. It is made anew with the next look.
                self._pubsub.connection.disconnect()

    def _ended(self, value: Any) -> dict[str, Any] | None:
        try:
            meta = self.backend.decode_result(value)
        except Exception:  # noqa: BLE001 (whoever waits for this one raises it)
            return None
        return meta if meta["status"] in states.READY_STATES else None

    def _is_waited_for(self, meta: dict[str, Any]) -> bool:
        return self.backend.get_key_for_task(meta["task_id"]) in self.subscribed_to


def _is_silent(error: BaseException | None) -> bool:
    """Whether the server does not answer."""
    if isinstance(error, ServerAwayError):
        return _is_silent(error.__cause__)
    return isinstance(error, redis.exceptions.TimeoutError)
