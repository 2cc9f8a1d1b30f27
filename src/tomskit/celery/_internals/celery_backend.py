"""Celery: what its result backends do, and the parts of the one for Redis.

`Backend.process_cleanup`
    For: calling it in a thread only where a backend overrides it.
    When it is missing: a worker with the asyncio pool raises AttributeError when it starts.

The public methods of `Backend` and its subclasses that talk to a server: `BLOCKING`
    For: calling them in threads, so that only the calling task waits.
    When it is missing: a method that is not in the list blocks the event loop and all tasks in it.

The methods that store a task's state: `STORING`
    For: retrying them until the server returns, and storing states in Redis in batches.
    When it is missing: a state that another method stores is stored in a thread, with Celery's own
    retries.

`Backend.store_result` and `on_chord_part_return`: `STORED_WITH_PATIENCE`
    For: retrying them until the server returns, in pools whose tasks block.
    When it is missing: such a worker raises AttributeError when it first stores a state.

The methods that publishing calls: `SUBSCRIBING` and `STORING_CHORDS`
    For: sending a task in an event loop without waiting for the result backend.
    When it is missing: making an AsyncCelery's backend raises AttributeError. One that is not in the
    lists blocks the event loop in which a task is sent.

The ``__dict__`` of a `RedisBackend`
    For: a backend with Celery's keys, formats and expiry that reads and writes in the event loop: it
    is a copy of the attributes of Celery's.
    When it is missing: a worker with the asyncio pool raises AttributeError at the first result.

`DisabledBackend._get_task_meta_for`, which Celery has forgotten there, and its ``get_result``, which raises
    For: one error wherever a result is asked for that no backend keeps.
    When it is missing: a state of such a task is an AttributeError, or whatever Celery makes of it.

`RedisBackend.connparams`
    For: knowing whether two backends are of one server, logging in on a connection, and leaving out of those by
    a Unix socket what they do not take.
    When it is missing: waiting for a result raises AttributeError.

`RedisBackend.result_consumer`, a `ResultConsumer`, and what it is made of: ``app``, ``accept``,
`RedisBackend._pending_results` and `_pending_messages`
    For: finding results in a thread although the connection that announces them is dead.
    When it is missing: making an AsyncCelery's backend raises AttributeError.

`ResultConsumer.drain_events`, `consume_from`, `on_state_change`, `subscribed_to`, `_locked` and
`_pubsub`
    For: the same.
    When it is missing: ``get()`` raises AttributeError; where `drain_events` is not called, it waits for
    ever on a connection that is dead.

`ResultConsumer.reconnect_on_error`, `_reconnect_pubsub`, `_connection_errors`, `_pending_results` and
`on_wait_for_pending`
    For: ``delay()`` and ``get()`` that end soon, with one sentence, while Redis is away.
    When it is missing: they end after 20 tries, with Celery's error, or with AttributeError.

`ResultConsumer._flush_pending_unsubscribe`
    For: results that are collected while Redis is away, which wait for nothing.
    When it is missing: they try to unsubscribe for 20 s, and Python prints a traceback.

`RedisBackend.client`, its ``connection_pool``
    For: the address and the parameters of connections to that server.
    When it is missing: waiting for a result raises AttributeError.

`RedisBackend.retry_policy`
    For: reconnecting as the settings say.
    When it is missing: a result that is waited for while Redis is away raises AttributeError.

`RedisBackend.connection_errors`
    For: storing a state in a thread while Redis is away.
    When it is missing: storing a state raises AttributeError.

`RedisBackend.get_key_for_task`, which returns bytes
    For: the key of a result, which is also the channel on which Redis announces it.
    When it is missing: waiting for a result raises AttributeError.

`RedisBackend.decode_result`, `encode_result` and `encode`
    For: Celery's own format of results.
    When it is missing: reading or storing a result raises AttributeError.

`RedisBackend._get_result_meta` and `_store_result`
    For: what is stored of a task, and storing it where scripts are not allowed.
    When it is missing: storing a state in the asyncio pool raises AttributeError.

`RedisBackend._set_with_state`, which `_store_result` calls and which calls `set`
    For: the expiry of failures: ours stores what `set` is given.
    When it is missing: results are stored by Celery's blocking code.

`RedisBackend._MAX_STR_VALUE_SIZE`
    For: refusing a result that Redis would refuse.
    When it is missing: storing a state in the asyncio pool raises AttributeError.

`RedisBackend.expires` and `failure_expires`
    For: how long results are kept.
    When it is missing: storing a state in the asyncio pool raises AttributeError.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from celery.backends import redis as celery_redis
from celery.backends.base import Backend, DisabledBackend

if TYPE_CHECKING:
    import redis
    from celery import Celery
    from celery.app.task import Context

__all__ = (
    "BLOCKING",
    "STORED_WITH_PATIENCE",
    "STORING",
    "STORING_CHORDS",
    "SUBSCRIBING",
    "RedisBackend",
    "ResultConsumer",
    "are_of_one_server",
    "cleans_up",
    "copy_attributes",
    "is_redis_backend",
    "refuse_states",
    "replace_result_consumer",
    "stored_state",
)

STORING: Final = frozenset(
    {"mark_as_done", "mark_as_failure", "mark_as_retry", "mark_as_revoked", "store_result"}
)
"""Store the state of a task. The worker calls these too, and ignores what they return."""

STORED_WITH_PATIENCE: Final = ("store_result", "on_chord_part_return")
"""What the other methods that store a task's state call, and what counts it as a part of a chord."""

BLOCKING: Final = STORING | {
    "add_to_chord",
    "apply_chord",
    "cleanup",
    "delete",
    "delete_group",
    "expire",
    "forget",
    "get",
    "get_children",
    "get_group_meta",
    "get_many",
    "get_result",
    "get_state",
    "get_status",
    "get_task_meta",
    "get_traceback",
    "incr",
    "mark_as_started",
    "mget",
    "on_chord_part_return",
    "process_cleanup",
    "reload_group_result",
    "reload_task_result",
    "restore_group",
    "save_group",
    "set",
    "set_chord_size",
    "task_result_exists",
}
"""Make a backend wait for its server."""

SUBSCRIBING: Final = ("on_task_call", "add_pending_result")
"""Called when a task was sent. In an event loop those who wait for a result subscribe to it."""

STORING_CHORDS: Final = ("apply_chord", "set_chord_size")
"""Called before a chord is sent."""


if TYPE_CHECKING:

    class RedisBackend:
        """``celery.backends.redis.RedisBackend``."""

        app: Celery
        client: redis.Redis
        connparams: dict[str, Any]
        connection_errors: tuple[type[Exception], ...]
        expires: int | None
        failure_expires: int | None
        retry_policy: Mapping[str, Any]
        _MAX_STR_VALUE_SIZE: int

        def as_uri(self, include_password: bool = False) -> str: ...
        def decode_result(self, payload: bytes) -> dict[str, Any]: ...
        def encode(self, data: object) -> str | bytes: ...
        def encode_result(self, result: object, state: str) -> object: ...
        def get(self, key: str) -> object: ...
        def get_key_for_task(self, task_id: str) -> bytes: ...
        def on_chord_part_return(self, *args: object, **kwargs: object) -> None: ...
        def set(self, key: str, value: str | bytes) -> None: ...
        def store_result(
            self,
            task_id: str,
            result: object,
            state: str,
            traceback: str | None = None,
            request: Context | None = None,
            **kwargs: object,
        ) -> object: ...
        def _get_result_meta(
            self, result: object, state: str, traceback: str | None, request: Context | None
        ) -> dict[str, object]: ...
        def _store_result(
            self,
            task_id: str,
            result: object,
            state: str,
            traceback: str | None = None,
            request: Context | None = None,
        ) -> object: ...

    class ResultConsumer:
        """``celery.backends.redis.ResultConsumer``."""

        app: Celery
        backend: RedisBackend
        subscribed_to: set[bytes]
        _pubsub: Any
        _connection_errors: tuple[type[Exception], ...]
        _pending_results: tuple[MutableMapping[str, object], ...]

        def __init__(self, *args: Any, **options: Any) -> None: ...
        def consume_from(self, task_id: str) -> None: ...
        def drain_events(self, timeout: float | None = None) -> None: ...
        def on_state_change(self, meta: dict[str, Any], message: object) -> None: ...
        def _locked(self) -> AbstractContextManager[None]: ...
        def reconnect_on_error(self) -> AbstractContextManager[None]: ...
        def on_wait_for_pending(self, result: Any, **options: Any) -> None: ...
        def _flush_pending_unsubscribe(self) -> None: ...
        def _reconnect_pubsub(self) -> None: ...

else:
    RedisBackend = celery_redis.RedisBackend
    ResultConsumer = celery_redis.ResultConsumer


def is_redis_backend(backend: object) -> TypeGuard[RedisBackend]:
    """Whether this is Celery's own backend for Redis, with or without Sentinel, not a subclass."""
    return type(backend) in {celery_redis.RedisBackend, celery_redis.SentinelBackend}


def refuse_states(backend: Any) -> None:
    """Let the backend that stands for none say so, also when it is asked for a state."""
    if isinstance(backend, DisabledBackend):
        vars(backend)["_get_task_meta_for"] = backend.get_result


def replace_result_consumer(backend: Any, kind: type[ResultConsumer]) -> None:
    """Let a backend for Redis wait for results with an object of this class."""
    backend.result_consumer = kind(
        backend,
        backend.app,
        backend.accept,
        backend._pending_results,
        backend._pending_messages,
    )


def are_of_one_server(one: Any, other: Any) -> bool:
    """Whether two of Celery's backends for Redis store in the same place."""
    return type(one) is type(other) and one.connparams == other.connparams


def copy_attributes(backend: object, copy: object) -> None:
    """Make `copy` the same backend in all respects but the methods that its class overrides."""
    copy.__dict__.update(vars(backend))


def cleans_up(backend: Backend) -> bool:
    """Whether the backend has something to clean up after each task."""
    return type(backend).process_cleanup is not Backend.process_cleanup


def stored_state(
    backend: RedisBackend, task_id: str, result: object, state: str, request: Context
) -> str | bytes:
    """What a backend for Redis stores of a task that is in this state."""
    encoded: object = backend.encode_result(result, state)
    meta = backend._get_result_meta(encoded, state, None, request)
    return backend.encode({**meta, "task_id": task_id})
