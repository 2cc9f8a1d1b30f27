"""Coroutines that are interrupted while a library waits, and what they raise that is no Exception."""

import socket
from collections.abc import Iterator

import pytest
from celery import states
from celery.exceptions import SoftTimeLimitExceeded

from tests.integration.interrupted_service import NO_EXCEPTIONS
from tests.support.deployment import TIMEOUT, Deployment, deploy, eventually
from tests.support.remote import fresh_key, state, unacked
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool
from tomskit.errors import TaskExitError

SERVICE = "tests.integration.interrupted_service"

WAITING = (
    "in_task_group",
    "in_cancel_scope",
    "in_standard_task_group",
    "in_timeout",
    "in_shield",
)


# Coroutines are run by a greenlet in the asyncio pool, and by a loop's thread under all the others.
# Prefork interrupts that thread by a signal, threads by a timer.
@pytest.fixture(scope="module", params=["asyncio", "prefork", "threads"])
def interrupted(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    pool: Pool = request.param
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.running = fresh.worker(pool, 2, module=SERVICE)
        yield fresh


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("task", WAITING)
def test_a_soft_limit_reaches_code_that_waits_in_a_scope(
    interrupted: Deployment, task: str
) -> None:
    sent = interrupted.send(f"{SERVICE}.{task}")

    with pytest.raises(SoftTimeLimitExceeded):
        sent.get(timeout=TIMEOUT)


def test_a_soft_limit_reaches_an_http_request(interrupted: Deployment, silent_port: int) -> None:
    sent = interrupted.send(f"{SERVICE}.in_request", silent_port)

    with pytest.raises(SoftTimeLimitExceeded):
        sent.get(timeout=TIMEOUT)


def test_a_soft_limit_has_no_context_of_ours(interrupted: Deployment) -> None:
    sent = interrupted.send(f"{SERVICE}.context_of_the_limit")

    assert sent.get(timeout=TIMEOUT) == "('SoftTimeLimitExceeded', None)"


@pytest.mark.parametrize("kind", NO_EXCEPTIONS)
def test_what_is_no_exception_fails_its_task_once(interrupted: Deployment, kind: str) -> None:
    key = fresh_key()
    sent = interrupted.send(f"{SERVICE}.raise_no_exception", kind, key)

    with pytest.raises(TaskExitError, match=kind):
        sent.get(timeout=TIMEOUT)

    # The worker goes on, and the message does not come again.
    assert interrupted.send(f"{SERVICE}.add", 1, 2).get(timeout=TIMEOUT) == 3
    assert state(sent) == states.FAILURE
    assert interrupted.key(key) == "1"


def test_a_memory_error_fails_its_task_once(interrupted: Deployment) -> None:
    key = fresh_key()
    sent = interrupted.send(f"{SERVICE}.take_too_much", key)

    with pytest.raises(MemoryError, match="too much"):
        sent.get(timeout=TIMEOUT)

    assert interrupted.send(f"{SERVICE}.add", 1, 2).get(timeout=TIMEOUT) == 3
    eventually(lambda: not unacked(interrupted, sent))
    assert interrupted.key(key) == "1"


def test_a_memory_error_of_a_plain_task_fails_it_once(interrupted: Deployment) -> None:
    sent = interrupted.send(f"{SERVICE}.take_too_much_plainly")

    with pytest.raises(MemoryError, match="too much"):
        sent.get(timeout=TIMEOUT)

    assert interrupted.send(f"{SERVICE}.add", 1, 2).get(timeout=TIMEOUT) == 3
    eventually(lambda: not unacked(interrupted, sent))
