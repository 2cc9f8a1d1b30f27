"""What tomskit relies on in Celery beyond its public names: result backends."""

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from celery import Celery, states
from celery.app.task import Context
from celery.backends.base import Backend, DisabledBackend, KeyValueStoreBackend
from celery.backends.redis import RedisBackend, SentinelBackend
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.contracts import assert_accepts, assert_has, untyped
from tomskit.celery._internals import celery_backend
from tomskit.celery._internals.celery_backend import (
    BLOCKING,
    STORED_WITH_PATIENCE,
    STORING,
    STORING_CHORDS,
    SUBSCRIBING,
    ResultConsumer,
    are_of_one_server,
    cleans_up,
    copy_attributes,
    is_redis_backend,
    replace_result_consumer,
    stored_state,
)

NO_SERVER = {
    "ResultConsumer",
    "TimeoutError",
    "as_uri",
    "connection_class_ssl",
    "current_task_children",
    "decode",
    "decode_result",
    "encode",
    "encode_result",
    "ensure_chords_allowed",
    "exception_safe_to_retry",
    "exception_to_python",
    "get_key_for_chord",
    "get_key_for_group",
    "get_key_for_task",
    "is_cached",
    "key_t",
    "meta_from_decoded",
    "on_backend_retryable_error",
    "on_connection_error",
    "on_result_fulfilled",
    "prepare_compression",
    "prepare_exception",
    "prepare_expires",
    "prepare_persistent",
    "prepare_value",
}
"""Methods that talk to no server."""

CALLED_IN_THREADS = {
    "chord_error_from_stack",
    "ensure",
    "fail_from_current_stack",
    "fallback_chord_unlock",
}
"""Methods that Celery calls within those of `BLOCKING`, or in tasks that are plain functions."""

WAITING = {
    "add_pending_result",
    "add_pending_results",
    "iter_native",
    "on_task_call",
    "remove_pending_result",
    "wait_for",
    "wait_for_pending",
}
"""Methods of those who wait for a result with ``get()``, which blocks in any case."""

BACKENDS = (Backend, KeyValueStoreBackend, RedisBackend, SentinelBackend)


@pytest.fixture
def backend() -> Any:
    app = Celery("app", backend="redis://localhost:1/2", set_as_current=False)
    return app.backend


@pytest.mark.parametrize("kind", BACKENDS, ids=lambda kind: kind.__name__)
def test_every_public_method_is_known_to_block_or_not_to(kind: type) -> None:
    """``BLOCKING``: a release that adds a method has to be looked at."""
    methods = {name for name, _ in inspect.getmembers(kind, callable) if name[0] != "_"}
    unknown = methods - BLOCKING - NO_SERVER - CALLED_IN_THREADS - WAITING
    assert not unknown, (
        f"{kind.__name__} has new methods, {', '.join(sorted(unknown))}: those that talk to a server "
        "belong into BLOCKING of celery_backend.py, others into a list of this test"
    )


def test_there_is_no_method_in_two_lists() -> None:
    assert BLOCKING.isdisjoint(NO_SERVER | CALLED_IN_THREADS | WAITING)


@pytest.mark.parametrize("name", sorted(BLOCKING | NO_SERVER | CALLED_IN_THREADS | WAITING))
def test_every_method_of_the_lists_is_there(name: str) -> None:
    assert any(hasattr(kind, name) for kind in BACKENDS), f"no backend has {name} any more"


@pytest.mark.parametrize("name", sorted(STORING))
def test_what_stores_a_state_takes_the_id_first(name: str) -> None:
    """``STORING``."""
    assert list(inspect.signature(getattr(Backend, name)).parameters)[:2] == ["self", "task_id"]


@pytest.mark.parametrize("name", sorted(STORING - {"store_result"}))
def test_what_marks_a_task_stores_its_state(name: str) -> None:
    """``STORING``: all of them end in ``store_result``."""
    assert "store_result" in getattr(Backend, name).__code__.co_names


@pytest.mark.parametrize("name", [*SUBSCRIBING, *STORING_CHORDS, *STORED_WITH_PATIENCE])
def test_what_is_replaced_is_looked_up_on_the_object(backend: Any, name: str) -> None:
    """``SUBSCRIBING``, ``STORING_CHORDS`` and ``STORED_WITH_PATIENCE``: methods of a backend, looked up on the object."""
    assert callable(getattr(backend, name))
    setattr(backend, name, print)
    assert getattr(backend, name) is print


@pytest.mark.parametrize("name", ["mark_as_done", "mark_as_failure"])
def test_what_ends_a_task_calls_what_is_stored_with_patience(name: str) -> None:
    """``Backend.store_result`` and ``on_chord_part_return``: nothing else talks to the server."""
    assert set(STORED_WITH_PATIENCE) <= set(getattr(Backend, name).__code__.co_names)


def test_a_backend_without_cleanup_is_known(backend: Any) -> None:
    """``Backend.process_cleanup`` does nothing."""

    class WithCleanup(untyped(Backend)):  # type: ignore[misc]
        def process_cleanup(self) -> None: ...

    app = Celery("app", set_as_current=False)
    assert_has(Backend, "process_cleanup")
    assert not cleans_up(backend)
    assert cleans_up(WithCleanup(app))


def test_a_copy_has_all_attributes(backend: Any) -> None:
    """The ``__dict__`` of a ``RedisBackend`` is all that there is of it."""
    assert not any("__slots__" in vars(kind) for kind in type(backend).__mro__)

    class Copy(untyped(RedisBackend)):  # type: ignore[misc]
        def __init__(self) -> None: ...

    pool = backend.client.connection_pool
    copy = Copy()
    copy_attributes(backend, copy)
    assert vars(copy) == vars(backend)
    assert copy.get_key_for_task("1") == backend.get_key_for_task("1")
    assert copy.client.connection_pool is pool


def test_only_celerys_own_backends_are_taken_for_redis(backend: Any) -> None:
    class Subclass(untyped(RedisBackend)):  # type: ignore[misc]
        pass

    app = backend.app
    assert is_redis_backend(backend)
    assert not is_redis_backend(Subclass(app=app, url="redis://localhost:1/2"))
    assert untyped(celery_backend.RedisBackend) is RedisBackend


def test_backends_of_one_server_have_the_same_connparams(backend: Any) -> None:
    """``RedisBackend.connparams``."""
    assert_has(backend, "connparams")
    same = RedisBackend(app=backend.app, url="redis://localhost:1/2")
    other = RedisBackend(app=backend.app, url="redis://localhost:1/3")
    assert are_of_one_server(backend, same)
    assert not are_of_one_server(backend, other)


@pytest.mark.parametrize(
    "name", ["client", "retry_policy", "connection_errors", "expires", "_MAX_STR_VALUE_SIZE"]
)
def test_a_redis_backend_has(backend: Any, name: str) -> None:
    """``client``, ``retry_policy``, ``connection_errors``, ``expires``, ``_MAX_STR_VALUE_SIZE``."""
    assert_has(backend, name)


def test_failures_may_have_an_expiry_of_their_own(backend: Any) -> None:
    """``RedisBackend.failure_expires``."""
    assert_has(backend, "failure_expires")
    assert (backend.expires, backend.failure_expires) == (86400, 86400)


def test_the_client_knows_its_pool(backend: Any) -> None:
    """``RedisBackend.client``, its ``connection_pool``."""
    assert_has(backend.client, "connection_pool")
    assert backend.client.connection_pool.connection_kwargs["db"] == 2


def test_the_key_of_a_task_is_bytes(backend: Any) -> None:
    """``RedisBackend.get_key_for_task``."""
    assert backend.get_key_for_task("id") == b"celery-task-meta-id"


def test_a_result_is_encoded_and_decoded_as_text_with_its_status(backend: Any) -> None:
    """``_get_result_meta``, ``encode``, ``encode_result`` and ``decode_result``."""
    encoded = backend.encode_result(1, states.SUCCESS)
    meta = backend._get_result_meta(encoded, states.SUCCESS, None, None)
    found = backend.decode_result(backend.encode({**meta, "task_id": "id"}))
    assert {name: found[name] for name in ("status", "result", "task_id")} == {
        "status": "SUCCESS",
        "result": 1,
        "task_id": "id",
    }


def test_a_failure_is_encoded_as_what_celery_stores(backend: Any) -> None:
    encoded = backend.encode_result(ValueError("no"), states.FAILURE)
    assert encoded["exc_type"] == "ValueError"


def test_storing_a_result_sets_a_key_by_set(backend: Any) -> None:
    """``RedisBackend._store_result`` and ``_set_with_state`` call ``set`` with key, value, expiry."""
    stored: list[Any] = []

    class Recording(untyped(RedisBackend)):  # type: ignore[misc]
        def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
            return {"status": states.PENDING}

        def set(self, key: bytes, value: str, expires: int | None = None, **_: Any) -> None:
            stored.append((key, value, expires))

    recording = Recording(app=backend.app, url="redis://localhost:1/2")
    assert_accepts(recording, "_set_with_state", b"key", "value", states.SUCCESS)
    assert_accepts(recording, "_store_result", "id", 1, states.SUCCESS, None, None)
    recording._store_result("id", 1, states.SUCCESS, None, None)
    [(key, value, _)] = stored
    assert key == b"celery-task-meta-id"
    assert recording.decode_result(value)["result"] == 1


def test_a_redis_backend_publishes_on_the_channel_of_the_key() -> None:
    assert_has(RedisBackend, "_set")
    called = set(untyped(RedisBackend)._set.__code__.co_names)
    assert called >= {"pipeline", "setex", "set", "publish"}


def test_a_state_is_encoded_as_celery_stores_it(backend: Any) -> None:
    """``RedisBackend._get_result_meta``, ``encode_result`` and ``encode``."""
    request = Context(group="group", parent_id="parent")
    value = stored_state(backend, "id", {"done": 1}, "PROGRESS", request)
    meta = backend.decode_result(value)
    assert (meta["task_id"], meta["status"], meta["result"]) == ("id", "PROGRESS", {"done": 1})
    assert (meta["group_id"], meta["parent_id"]) == ("group", "parent")


def test_what_waits_for_results_can_be_another_object(backend: Any) -> None:
    """``RedisBackend.result_consumer``, and what it is made of.

    Of ``app``, ``accept``, ``_pending_results`` and ``_pending_messages``.
    """

    class Mine(ResultConsumer):
        """Another one."""

    made = {"backend", "app", "accept", "_pending_results", "_pending_messages"}
    consumer: Any = backend.result_consumer
    before: dict[str, Any] = consumer.__dict__

    replace_result_consumer(backend, Mine)

    assert type(backend.result_consumer) is Mine
    after: dict[str, Any] = vars(backend.result_consumer)
    assert {name: after[name] for name in made} == {name: before[name] for name in made}


def test_a_result_consumer_has_what_we_override_and_use(backend: Any) -> None:
    """``ResultConsumer.drain_events``, ``consume_from``, ``on_state_change`` and others.

    Of which are ``subscribed_to``, ``_locked`` and ``_pubsub``.
    """
    consumer = backend.result_consumer
    assert_has(consumer, "subscribed_to", "_locked", "_pubsub")
    assert_accepts(ResultConsumer, "drain_events", None, timeout=1.0)
    assert_accepts(ResultConsumer, "consume_from", None, "id")
    assert_accepts(ResultConsumer, "on_state_change", None, {}, None)
    assert "result_consumer.drain_events" in inspect.getsource(consumer.drainer.__class__)


def test_a_consumer_of_results_that_cannot_connect() -> None:
    """``ResultConsumer.reconnect_on_error``, which connects again after `_connection_errors`.

    Ours calls `_reconnect_pubsub`. Who waits is among the `_pending_results`.
    """
    app = Celery("results", set_as_current=False, backend="redis://localhost:1/0")
    consumer: Any = untyped(app.backend).result_consumer
    assert_has(consumer, "_reconnect", "_reconnect_pubsub", "reconnect_on_error")
    assert issubclass(RedisConnectionError, consumer._connection_errors)
    assert [dict(pending) for pending in consumer._pending_results] == [{}, {}]
    calls: list[str] = []
    consumer._reconnect = partial(calls.append, "reconnect")
    fail: Any = untyped(_fail_to_connect)
    with consumer.reconnect_on_error():
        fail()
    assert calls == ["reconnect"]


def test_a_consumer_of_results_reads_what_is_stored_before_it_waits(backend: Any) -> None:
    """``ResultConsumer.on_wait_for_pending``, which may be called again where it has failed."""
    consumer = backend.result_consumer
    seen: list[object] = []

    def keep(meta: dict[str, str], _: object) -> None:
        seen.append(meta["task_id"])

    consumer.on_state_change = keep

    class Result:
        def _iter_meta(self, **_: object) -> Iterator[dict[str, str]]:
            yield {"task_id": "id", "status": "STARTED"}

    for _ in range(2):
        consumer.on_wait_for_pending(Result(), timeout=1.0)

    assert seen == ["id", "id"]


def test_a_consumer_of_results_unsubscribes_in_one_place(backend: Any) -> None:
    """``ResultConsumer._flush_pending_unsubscribe``, which is called for a result that is collected."""
    consumer = backend.result_consumer
    calls: list[object] = []
    consumer._flush_pending_unsubscribe = lambda: calls.append("flushed")

    consumer.cancel_for("id")

    assert calls == ["flushed"]


def test_the_backend_that_stands_for_none_has_forgotten_a_method() -> None:
    """`DisabledBackend._get_task_meta_for`, and ``get_result``, which raises."""
    backend = Celery("none", set_as_current=False).backend

    assert isinstance(backend, DisabledBackend)
    assert not hasattr(backend, "_get_task_meta_for")
    with pytest.raises(NotImplementedError, match="No result backend"):
        untyped(backend).get_result("id")


def _fail_to_connect() -> None:
    raise RedisConnectionError
