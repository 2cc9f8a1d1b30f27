"""What tomskit relies on in Celery, kombu and Python, of what a process that was forked inherits."""

import multiprocessing.util
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection, pools
from kombu.transport import redis as kombu_redis
from kombu.utils.objects import cached_property

from tests.support.contracts import assert_has, untyped
from tomskit.celery._internals.inherited import renew_locks, take_pools, take_pools_of


@pytest.fixture
def app() -> Any:
    return Celery("inherited", broker="memory://", set_as_current=False)


def is_free(lock: Any) -> bool:
    """Whether another thread could take it."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    return found == [True]


@pytest.mark.parametrize(
    "find",
    [
        lambda: vars(Celery)["amqp"],
        lambda: vars(Connection)["connection_errors"],
        lambda: vars(kombu_redis.Channel)["client"],
    ],
)
def test_kombu_has_one_lock_for_a_cached_property_of_all_objects(
    find: Callable[[], Any],
) -> None:
    """``kombu.utils.objects.cached_property``, its ``lock``."""
    attribute = find()
    assert issubclass(type(attribute), cached_property)
    before = attribute.lock
    with before:
        renew_locks()
        assert attribute.lock is not before
        assert is_free(attribute.lock)


def test_kombu_registers_channels_that_disconnect_in_a_forked_process() -> None:
    """``multiprocessing.util._afterfork_registry``, `Channel._pool`, `_async_pool`, `ConnectionPool._lock`."""
    registry = untyped(multiprocessing.util)._afterfork_registry
    channel: Any = kombu_redis.Channel.__new__(kombu_redis.Channel)
    pool: Any = redis.ConnectionPool()
    channel._pool, channel._async_pool = pool, None
    key = (0, id(channel), print)
    registry[key] = channel
    try:
        with pool._lock:
            renew_locks()
            assert is_free(pool._lock)
    finally:
        del registry[key]
        channel._pool = None
    assert_has(kombu_redis.Channel, "_pool", "_async_pool", "_after_fork")


def test_kombu_makes_new_pools_where_its_own_were_taken(app: Any) -> None:
    """``kombu.pools._groups``, `Celery._pool`, `AMQP._producer_pool`."""
    groups = untyped(pools)._groups
    kept = [(group, dict(group)) for group in groups]
    assert pools.connections in groups
    assert pools.producers in groups
    producers, connections = app.producer_pool, app.pool
    try:
        taken = take_pools()
        of_app = take_pools_of(app)
        assert any(one is connections for one in taken)
        assert any(one is producers for one in of_app)
        assert app.pool is not connections
        assert app.producer_pool is not producers
    finally:
        for group, known in kept:
            group.clear()
            group.update(known)
    assert_has(AMQP, "_producer_pool")


def test_the_locks_of_an_app_that_sends_events_are_renewed(app: Any) -> None:
    """``AMQP._event_dispatcher``, its ``mutex``, and `LamportClock.mutex`."""
    dispatcher = app.amqp._event_dispatcher
    assert dispatcher.clock is app.clock
    with dispatcher.mutex, app.clock.mutex:
        take_pools_of(app)
        assert is_free(dispatcher.mutex)
        assert is_free(app.clock.mutex)


def test_remote_control_asks_for_its_producers_again(app: Any) -> None:
    """``Mailbox.producer_pool``."""
    before = app.control.mailbox.producer_pool
    assert before is app.producer_pool
    take_pools_of(app)
    assert "producer_pool" not in vars(app.control.mailbox)
    assert app.control.mailbox.producer_pool is app.producer_pool
