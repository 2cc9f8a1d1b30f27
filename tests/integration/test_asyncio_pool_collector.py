"""Python looks for reference cycles rarely under the asyncio pool, and tasks leave none."""

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import group, signature

from tests.support.deployment import TIMEOUT, Deployment, deploy
from tests.support.servers import MariaDBServer, RedisServer

SERVICE = "tests.integration.asyncio_service"
MANY = 100
RARE = 20_000
OF_RETRY = 10
"""Objects. Celery's Retry is among its own arguments, and holds the signature."""


@pytest.fixture(scope="module")
def wide(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    """A worker with room for many tasks, in which objects are counted."""
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.worker("asyncio", concurrency=100, module=SERVICE)
        yield fresh


def call(deployment: Deployment, task: str, *args: object) -> object:
    return deployment.send(f"{SERVICE}.{task}", *args).get(timeout=TIMEOUT)


def test_the_collector_looks_rarely_and_not_at_what_was_imported(deployment: Deployment) -> None:
    deployment.worker("asyncio", module=SERVICE)

    assert call(deployment, "collector") == [RARE, pytest.approx(400_000, rel=0.9)]


@pytest.mark.parametrize("threshold", [500, 0])
def test_a_threshold_of_the_users_own_is_left(deployment: Deployment, threshold: int) -> None:
    deployment.worker("asyncio", module=SERVICE, COLLECTOR_THRESHOLD=str(threshold))

    found = call(deployment, "collector")

    assert isinstance(found, list)
    assert found[0] == threshold


def test_the_collector_is_as_before_when_the_pool_has_stopped(deployment: Deployment) -> None:
    worker = deployment.worker("asyncio", module=SERVICE, LOG_SIGNALS="yes")

    worker.send_signal(signal.SIGTERM)

    assert worker.wait() == 0
    assert any(
        f"collector at the end: {gc.get_threshold()[0]}, 0" in line for line in worker.lines
    ), worker.lines


@pytest.mark.parametrize(
    ("task", "arguments", "each"),
    [
        ("add", (1, 2), 0),
        ("block_in_gather", (0,), 0),
        ("fail", ("failed",), 0),
        ("fail_because", (), 0),
        ("fail_together", (), 0),
        ("fail_after_another", (), 0),
        ("exceed_soft_limit", (), 0),
        ("retry_in", (0,), OF_RETRY),
        ("retry_because", (), OF_RETRY),
        ("autoretry_to_the_end", (), OF_RETRY),
    ],
)
def test_tasks_leave_no_reference_cycles(
    wide: Deployment, task: str, arguments: tuple[object, ...], each: int
) -> None:
    one = signature(f"{SERVICE}.{task}", args=arguments, app=wide.client)
    # What a connection, or the first task of a kind, leaves is not counted.
    one.clone().apply_async().get(timeout=TIMEOUT, propagate=False)
    call(wide, "stop_collector")

    many = group([one.clone() for _ in range(MANY)], app=wide.client).apply_async()
    many.get(timeout=TIMEOUT, propagate=False)

    found = call(wide, "collect")
    assert isinstance(found, int)
    assert found < (each + 1) * MANY


def most_memory(deployment: Deployment, environment: dict[str, str]) -> int:
    """The most kilobytes that a worker has had over 240 tasks that drop a client each."""
    worker = deployment.worker("asyncio", 20, module=SERVICE, environment=environment)
    call(deployment, "drop_client")
    for _ in range(6):
        calls = [deployment.send(f"{SERVICE}.drop_client") for _ in range(40)]
        for sent in calls:
            sent.get(timeout=TIMEOUT)
    most = peak(worker.pid)
    assert worker.stop() == 0
    return most


def peak(pid: int) -> int:
    """The most memory that a process has had, in kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_dropped_clients_take_no_more_memory_than_with_pythons_own_thresholds(
    deployment: Deployment,
) -> None:
    usual = most_memory(deployment, {"COLLECTOR_THRESHOLD": "700"})

    assert most_memory(deployment, {}) <= 1.1 * usual
