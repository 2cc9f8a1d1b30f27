"""What a worker shows: its banner and its log lines; and ``celery report``."""

import os
import pty
import re
import subprocess
import sys

import pytest

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.patience import patience
from tests.support.workers import PROJECT, Pool

SERVICE = "tests.integration.beat_service"
SECRET = "geheim"


@pytest.mark.parametrize("pool", ["asyncio", "threads", "prefork", "solo"])
def test_banner_and_log_lines(deployment: Deployment, pool: Pool) -> None:
    worker = deployment.worker(pool, 2, module=SERVICE)

    sent = deployment.send(f"{SERVICE}.add", 1, 2)
    sent.get(timeout=TIMEOUT)
    failed = deployment.send(f"{SERVICE}.add", 1, "x")
    failed.get(timeout=TIMEOUT, propagate=False)
    worker.wait_for_line(rf"{failed.id}.* raised")

    text = worker.text
    assert f".> concurrency: 2 ({pool})" in text
    assert re.search(r"\.> versions: +tomskit:", text)
    assert re.search(r"\.> fast path: +in the asyncio pool", text)
    assert re.search(r"\.> database: +mysql\+aiomysql://", text)
    assert ":**@" not in text
    assert deployment.environment["CELERY_DB_PASSWORD"] not in text
    for one in (sent, failed):
        lines = [line for line in worker.lines if one.id in line]
        assert any(line.endswith(f"Task {SERVICE}.add received") for line in lines)
        for line in lines:
            assert line.count(one.id) == 1
            assert f"[task_id={one.id}]" in line


def test_a_format_without_the_id_keeps_it_in_the_message(deployment: Deployment) -> None:
    worker = deployment.worker(
        "asyncio", 2, module=SERVICE, CELERY_WORKER_LOG_FORMAT="%(levelname)s %(message)s"
    )

    sent = deployment.send(f"{SERVICE}.add", 1, 2)

    worker.wait_for_line(rf"INFO Task {SERVICE}.add\[{sent.id}\] received$")
    worker.wait_for_line(rf"INFO Task {SERVICE}.add\[{sent.id}\] succeeded")


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_no_color_is_respected(deployment: Deployment, no_color: str, colored: bool) -> None:
    terminal, end = pty.openpty()
    environment = {**os.environ, **deployment.environment, "NO_COLOR": no_color, "TERM": "xterm"}
    environment["CELERY_WORKER_POOL"] = "asyncio"
    if not no_color:
        del environment["NO_COLOR"]
    command = [sys.executable, "-m", "celery", "-A", SERVICE, "worker", "--loglevel=DEBUG"]
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdin=end, stdout=end, stderr=end
    )
    os.close(end)
    shown = b""
    try:
        while b" ready." not in shown:
            shown += os.read(terminal, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)

    assert (b"\x1b[" in shown) is colored


def report(deployment: Deployment, **environment: str) -> str:
    command = [sys.executable, "-m", "celery", "-A", SERVICE, "report"]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, **deployment.environment, **environment},
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=True,
    )
    return done.stdout


def test_report_shows_what_is_in_force(deployment: Deployment) -> None:
    text = report(deployment, CELERY_WORKER_POOL="asyncio", CELERY_REDIS_FAST_PATH="true")

    host = f"{deployment.redis.host}:{deployment.redis.port}"
    assert re.search(r"^versions +-> tomskit:\S+ redis:", text, re.MULTILINE)
    assert re.search(r"^pool +-> asyncio$", text, re.MULTILINE)
    assert re.search(r"^fast path +-> in every pool$", text, re.MULTILINE)
    assert re.search(r"^database +-> mysql\+aiomysql://\S+:\*\*\*@", text, re.MULTILINE)
    assert re.search(rf"^redis +-> redis://{host}/\d+$", text, re.MULTILINE)
    assert f"broker_url: 'redis://{host}/" in text


@pytest.mark.parametrize("sentinel", ["true", "false"])
def test_report_shows_no_secret(deployment: Deployment, sentinel: str) -> None:
    secrets = dict.fromkeys(
        (
            "CELERY_BROKER_REDIS_PASSWORD",
            "CELERY_RESULT_BACKEND_REDIS_PASSWORD",
            "CELERY_SENTINEL_PASSWORD",
            "CELERY_DB_PASSWORD",
            "CELERY_WORKER_REDIS_PASSWORD",
        ),
        SECRET,
    )

    text = report(
        deployment,
        CELERY_USE_SENTINEL=sentinel,
        CELERY_SENTINEL_MASTER_NAME="main",
        **secrets,
    )

    assert SECRET not in text
    assert ":********@" in text
