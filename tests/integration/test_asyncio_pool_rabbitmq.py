"""A worker with the asyncio pool on RabbitMQ, which goes away and comes back."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import pytest
from amqp.exceptions import ResourceLocked
from celery import Celery
from celery.result import AsyncResult
from kombu import Connection, Queue

from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.outages import FREE, OUTAGE, SERVICE, SLOTS, outcomes, set_free
from tests.support.patience import slowed, wait_until
from tests.support.proxy import Proxy
from tests.support.servers.rabbitmq import RabbitMQServer
from tests.support.workers import Pool, Worker

LONG = "x" * 500_000


@dataclass
class Place:
    """A worker that has its messages from RabbitMQ, and a client that sends them there."""

    client: Celery
    deployment: Deployment
    worker: Worker

    def send(self, task: str, *args: object) -> AsyncResult[object]:
        send = cast("Callable[..., AsyncResult[object]]", self.client.send_task)
        return send(f"{SERVICE}.{task}", args)


def client_of(deployment: Deployment, server: RabbitMQServer) -> Celery:
    return Celery(
        "client",
        broker=server.url,
        backend=deployment.redis_db.result_url,
        set_as_current=False,
    )


@pytest.fixture
def place(deployment: Deployment, rabbitmq_server: RabbitMQServer) -> Iterator[Place]:
    worker = deployment.worker(
        "asyncio",
        SLOTS,
        module="tests.integration.asyncio_amqp_service",
        environment={"AMQP_BROKER": rabbitmq_server.url},
    )
    with client_of(deployment, rabbitmq_server) as client:
        yield Place(client, deployment, worker)


@pytest.fixture
def proxy(rabbitmq_server: RabbitMQServer) -> Iterator[Proxy]:
    address = urlsplit(rabbitmq_server.url)
    assert address.hostname is not None
    assert address.port is not None
    with Proxy(address.hostname, address.port) as made:
        yield made


def test_each_task_runs_once_in_an_outage(place: Place, rabbitmq_server: RabbitMQServer) -> None:
    gap = place.send("longest_gap", OUTAGE + 15)
    # One slot is taken by the first.
    count = SLOTS - 1
    sent = [place.send("count", f"count-{i}", 1 + i % 8) for i in range(count)]
    eventually(lambda: place.worker.text.count(" received") == count + 1)
    eventually(lambda: all(result.state != "PENDING" for result in sent))
    # A broker that ends before it has read an acknowledgement delivers the message again, and there
    # is nothing to see of its reading.
    time.sleep(slowed(1))

    rabbitmq_server.stop()
    place.worker.wait_for_line("Cannot connect to")
    rabbitmq_server.start()

    assert outcomes(sent) == [1] * count
    assert [place.deployment.key(f"count-{i}") for i in range(count)] == ["1"] * count
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
    assert cast("float", gap.get(timeout=TIMEOUT)) < 1


def test_heartbeats_go_on_in_a_warm_shutdown(place: Place) -> None:
    sent = place.send("late", "key", FREE)
    eventually(lambda: sent.state == "STARTED")

    place.worker.send_signal(signal.SIGTERM)
    place.worker.wait_for_line("[wW]arm shutdown")
    # Three heartbeats may be missed; the broker would close and deliver it again.
    time.sleep(8)
    set_free(place.deployment)

    assert place.worker.wait() == 0
    assert sent.get(timeout=TIMEOUT) == "done"
    with place.client.connection_for_read() as connection:
        queue = connection.SimpleQueue("celery")
        assert queue.qsize() == 0
        queue.close()


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_tasks_and_a_worker_end_while_the_rest_of_a_frame_does_not_come(
    deployment: Deployment, rabbitmq_server: RabbitMQServer, proxy: Proxy, pool: Pool
) -> None:
    port = urlsplit(rabbitmq_server.url).port
    # What is cut stays in it.
    queue = f"cut-{pool}"
    worker = deployment.worker(
        pool,
        2,
        *("-Q", queue),
        module="tests.integration.asyncio_amqp_service",
        environment={
            "AMQP_BROKER": rabbitmq_server.url.replace(f":{port}", f":{proxy.port}"),
            # The worker is told to stop before it is told that nothing comes.
            "AMQP_HEARTBEAT": "60",
        },
    )
    with client_of(deployment, rabbitmq_server) as client:
        send = cast("Callable[..., AsyncResult[object]]", client.send_task)
        running = send(f"{SERVICE}.early", ("key", FREE), queue=queue)
        eventually(lambda: running.state == "STARTED")

        proxy.cut_after(200_000)
        send(f"{SERVICE}.early", (LONG, FREE), queue=queue)
        wait_until(lambda: proxy.has_cut, 30, "a frame was cut")
        set_free(deployment)
        assert running.get(timeout=TIMEOUT) == "done"
        worker.send_signal(signal.SIGTERM)

        assert worker.wait(40) == 0


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_all_tasks_run_and_are_acknowledged_after_a_frame_that_was_cut(
    deployment: Deployment, rabbitmq_server: RabbitMQServer, proxy: Proxy, pool: Pool
) -> None:
    queue = f"cut-and-back-{pool}"
    worker = worker_behind(proxy, rabbitmq_server, deployment, pool, queue)
    with client_of(deployment, rabbitmq_server) as client:
        send = cast("Callable[..., AsyncResult[object]]", client.send_task)
        set_free(deployment)
        first = send(f"{SERVICE}.add", (1, 2), queue=queue)
        assert first.get(timeout=TIMEOUT) == 3

        proxy.cut_after(200_000)
        long = [send(f"{SERVICE}.early", (f"{LONG}{n}", FREE), queue=queue) for n in range(4)]
        wait_until(lambda: proxy.has_cut, 30, "a frame was cut")
        sent = [send(f"{SERVICE}.add", (n, 1), queue=queue) for n in range(20)]

        assert [result.get(timeout=TIMEOUT) for result in long] == ["done"] * 4
        assert [result.get(timeout=TIMEOUT) for result in sent] == [n + 1 for n in range(20)]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(40) == 0
        assert left_in(client, queue) == 0


@pytest.mark.parametrize("pool", ["asyncio", "prefork", "threads"])
def test_a_worker_waits_for_queues_that_the_broker_keeps_for_a_lost_connection(
    deployment: Deployment, rabbitmq_server: RabbitMQServer, proxy: Proxy, pool: Pool
) -> None:
    queue = f"locked-{pool}"
    worker = worker_behind(proxy, rabbitmq_server, deployment, pool, queue)
    with client_of(deployment, rabbitmq_server) as client:
        send = cast("Callable[..., AsyncResult[object]]", client.send_task)
        proxy.refuse()
        worker.wait_for_line("Cannot connect to")
        with client.connection_for_write() as connection:
            lock(connection, f"{worker.hostname}.celery.pidbox")
            proxy.heal()
            worker.wait_for_line("RabbitMQ keeps a queue for another connection")
            sent = send(f"{SERVICE}.add", (1, 2), queue=queue)
            wait_until(lambda: worker.text.count("RESOURCE_LOCKED") > 3, 30, "it tries again")
            assert worker.running

        assert sent.get(timeout=TIMEOUT) == 3
        worker.wait_for_line("The broker is back")
        assert worker.text.count("RabbitMQ keeps a queue for another connection") == 1
        assert "Unrecoverable error" not in worker.text


def worker_behind(
    proxy: Proxy, server: RabbitMQServer, deployment: Deployment, pool: Pool, queue: str
) -> Worker:
    port = urlsplit(server.url).port
    return deployment.worker(
        pool,
        2,
        *("-Q", queue),
        module="tests.integration.asyncio_amqp_service",
        environment={"AMQP_BROKER": server.url.replace(f":{port}", f":{proxy.port}")},
    )


def lock(connection: Connection, queue: str) -> None:
    """Take a queue for one connection, as soon as no other has it."""

    def is_mine() -> bool:
        try:
            Queue(queue, exclusive=True, auto_delete=True, channel=connection.channel()).declare()
        except ResourceLocked:
            return False
        return True

    wait_until(is_mine, 30, "the broker has noticed that the worker is gone")


def left_in(client: Celery, name: str) -> int:
    with client.connection_for_read() as connection:
        queue = connection.SimpleQueue(name)
        found = queue.qsize()
        queue.close()
    return found
