"""Results that RabbitMQ sends in messages, to a client that waits for them in several ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.contracts import untyped
from tests.support.deployment import TIMEOUT, eventually
from tests.support.loops import run
from tests.support.replies import say
from tests.support.servers.rabbitmq import RabbitMQServer
from tomskit.celery import AsyncCelery, TypedResult, async_shared_task

QUEUE = "test-replies-nobody-reads"


@async_shared_task
async def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def client(rabbitmq_server: RabbitMQServer) -> Iterator[AsyncCelery]:
    with AsyncCelery("client", broker=rabbitmq_server.url, backend="rpc://") as app:
        yield app
        with app.connection_for_write() as connection:
            untyped(connection.default_channel).queue_delete(QUEUE)
        untyped(app.backend).result_consumer.stop()


def send(number: int) -> TypedResult[int]:
    return double.apply_async((number,), queue=QUEUE)


def got(number: int) -> int:
    """The result of a task, by ``get()``."""
    result = send(number)
    say(result, "SUCCESS", 2 * number)
    return result.get(timeout=TIMEOUT)


@pytest.mark.usefixtures("client")
def test_states_are_seen_after_a_get() -> None:
    assert got(1) == 2
    result = send(2)

    say(result, "STARTED")
    eventually(lambda: result.state == "STARTED")
    say(result, "SUCCESS", 4)
    eventually(result.ready)

    assert result.get(timeout=TIMEOUT) == 4


@pytest.mark.usefixtures("client")
def test_a_result_is_awaited_after_a_get() -> None:
    assert got(1) == 2
    result = send(2)
    say(result, "SUCCESS", 4)

    assert run(result.aget(timeout=TIMEOUT)) == 4


@pytest.mark.usefixtures("client")
def test_a_state_that_get_has_passed_over_is_seen() -> None:
    assert got(1) == 2
    result = send(2)
    say(result, "STARTED")

    assert got(3) == 6
    eventually(lambda: result.state == "STARTED")
