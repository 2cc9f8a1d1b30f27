"""A log handler that fails costs its lines: no slot of a task, no limit, no stop of the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.remote import unacked
from tests.support.workers import Pool, Worker

SERVICE = "tests.integration.failing_handler_service"

StartWorker = Callable[[Pool, str], Worker]


@pytest.fixture
def start(deployment: Deployment) -> Iterator[StartWorker]:
    """Start a worker whose handler fails; it is to stop at the end."""
    started: list[Worker] = []

    def start(pool: Pool, fails_at: str) -> Worker:
        worker = deployment.worker(pool, 2, module=SERVICE, FAILS_AT=fails_at)
        started.append(worker)
        return worker

    yield start
    assert [worker.stop() for worker in started] == [0]


@pytest.mark.parametrize("fails_at", ["succeeded", "received"])
def test_a_line_of_a_task_takes_no_slot(
    deployment: Deployment, start: StartWorker, fails_at: str
) -> None:
    start("asyncio", fails_at)

    sent = [deployment.send(f"{SERVICE}.double", number) for number in range(10)]

    assert [one.get(timeout=TIMEOUT) for one in sent] == [2 * number for number in range(10)]
    eventually(lambda: not any(unacked(deployment, one) for one in sent))


# The line of a hard limit under the asyncio pool is Celery's, which fails the task after it.
@pytest.mark.parametrize(
    ("pool", "limit", "error"),
    [
        ("asyncio", "soft_time_limit", SoftTimeLimitExceeded),
        ("threads", "soft_time_limit", SoftTimeLimitExceeded),
        ("threads", "time_limit", TimeLimitExceeded),
    ],
)
def test_a_line_of_a_limit_takes_no_limit(
    deployment: Deployment, start: StartWorker, pool: Pool, limit: str, error: type[Exception]
) -> None:
    start(pool, "time limit")
    limits: dict[str, object] = {limit: 0.5}

    with pytest.raises(error):
        deployment.send(f"{SERVICE}.wait", 600, **limits).get(timeout=TIMEOUT)


@pytest.mark.parametrize("pool", ["asyncio", "threads"])
def test_a_line_of_an_abandoned_task_takes_no_slot(
    deployment: Deployment, start: StartWorker, pool: Pool
) -> None:
    start(pool, "is abandoned")

    with pytest.raises(TimeLimitExceeded):
        deployment.send(f"{SERVICE}.ignore_the_end", time_limit=0.5).get(timeout=TIMEOUT)
    assert deployment.send(f"{SERVICE}.double", 2).get(timeout=TIMEOUT) == 4
