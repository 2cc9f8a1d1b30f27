"""A worker, prepared for the asyncio pool and the Redis fast path before its parts are made."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.worker.consumer import Consumer

from tests.support.settings import MakeApp, build
from tomskit.celery import AsyncCelery
from tomskit.celery._worker.prepare import DEFAULT_CONCURRENCY, prepare
from tomskit.celery._worker.unreadable import GuardedConsumer
from tomskit.celery.asyncio_pool.consumer import LoopConsumer
from tomskit.celery.asyncio_pool.hub import LoopHub
from tomskit.celery.asyncio_pool.patient_consumer import PatientConsumer
from tomskit.celery.fast_redis.channel import FastChannel
from tomskit.celery.fast_redis.connections import AwayConnection
from tomskit.celery.fast_redis.guarded import GuardedChannel


def new_worker(app: AsyncCelery, pool: str, **options: object) -> Any:
    """What of a worker is there when it is prepared."""
    return SimpleNamespace(
        app=app,
        pool_cls=pool,
        consumer_cls="celery.worker.consumer:Consumer",
        concurrency=2,
        options=options,
        hub=None,
        wait_for_soft_shutdown=lambda: None,
        _conninfo=SimpleNamespace(requires_hub=None),
    )


def prepared(app: AsyncCelery, pool: str, **options: object) -> Any:
    worker = new_worker(app, pool, **options)
    prepare(worker, app)
    return worker


def channel_of(app: AsyncCelery) -> type:
    """The class of the channels of the connections that the app makes."""
    amqp: Any = app.amqp
    connection: Any = amqp.Connection("redis://127.0.0.1:1/0")
    return cast("type", connection.get_transport_cls().Channel)


@pytest.fixture
def make(make_app: MakeApp) -> Callable[..., AsyncCelery]:
    def make(fast: bool | None = None) -> AsyncCelery:
        settings = {} if fast is None else {"CELERY_REDIS_FAST_PATH": fast}
        return make_app(build(**settings))

    return make


def test_the_asyncio_pool_gets_its_hub_and_consumer(make: Callable[..., AsyncCelery]) -> None:
    worker = prepared(make(), "asyncio")

    assert worker._conninfo.requires_hub is LoopHub
    assert issubclass(worker.consumer_cls, LoopConsumer)
    assert issubclass(worker.consumer_cls, Consumer)


def test_the_asyncio_pool_runs_many_tasks_unless_something_is_said(
    make: Callable[..., AsyncCelery],
) -> None:
    assert prepared(make(), "asyncio").concurrency == DEFAULT_CONCURRENCY
    assert prepared(make(), "asyncio", concurrency=2).concurrency == 2


def test_the_asyncio_pool_leaves_the_concurrency_of_the_settings(
    make: Callable[..., AsyncCelery],
) -> None:
    app = make()
    app.conf.worker_concurrency = 2

    assert prepared(app, "asyncio").concurrency == 2


@pytest.mark.parametrize(("fast", "expected"), [(None, True), (True, True), (False, False)])
def test_the_asyncio_pool_is_on_the_fast_path_unless_it_is_refused(
    make: Callable[..., AsyncCelery], fast: bool | None, expected: bool
) -> None:
    app = make(fast)

    prepared(app, "asyncio")

    assert issubclass(channel_of(app), FastChannel) == expected


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
@pytest.mark.parametrize(("fast", "expected"), [(None, False), (True, True), (False, False)])
def test_another_pool_is_on_the_fast_path_where_that_is_asked_for(
    make: Callable[..., AsyncCelery], pool: str, fast: bool | None, expected: bool
) -> None:
    app = make(fast)

    worker = prepared(app, pool)

    assert issubclass(channel_of(app), FastChannel) == expected
    assert worker.concurrency == 2
    assert worker._conninfo.requires_hub is None


@pytest.mark.parametrize("pool", ["asyncio", "prefork", "solo", "threads"])
def test_a_fetch_takes_the_bytes_of_the_settings(make_app: MakeApp, pool: str) -> None:
    app = make_app(build(CELERY_REDIS_FAST_PATH=True, CELERY_FETCH_BYTES=5))

    prepared(app, pool)

    channel: Any = channel_of(app)
    assert channel.fetch_bytes == 5


def test_a_message_that_cannot_be_read_ends_no_channel_and_no_consumer(
    make: Callable[..., AsyncCelery],
) -> None:
    app = make()

    worker = prepared(app, "threads")

    assert issubclass(channel_of(app), GuardedChannel)
    assert issubclass(worker.consumer_cls, GuardedConsumer)
    assert issubclass(worker.consumer_cls, Consumer)


def test_another_pool_waits_as_well_for_a_broker_that_cannot_be_written_to(
    make: Callable[..., AsyncCelery],
) -> None:
    app = make()

    worker = prepared(app, "threads")

    assert issubclass(worker.consumer_cls, PatientConsumer)
    assert not issubclass(worker.consumer_cls, LoopConsumer)
    kind: Any = channel_of(app)
    assert issubclass(kind.connection_class, AwayConnection)
    assert issubclass(kind.connection_class_ssl, AwayConnection)


# -- the soft shutdown, which Celery sleeps through


@pytest.fixture
def hub() -> Iterator[LoopHub]:
    hub = LoopHub()
    yield hub
    hub.wait(hub.asyncio_loop.shutdown_default_executor())
    hub.close()
    hub.asyncio_loop.close()


def test_tasks_run_while_the_worker_sleeps(make: Callable[..., AsyncCelery], hub: LoopHub) -> None:
    app = make()
    worker = new_worker(app, "asyncio")
    ran = threading.Event()
    slept: list[bool] = []
    worker.wait_for_soft_shutdown = lambda: slept.append(ran.wait(30))
    prepare(worker, app)
    worker.hub = hub

    hub.asyncio_loop.call_later(0.001, ran.set)
    worker.wait_for_soft_shutdown()

    assert slept == [True]


def test_without_its_hub_the_worker_does_not_sleep(make: Callable[..., AsyncCelery]) -> None:
    app = make()
    worker = new_worker(app, "asyncio")
    worker.wait_for_soft_shutdown = lambda: pytest.fail("it sleeps")
    prepare(worker, app)

    worker.wait_for_soft_shutdown()


def test_a_function_that_fails_in_the_solo_pool_is_logged(
    make: Callable[..., AsyncCelery], caplog: pytest.LogCaptureFixture
) -> None:
    pool = prepared(make(), "solo").pool_cls()
    done: list[object] = []
    errors: list[Any] = []

    pool.apply_async(divmod, (1, 0), callback=done.append)
    pool.apply_async(divmod, (7, 2), callback=done.append)
    pool.apply_async(divmod, (1, 0), callback=done.append, error_callback=errors.append)

    assert done == [(3, 1)]
    assert [one.type for one in errors] == [ZeroDivisionError]
    assert len([one for one in caplog.messages if "function in the pool failed" in one]) == 1
    assert str(pool.__class__.__module__) == "celery.concurrency.solo"
