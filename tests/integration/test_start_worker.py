"""Workers in the process of a test, by Celery's own helper."""

import json
import os
import subprocess
import sys
from typing import TypedDict

import pytest

from tests.support.deployment import Deployment
from tests.support.patience import patience
from tests.support.workers import PROJECT

POOLS = ("asyncio", "solo", "threads", "prefork")
DOUBLED = [0, 2, 4, 6]


class Outcome(TypedDict):
    """What `start_worker_service` prints."""

    found: list[list[int]]
    threads: list[str]
    signals: list[int]
    hub: bool
    runtime: bool


def run(deployment: Deployment, mode: str, *pools: str) -> Outcome:
    command = [sys.executable, "-m", "tests.integration.start_worker_service", mode, *pools]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, **deployment.environment},
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcome: Outcome = json.loads(done.stdout.splitlines()[-1])
    return outcome


@pytest.mark.parametrize("pool", POOLS)
def test_two_workers_one_after_the_other(deployment: Deployment, pool: str) -> None:
    outcome = run(deployment, "plain", pool, pool)

    assert outcome["found"] == [[n for n in DOUBLED for _ in range(2)]] * 2
    assert outcome["signals"] == []
    assert not outcome["hub"]
    if pool != "prefork":  # for which the helper starts a thread that it never ends
        assert outcome["threads"] == []
        assert not outcome["runtime"]


@pytest.mark.parametrize("pool", POOLS)
def test_two_workers_beside_a_running_loop(deployment: Deployment, pool: str) -> None:
    outcome = run(deployment, "loop", pool, pool)

    assert outcome["found"] == [DOUBLED] * 2
    assert outcome["signals"] == []
    assert not outcome["hub"]


def test_workers_with_different_pools(deployment: Deployment) -> None:
    pools = ("threads", "asyncio", "prefork", "asyncio", "threads")

    outcome = run(deployment, "plain", *pools)

    assert outcome["found"] == [[n for n in DOUBLED for _ in range(2)]] * len(pools)


@pytest.mark.parametrize("pool", ["asyncio", "threads"])
def test_two_workers_with_the_fast_path(deployment: Deployment, pool: str) -> None:
    deployment.environment["CELERY_REDIS_FAST_PATH"] = "true"

    outcome = run(deployment, "loop", pool, pool)

    assert outcome["found"] == [DOUBLED] * 2
