"""Coroutines that are interrupted while a library waits, and what they raise that is no Exception."""

import socket
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM

import pytest
from celery import states
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError

from tests.integration.interrupted_service import NO_EXCEPTIONS
from tests.support.deployment import TIMEOUT, Deployment, eventually, working
from tests.support.patience import slowed
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
    with working(redis_server, mariadb_server, pool, 2, module=SERVICE) as made:
        yield made


# Prefork ends the process of a plain task that raises what is no Exception, as in plain Celery.
@pytest.fixture(scope="module", params=["asyncio", "threads", "solo"])
def in_process(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    pool: Pool = request.param
    with working(redis_server, mariadb_server, pool, 1, module=SERVICE) as made:
        yield made


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


@pytest.mark.parametrize("kind", NO_EXCEPTIONS)
def test_what_is_no_exception_fails_a_plain_task_once(in_process: Deployment, kind: str) -> None:
    key = fresh_key()
    sent = in_process.send(f"{SERVICE}.raise_no_exception_plainly", kind, key)

    with pytest.raises(TaskExitError, match=kind):
        sent.get(timeout=TIMEOUT)

    assert in_process.send(f"{SERVICE}.add", 1, 2).get(timeout=TIMEOUT) == 3
    eventually(lambda: not unacked(in_process, sent))
    assert in_process.key(key) == "1"


def test_an_error_of_which_no_traceback_can_be_made_fails_its_task_once(
    in_process: Deployment,
) -> None:
    key = fresh_key()
    sent = in_process.send(f"{SERVICE}.raise_unshowable", key)

    with pytest.raises(TaskExitError, match="no traceback can be made"):
        sent.get(timeout=TIMEOUT)

    assert in_process.send(f"{SERVICE}.add", 1, 2).get(timeout=TIMEOUT) == 3
    eventually(lambda: not unacked(in_process, sent))
    assert in_process.key(key) == "1"


def test_a_task_that_raises_the_error_of_a_lost_worker_fails_once(interrupted: Deployment) -> None:
    key = fresh_key()
    sent = interrupted.send(f"{SERVICE}.lose_another", key)

    with pytest.raises(WorkerLostError, match="of another task"):
        sent.get(timeout=TIMEOUT)

    assert interrupted.send(f"{SERVICE}.add", 1, 2).get(timeout=TIMEOUT) == 3
    eventually(lambda: not unacked(interrupted, sent))
    assert interrupted.key(key) == "1"


def test_a_soft_limit_interrupts_once_though_the_worker_stops_meanwhile(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Celery's prefork pool interrupts again, also what writes the result: then the worker never ends."""
    worker = deployment.worker("prefork", 2, module=SERVICE)
    last = deployment.send(f"{SERVICE}.sleep_for_ever", time_limit=slowed(4.0))
    name = f"{SERVICE}.clean_up_at_soft_limit"
    cleaning = deployment.send(name, str(tmp_path), soft_time_limit=0.3)
    eventually((tmp_path / "cleans up").exists)

    worker.send_signal(SIGTERM)
    # The worker looks at all limits at once.
    with pytest.raises(TimeLimitExceeded):
        last.get(timeout=TIMEOUT)
    (tmp_path / "free").touch()

    assert cleaning.get(timeout=TIMEOUT) == 1
    assert worker.wait() == 0


# Only prefork interrupts by a signal; the limits of the other pools are timers that end with the coroutine.
@pytest.mark.parametrize("task", ["fail_at_length", "fail_at_length_as_coroutine"])
def test_a_soft_limit_does_not_interrupt_a_process_that_reports_an_outcome(
    deployment: Deployment, task: str
) -> None:
    """In plain Celery half a message may stay in the pipe, or the process ends."""
    worker = deployment.worker("prefork", 1, module=SERVICE)

    with pytest.raises(ValueError, match="xxx"):
        deployment.call(f"{SERVICE}.{task}", 5_000_000)

    # The interruptions end when it begins, and may interrupt it.
    deployment.send(f"{SERVICE}.add", 1, 1).get(timeout=TIMEOUT, propagate=False)
    assert deployment.call(f"{SERVICE}.add", 1, 2) == 3
    worker.send_signal(SIGTERM)
    assert worker.wait() == 0
    assert "WorkerLostError" not in worker.text


def test_a_soft_limit_does_not_interrupt_the_storing_of_a_result(deployment: Deployment) -> None:
    deployment.worker("prefork", 1, module=SERVICE)

    assert deployment.call(f"{SERVICE}.interrupt_the_storing") == "stored"
    assert deployment.call(f"{SERVICE}.add", 1, 2) == 3


@pytest.mark.parametrize("task", ["begin_interrupted", "begin_interrupted_as_coroutine"])
def test_a_soft_limit_that_comes_before_the_body_interrupts_its_beginning(
    deployment: Deployment, task: str
) -> None:
    """In plain Celery it is lost where a handler of a signal runs, as here."""
    deployment.worker("prefork", 1, module=SERVICE)

    with pytest.raises(SoftTimeLimitExceeded):
        deployment.call(f"{SERVICE}.{task}")
