"""Beat, in a worker and alone, with every pool."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.deployment import Deployment, eventually
from tests.support.patience import patience
from tests.support.servers import die_with_parent
from tests.support.workers import PROJECT, Pool

SERVICE = "tests.integration.beat_service"
SCHEDULER = f"{SERVICE}:InMemoryScheduler"
SWALLOWING = f"{SERVICE}:SwallowingScheduler"
POOLS: tuple[Pool, ...] = ("prefork", "solo", "threads", "asyncio")


def ticks(deployment: Deployment) -> int:
    return int(deployment.key("ticks") or 0)


def tick_again(deployment: Deployment, times: int = 3) -> None:
    """Wait until beat has sent more tasks and the worker has run them."""
    before = ticks(deployment)
    eventually(lambda: ticks(deployment) >= before + times)


@contextmanager
def beat_alone(
    deployment: Deployment, *arguments: str, output: Path | None = None
) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "celery", "-A", SERVICE, "beat", *arguments]
    with ExitStack() as opened:
        process = subprocess.Popen(
            die_with_parent(command, "KILL"),
            cwd=PROJECT,
            env={**os.environ, **deployment.environment},
            stderr=None if output is None else opened.enter_context(output.open("wb")),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_runs_beat(deployment: Deployment, pool: Pool, tmp_path: Path) -> None:
    schedule = tmp_path / "schedule"
    worker = deployment.worker(pool, 2, "--beat", f"--schedule={schedule}", module=SERVICE)

    tick_again(deployment)
    # The fork of the worker has left the worker as it was.
    for task in ("add", "plain_add"):
        assert deployment.call(f"{SERVICE}.{task}", 1, 2) == 3

    assert worker.stop() == 0
    eventually(lambda: worker.children() == [])
    assert "Traceback" not in worker.text
    assert "Connection error" not in worker.text


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_runs_beat_with_another_scheduler(deployment: Deployment, pool: Pool) -> None:
    worker = deployment.worker(pool, 2, "--beat", f"--scheduler={SCHEDULER}", module=SERVICE)

    worker.wait_for_line("Beat uses the scheduler of the service")
    tick_again(deployment)

    assert worker.stop() == 0
    eventually(lambda: worker.children() == [])


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_a_worker_whose_beat_was_killed_runs_tasks_and_stops(
    deployment: Deployment, pool: Pool
) -> None:
    worker = deployment.worker(pool, 2, "--beat", f"--scheduler={SCHEDULER}", module=SERVICE)
    tick_again(deployment)
    (beat,) = worker.children()

    os.kill(beat, signal.SIGKILL)

    eventually(lambda: worker.children() == [])
    assert deployment.call(f"{SERVICE}.add", 1, 2) == 3
    assert worker.stop() == 0


def test_a_worker_with_beat_quits(deployment: Deployment) -> None:
    worker = deployment.worker("asyncio", 2, "--beat", f"--scheduler={SCHEDULER}", module=SERVICE)
    tick_again(deployment)

    worker.quit()

    eventually(lambda: worker.children() == [])


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_the_beat_of_a_worker_sends_periodic_tasks(deployment: Deployment, pool: Pool) -> None:
    # The service has set its schedule after its tasks were made.
    deployment.worker(pool, 2, "--beat", f"--scheduler={SCHEDULER}", module=SERVICE)

    eventually(lambda: int(deployment.key("tocks") or 0) > 1)
    tick_again(deployment)


def test_beat_alone_sends_periodic_tasks(deployment: Deployment, tmp_path: Path) -> None:
    deployment.worker("asyncio", 2, module=SERVICE)

    with beat_alone(deployment, f"--schedule={tmp_path / 'schedule'}", "--pidfile="):
        eventually(lambda: int(deployment.key("tocks") or 0) > 1)
        tick_again(deployment)


def test_beat_runs_alone(deployment: Deployment, tmp_path: Path) -> None:
    deployment.worker("asyncio", 2, module=SERVICE)

    with beat_alone(deployment, f"--schedule={tmp_path / 'schedule'}", "--pidfile=") as beat:
        tick_again(deployment)
        beat.send_signal(signal.SIGTERM)
        assert beat.wait(patience(30.0)) == 0


def test_beat_runs_alone_with_another_scheduler(deployment: Deployment) -> None:
    deployment.worker("asyncio", 2, module=SERVICE)

    with beat_alone(deployment, f"--scheduler={SCHEDULER}", "--pidfile=") as beat:
        tick_again(deployment)
        beat.send_signal(signal.SIGTERM)
        assert beat.wait(patience(30.0)) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_beat_ends_although_a_library_swallows_its_signal(
    deployment: Deployment, number: signal.Signals, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    arguments = (f"--scheduler={SWALLOWING}", "--pidfile=")

    with beat_alone(deployment, *arguments, output=output) as beat:
        eventually(lambda: "Beat sends a task" in output.read_text())
        beat.send_signal(number)
        assert beat.wait(patience(30.0)) == 0


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_a_worker_ends_although_a_library_swallows_the_signal_of_its_beat(
    deployment: Deployment, pool: Pool
) -> None:
    worker = deployment.worker(pool, 2, "--beat", f"--scheduler={SWALLOWING}", module=SERVICE)
    worker.wait_for_line("Beat sends a task")

    assert worker.stop() == 0
    eventually(lambda: worker.children() == [])
