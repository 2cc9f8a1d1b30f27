"""A task that blocks the event loop of the asyncio pool is named in the log."""

import linecache
import re
from collections.abc import Iterator

import pytest

from tests.support.deployment import TIMEOUT, Deployment, deploy
from tests.support.patience import slowed
from tests.support.servers import MariaDBServer, RedisServer

SERVICE = "tests.integration.asyncio_service"
BLOCKED = slowed(2.0)
"""Seconds, of which a third is too long. A machine that is busy holds the loop up as well."""
WARNING = r"WARNING/.*{name}\[{id}\] has blocked the event loop.* (\S+):(\d+) in {where}$"


@pytest.fixture(scope="module")
def watched(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.running = fresh.worker(
            "asyncio", 200, module=SERVICE, CELERY_WORKER_SLOW_CALLBACK_DURATION=str(slowed(0.7))
        )
        yield fresh


def line_of(match: re.Match[str]) -> str:
    """The line of code that a warning names."""
    return linecache.getline(match[1], int(match[2]))


@pytest.mark.parametrize(
    ("task", "where"),
    [
        ("block_the_loop", "block_the_loop"),
        ("block_in_gather", "_block_in_child"),
        ("block_in_run_sync", "_block_in_session"),
        ("block_in_callback", "_block_in_callback"),
    ],
)
def test_task_that_blocks_the_loop_is_named_with_the_line(
    watched: Deployment, task: str, where: str
) -> None:
    sent = watched.send(f"{SERVICE}.{task}", BLOCKED)

    assert sent.get(timeout=TIMEOUT) == "blocked"

    warning = WARNING.format(name=re.escape(f"{SERVICE}.{task}"), id=sent.id, where=where)
    match = watched.wait_for_line(warning)
    assert "time.sleep(seconds)" in line_of(match)
    assert watched.log.count(f"[{sent.id}] has blocked the event loop") == 1


def test_the_one_that_blocks_is_named_and_not_those_that_wait(watched: Deployment) -> None:
    waiting = [watched.send(f"{SERVICE}.sleep", 0.5) for _ in range(50)]
    sent = watched.send(f"{SERVICE}.block_the_loop", BLOCKED)

    for result in [*waiting, sent]:
        result.get(timeout=TIMEOUT)

    named = {
        match[1] for match in re.finditer(r"\[(\S+)\] has blocked the event loop", watched.log)
    }
    assert sent.id in named
    assert named.isdisjoint(result.id for result in waiting)


def test_plain_task_that_blocks_its_thread_is_not_named(watched: Deployment) -> None:
    sent = watched.send(f"{SERVICE}.plain_block", BLOCKED)

    assert sent.get(timeout=TIMEOUT) == "blocked its own thread"

    assert f"[{sent.id}] has blocked the event loop" not in watched.log


def test_nothing_is_named_when_the_setting_is_zero(deployment: Deployment) -> None:
    worker = deployment.worker(
        "asyncio", 200, module=SERVICE, CELERY_WORKER_SLOW_CALLBACK_DURATION="0"
    )

    assert deployment.call(f"{SERVICE}.block_the_loop", BLOCKED) == "blocked"

    assert deployment.call(f"{SERVICE}.add", 1, 2) == 3
    assert "has blocked the event loop" not in worker.text
