"""``celery -A app workers``: several ordinary workers, kept running."""

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import SERVICE, TIMEOUT, Deployment, eventually
from tests.support.patience import patience
from tests.support.remote import Result, fresh_key, release, started
from tests.support.servers import RedisServer, outage
from tests.support.workers import Pool, Worker


def supervise(
    deployment: Deployment, *options: str, processes: int = 2, **environment: str
) -> Worker:
    worker = Worker(
        SERVICE,
        pool="asyncio",
        concurrency=10,
        env={**deployment.environment, **environment},
        extra_args=options,
        command=("workers", f"--processes={processes}"),
    )
    deployment.stack.enter_context(worker)
    return worker


def ready(worker: Worker, number: int, *, start: int = 0) -> None:
    worker.wait_for_line(rf"-{number} +\| .*-{number}@localhost ready\.$", start=start)


def processes_of(hostname: str) -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if hostname.encode() in words and b"worker" in words:
            found.append(int(folder.name))
    return found


def name_of(worker: Worker, number: int) -> str:
    name, _, host = worker.hostname.partition("@")
    return f"{name}-{number}@{host}"


def begin(deployment: Deployment) -> tuple[Result, str]:
    """A task that runs, and the key that it waits for."""
    key = fresh_key()
    return started(deployment.send("wait_for", key)), key


def test_workers_are_named_run_tasks_and_stop(deployment: Deployment) -> None:
    workers = supervise(deployment)
    ready(workers, 1)
    ready(workers, 2)
    assert processes_of(name_of(workers, 1))
    assert processes_of(name_of(workers, 2))
    sent = [deployment.send("add", n, 1) for n in range(20)]
    assert [result.get(timeout=TIMEOUT) for result in sent] == [n + 1 for n in range(20)]
    running, key = begin(deployment)

    workers.send_signal(signal.SIGTERM)
    workers.wait_for_line("SIGTERM: stopping 2 workers")
    release(deployment, key)

    assert workers.wait() == 0
    assert running.state == "SUCCESS"
    assert not processes_of(name_of(workers, 1)) + processes_of(name_of(workers, 2))


def test_a_worker_that_dies_is_started_again(deployment: Deployment) -> None:
    workers = supervise(deployment)
    ready(workers, 1)
    ready(workers, 2)
    (pid,) = processes_of(name_of(workers, 1))
    seen = len(workers.lines)

    os.kill(pid, signal.SIGKILL)

    workers.wait_for_line(r"-1 died \(SIGKILL\); it is started again in 1 s", start=seen)
    ready(workers, 1, start=seen)
    assert processes_of(name_of(workers, 1)) != [pid]
    assert workers.stop() == 0


def test_hup_starts_all_workers_again_when_their_tasks_are_done(deployment: Deployment) -> None:
    workers = supervise(deployment)
    ready(workers, 1)
    ready(workers, 2)
    before = processes_of(name_of(workers, 1)) + processes_of(name_of(workers, 2))
    running, key = begin(deployment)
    seen = len(workers.lines)

    os.kill(workers.pid, signal.SIGHUP)
    workers.wait_for_line("SIGHUP: the workers are stopped and started again", start=seen)
    release(deployment, key)

    ready(workers, 1, start=seen)
    ready(workers, 2, start=seen)
    assert running.state == "SUCCESS"
    after = processes_of(name_of(workers, 1)) + processes_of(name_of(workers, 2))
    assert len(after) == 2
    assert set(after).isdisjoint(before)
    assert "died" not in workers.text
    assert "Traceback" not in workers.text
    assert workers.stop() == 0


def test_a_worker_that_was_told_to_stop_stays_stopped(deployment: Deployment) -> None:
    workers = supervise(deployment)
    ready(workers, 1)
    ready(workers, 2)
    # They hear commands a moment after they are ready.
    control: Any = deployment.client.control
    eventually(lambda: len(control.ping(timeout=patience(1), limit=2)) == 2)

    deployment.client.control.shutdown(destination=[name_of(workers, 1)])

    workers.wait_for_line(r"-1 was stopped \(exit code 0\) and stays stopped")
    assert processes_of(name_of(workers, 2))
    deployment.client.control.shutdown()
    assert workers.wait() == 0


def test_what_cannot_start_at_all_stops_everything(deployment: Deployment, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "health-%n"
    workers = supervise(deployment, CELERY_WORKER_HEALTH_FILE=str(missing))

    assert workers.wait() != 0

    could_not = (
        r"-\d could not start \(exit code \d+\): stopping all workers; `celery -A \S+ doctor`"
    )
    assert re.search(could_not, workers.text)
    assert "is not a folder that this process may write to" in workers.text
    assert "Traceback" not in workers.text
    assert "started again" not in workers.text


def test_workers_end_with_a_supervisor_that_was_killed(deployment: Deployment) -> None:
    workers = supervise(deployment)
    ready(workers, 1)
    ready(workers, 2)

    os.kill(workers.pid, signal.SIGKILL)

    eventually(lambda: not processes_of(name_of(workers, 1)) + processes_of(name_of(workers, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detach"], "--detach: workers run in the foreground"),
        (["-B"], "--beat: each worker would be a scheduler"),
        (["--pidfile=w.pid"], "--pidfile: 2 workers cannot share w.pid. Put %n into it"),
        (["--logfile=w.log"], "--logfile: 2 workers cannot share w.log"),
        (["--nonsense"], "No such option"),
        (["--proceses=2"], "Did you mean '--processes'?"),
        (["--pol=solo"], "Did you mean '--pool'?"),
        (["--concurrency=many"], "must be a non-negative integer"),
    ],
    ids=[
        "detach",
        "beat",
        "pidfile",
        "logfile",
        "unknown",
        "misspelt",
        "misspelt of worker",
        "value",
    ],
)
def test_options_that_workers_cannot_have(
    deployment: Deployment, options: Sequence[str], message: str
) -> None:
    workers = supervise(deployment, *options)
    assert workers.wait() == 2
    assert message in " ".join(workers.text.split())


def test_the_health_file_is_touched_while_all_is_well(
    deployment: Deployment, tmp_path: Path
) -> None:
    with RedisServer() as broker:
        worker = deployment.worker(
            "asyncio",
            CELERY_BROKER_REDIS_PORT=str(broker.port),
            CELERY_BROKER_REDIS_DB="0",
            CELERY_WORKER_HEALTH_FILE=str(tmp_path / "%n"),
        )
        file = tmp_path / worker.hostname.partition("@")[0]
        eventually(file.exists)
        with outage(broker, "gone"):
            worker.wait_for_line("HEALTH_FILE is not touched while this lasts: the broker does not")
            last = file.stat().st_mtime_ns
        eventually(lambda: file.stat().st_mtime_ns > last)

        assert worker.stop() == 0
        assert not file.exists()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_the_health_file_under_every_pool(
    deployment: Deployment, tmp_path: Path, pool: Pool
) -> None:
    file = tmp_path / "health"
    worker = deployment.worker(pool, CELERY_WORKER_HEALTH_FILE=str(file))
    eventually(file.exists)
    first = file.stat().st_mtime_ns
    eventually(lambda: file.stat().st_mtime_ns > first)
    assert worker.stop() == 0
    assert not file.exists()


def test_the_health_file_comes_back_with_its_folder(deployment: Deployment, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    file = folder / "health"
    worker = deployment.worker("threads", CELERY_WORKER_HEALTH_FILE=str(file))
    eventually(file.exists)
    # In one step: the worker may be about to make the file.
    folder.rename(tmp_path / "first")
    worker.wait_for_line("HEALTH_FILE is not touched while this lasts: .* cannot be written")

    folder.mkdir()
    eventually(file.exists)
    folder.rename(tmp_path / "second")
    assert worker.stop() == 0
    assert "Traceback" not in worker.text


def test_a_health_file_that_cannot_be_replaced_is_an_error(
    deployment: Deployment, tmp_path: Path
) -> None:
    file = tmp_path / "health"
    file.mkdir()
    worker = deployment.begin("threads", 1, CELERY_WORKER_HEALTH_FILE=str(file))
    assert worker.wait() != 0
    assert f"{file}, which is there and cannot be replaced" in worker.text
    assert "Traceback" not in worker.text
