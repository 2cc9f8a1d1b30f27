"""Publishing from threads where a producer of the app's pool loses its connection before it has published."""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import pytest
from celery import Celery, group
from celery.utils import uuid
from kombu import Producer
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from tests.support.deployment import Deployment, close_client
from tests.support.faults import faults
from tests.support.patience import patience
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tests.support.servers.rabbitmq import RabbitMQServer
from tests.support.settings import build
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery
from tomskit.celery._internals.celery_app import changes_of
from tomskit.celery.asyncio_pool.hub import run_into

Fault = Literal["lose", "freeze_at"]

THREADS = 4
SECONDS = 2.0
"""The timeout of sockets. A busy machine answers within it."""
DECLARING = b"SADD"
"""What kombu sends to declare a queue, before the first message of a connection."""
PUBLISHING = b"LPUSH"
QUEUE_DECLARE = b"\x00\x32\x00\x0a"
"""What declares a queue in AMQP: class 50, method 10."""


async def _nothing() -> None: ...


@dataclass
class Place:
    """An app that publishes by way of a proxy, and what has come to its queue."""

    app: AsyncCelery
    task: Any
    server: RedisServer
    proxy: Proxy

    def lose(self, request: bytes, fault: Fault = "lose") -> None:
        """Lose the connection of the next such request, which is not executed."""
        if fault == "lose":
            self.proxy.lose(request, is_answered=False)
        else:
            self.proxy.freeze_at(request)

    def published(self) -> int:
        with self.server.client(0) as client:
            return int(str(client.llen("celery")))


@pytest.fixture
def place(own: RedisServer) -> Iterator[Place]:
    with Proxy(own.host, own.port) as proxy:
        config = build(
            CELERY_BROKER_REDIS_HOST=proxy.host,
            CELERY_BROKER_REDIS_PORT=proxy.port,
            # A group waits for its results although its tasks ignore theirs.
            CELERY_RESULT_BACKEND_REDIS_HOST=own.host,
            CELERY_RESULT_BACKEND_REDIS_PORT=own.port,
            CELERY_BROKER_SOCKET_TIMEOUT=SECONDS,
            CELERY_BROKER_SOCKET_CONNECT_TIMEOUT=SECONDS,
            CELERY_TASK_IGNORE_RESULT=True,
        )
        app = AsyncCelery("producers", config=config, set_as_current=False)
        task = app.task(name="nothing", shared=False)(_nothing)
        try:
            yield Place(app, task, own, proxy)
        finally:
            cast("Any", app).pool.force_close_all()
            close_client(app)


def _delay(place: Place) -> None:
    place.task.delay()


def _delay_signature(place: Place) -> None:
    place.task.s().delay()


def _send_by_name(place: Place) -> None:
    place.app.send_task("nothing")


def _send_a_group(place: Place) -> None:
    group([place.task.s()], app=place.app).delay()


def _send_in_a_loop(place: Place) -> None:
    asyncio.run(place.task.adelay())


@pytest.mark.parametrize("fault", ["lose", "freeze_at"])
@pytest.mark.parametrize(
    "send", [_delay, _delay_signature, _send_by_name, _send_a_group, _send_in_a_loop]
)
def test_a_connection_lost_while_a_queue_is_declared_is_made_again(
    place: Place, send: Callable[[Place], None], fault: Fault
) -> None:
    place.lose(DECLARING, fault)
    send(place)
    assert place.proxy.has_lost if fault == "lose" else place.proxy.has_frozen
    assert place.published() == 1
    send(place)
    assert place.published() == 2


@pytest.mark.parametrize("fault", ["lose", "freeze_at"])
def test_each_of_many_threads_publishes_once(place: Place, fault: Fault) -> None:
    together = threading.Barrier(THREADS)

    def send(_: int) -> None:
        together.wait(patience(30))
        place.task.delay()

    place.lose(DECLARING, fault)
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(send, range(THREADS)):
            pass
    assert place.proxy.has_lost if fault == "lose" else place.proxy.has_frozen
    assert place.published() == THREADS


def test_a_call_that_is_not_to_be_retried_says_that_the_broker_is_away(place: Place) -> None:
    place.lose(DECLARING)
    with pytest.raises(OperationalError):
        place.task.apply_async(retry=False)
    assert place.published() == 0
    place.task.apply_async(retry=False)
    assert place.published() == 1


@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("options", [{}, {"exchange": "", "routing_key": "celery"}], ids=str)
def test_a_producer_that_is_kept_over_an_error_publishes_again(
    place: Place, options: dict[str, object], *, retry: bool
) -> None:
    with place.app.producer_or_acquire() as producer:
        place.task.apply_async(producer=producer, **options)
        place.proxy.refuse()
        with pytest.raises(OperationalError):
            place.task.apply_async(
                producer=producer, retry_policy={"max_retries": 1, "interval_start": 0}, **options
            )
        place.proxy.heal()
        place.task.apply_async(producer=producer, retry=retry, **options)
    assert place.published() == 2


def test_a_refusal_is_an_error_of_the_broker_once_the_policy_ends(place: Place) -> None:
    error = "READONLY You can't write against a read only replica."
    place.proxy.answer(error, DECLARING, PUBLISHING)
    with pytest.raises(OperationalError, match="read only"):
        place.task.apply_async(retry_policy={"max_retries": 2, "interval_start": 0})
    place.proxy.heal()
    assert place.published() == 0
    place.task.delay()
    assert place.published() == 1


def test_an_entity_is_declared_with_retries_by_a_producer_of_the_pool(place: Place) -> None:
    queue = place.app.amqp.queues["celery"]
    place.lose(DECLARING)
    with place.app.producer_or_acquire() as producer:
        producer.maybe_declare(queue, retry=True, max_retries=3, interval_start=0)
        producer.publish({}, exchange="", routing_key="celery")
    assert place.published() == 1


def test_a_plain_app_beside_ours_keeps_celerys_producers(place: Place) -> None:
    plain = Celery("plain", changes=changes_of(place.app), set_as_current=False)
    with place.app.producer_or_acquire() as ours, plain.producer_or_acquire() as celerys:
        assert type(ours) is not type(celerys)
        assert type(celerys) is Producer


def _revoke(app: Any) -> None:
    app.AsyncResult("id").revoke()


def _broadcast(app: Any) -> None:
    app.control.broadcast("ping")


def _inspect(app: Any) -> None:
    app.control.inspect(timeout=1).ping()


@pytest.mark.parametrize("command", [_revoke, _broadcast, _inspect])
@pytest.mark.parametrize("is_retried", [True, False])
def test_a_command_to_workers_is_not_tried_for_ever(
    place: Place, command: Callable[[AsyncCelery], object], *, is_retried: bool
) -> None:
    place.app.conf.task_publish_retry = is_retried
    place.app.control.broadcast("ping")
    place.proxy.freeze()
    place.proxy.accept_silently()
    with pytest.raises((OperationalError, RedisError)):
        command(place.app)
    place.proxy.heal()
    place.app.conf.task_publish_retry = True
    place.app.control.broadcast("ping")


@contextmanager
def app_behind(proxy: Proxy, server: RabbitMQServer, **settings: object) -> Generator[Any]:
    """An app with a queue of its own."""
    app: Any = AsyncCelery(
        "amqp",
        broker=server.url.replace(f":{server.port}/", f":{proxy.port}/"),
        changes={"task_ignore_result": True, "task_default_queue": uuid(), **settings},
        set_as_current=False,
    )
    try:
        yield app
    finally:
        app.pool.force_close_all()
        app.close()


def messages_of(app: Any) -> list[str]:
    """The ids of what is in the app's queue."""
    found: list[str] = []
    with app.connection_for_read() as connection:
        while message := connection.default_channel.basic_get(
            app.conf.task_default_queue, no_ack=True
        ):
            found.append(message.headers["id"])
    return found


def test_a_connection_to_rabbitmq_is_made_again(rabbitmq_server: RabbitMQServer) -> None:
    with (
        Proxy(rabbitmq_server.host, rabbitmq_server.port) as proxy,
        app_behind(proxy, rabbitmq_server) as app,
    ):
        proxy.lose(QUEUE_DECLARE, is_answered=False)
        sent = app.send_task("nothing").id
        assert messages_of(app) == [sent]


def _publish_confirmed(app: Any, **options: object) -> None:
    app.send_task("nothing", **options)


def _declare_a_queue(app: Any, **options: object) -> None:
    app.send_task("nothing", queue=uuid(), **options)


def _publish_in_a_loop(app: Any, **options: object) -> None:
    task = app.task(name="nothing", shared=False)(_nothing)
    asyncio.run(task.aapply_async(**options))


@pytest.mark.parametrize("publish", [_publish_confirmed, _declare_a_queue, _publish_in_a_loop])
def test_rabbitmq_that_goes_silent_is_not_waited_for_without_end(
    rabbitmq_server: RabbitMQServer, publish: Callable[..., None]
) -> None:
    confirmed = {"broker_transport_options": {"confirm_publish": True}}
    with (
        Proxy(rabbitmq_server.host, rabbitmq_server.port) as proxy,
        app_behind(proxy, rabbitmq_server, **confirmed) as app,
    ):
        app.send_task("nothing")
        # The connection that is kept, and those that are made in its place.
        proxy.freeze()
        proxy.accept_silently()
        ended: Future[None] = Future()
        threading.Thread(
            target=run_into, args=(ended, lambda: publish(app, retry=False)), daemon=True
        ).start()
        with pytest.raises(OperationalError):
            ended.result(patience(30))

        proxy.heal()
        messages_of(app)
        sent = app.send_task("nothing", retry=False).id
        assert messages_of(app) == [sent]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_publishes_on_a_connection_that_is_lost(deployment: Deployment, pool: Pool) -> None:
    with faults(deployment, pool, 2) as running:
        running.broker.lose(DECLARING, is_answered=False)
        sent = running.send("send_plainly", 1)
        child = str(running.outcomes([sent])[0])
        assert running.broker.has_lost
        assert running.outcomes([running.client.AsyncResult(child)]) == [2]
