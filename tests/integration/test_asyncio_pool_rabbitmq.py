"""A worker with the asyncio pool on RabbitMQ, which goes away and comes back."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import pytest
from celery import Celery
from celery.result import AsyncResult

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
