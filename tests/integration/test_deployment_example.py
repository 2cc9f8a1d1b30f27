"""The files of the page about deployment: read by parsers, and their commands run, as process 1."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import Celery
from celery.result import AsyncResult
from typing_extensions import override

from tests.support import recipes
from tests.support.deployment import close_client, eventually
from tests.support.patience import patience
from tests.support.servers import RedisDb, RedisServer
from tests.support.workers import Worker

EXAMPLE = recipes.EXAMPLES / "deployment"
MANIFEST: Mapping[str, Any] = yaml.safe_load((EXAMPLE / "worker.yaml").read_text("utf-8"))
POD: Mapping[str, Any] = MANIFEST["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
SOFT_SHUTDOWN = 12
"""Seconds; more than two touches of the health file."""


def manifest_environment() -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in CONTAINER["env"]}


def test_manifest_fits_together() -> None:
    environment = manifest_environment()
    file = environment["CELERY_WORKER_HEALTH_FILE"]
    probes = [CONTAINER[name]["exec"]["command"] for name in ("startupProbe", "livenessProbe")]

    labels = MANIFEST["spec"]["template"]["metadata"]["labels"]
    assert MANIFEST["spec"]["selector"]["matchLabels"] == labels
    assert all(re.search(rf" {re.escape(file)}\b(?![-/])", " ".join(probe)) for probe in probes)
    # Some seconds are left for what comes after the soft shutdown.
    grace = POD["terminationGracePeriodSeconds"]
    assert int(environment["CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT"]) + 10 <= grace


def test_command_of_the_image_needs_no_shell() -> None:
    text = (EXAMPLE / "Dockerfile").read_text("utf-8")
    command = re.search(r"^CMD (.*)$", text, re.MULTILINE)
    assert command is not None

    # The list, without which a shell would be process 1.
    assert json.loads(command[1])[:4] == ["celery", "-A", "app", "worker"]
    assert CONTAINER["args"][:4] == ["celery", "-A", "app", "worker"]


def test_unit_is_understood_by_systemd(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("there is no systemd-analyze")
    unit = tmp_path / "shop.service"
    text = (EXAMPLE / "shop.service").read_text("utf-8")
    celery = str(Path(sys.executable).with_name("celery"))
    unit.write_text(text.replace("/srv/service/.venv/bin/celery", celery), encoding="utf-8")

    done = subprocess.run(
        [verify, "verify", str(unit)], capture_output=True, text=True, check=False
    )

    # It also looks at units of this machine, which may be broken.
    assert [line for line in done.stderr.splitlines() if "shop.service" in line] == []
    assert "ExecStart=" + celery in unit.read_text("utf-8")


def as_process_one() -> list[str]:
    """What makes a command process 1 of a namespace of its own, where that is allowed."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        allowed = (
            subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        allowed = False
    return command if allowed else []


class Container(Worker):
    """A worker as process 1, if this machine allows that."""

    def __init__(self, folder: Path, environment: Mapping[str, str], arguments: list[str]) -> None:
        super().__init__("app", pool=None, cwd=folder, env=environment, cold=True)
        self._command = [*as_process_one(), sys.executable, "-m", *arguments]

    @override
    def stop(self, timeout: float = 60.0) -> int:
        [child, *_] = [*self.children(), self.pid]
        os.kill(child, signal.SIGTERM)
        return self.wait(timeout)


@pytest.fixture
def client(redis_db: RedisDb) -> Iterator[Celery]:
    """Closed after the test has dropped its results, which use it once more."""
    made = Celery(broker=redis_db.broker_url, backend=redis_db.result_url, set_as_current=False)
    yield made
    close_client(made)


def test_pod_is_probed_and_gives_back_what_it_cannot_finish(
    tmp_path: Path, redis_db: RedisDb, redis_server: RedisServer, client: Celery
) -> None:
    folder = recipes.copy("deployment", tmp_path)
    health = tmp_path / "health"
    environment = recipes.environment(redis_db) | manifest_environment()
    written = environment["CELERY_WORKER_HEALTH_FILE"]
    environment |= {
        "CELERY_WORKER_HEALTH_FILE": str(health),
        "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": str(SOFT_SHUTDOWN),
    }
    probes = {
        name: [word.replace(written, str(health)) for word in CONTAINER[name]["exec"]["command"]]
        for name in ("startupProbe", "livenessProbe")
    }

    def succeeds(name: str) -> bool:
        return subprocess.run(probes[name], check=False).returncode == 0

    assert not succeeds("startupProbe")
    with Container(folder, environment, CONTAINER["args"]) as container:
        eventually(lambda: succeeds("startupProbe"))
        assert succeeds("livenessProbe")
        long: AsyncResult[int] = client.send_task("app.ship", (1, 1000.0))
        short: AsyncResult[int] = client.send_task("app.ship", (2, 1.0))
        eventually(lambda: {long.state, short.state} <= {"STARTED", "SUCCESS"})

        assert container.stop() == 0

    assert short.get(timeout=patience(10)) == 2
    assert long.state == "STARTED"
    # Another worker gets it at once, not after the visibility timeout.
    with redis_server.client(redis_db.broker_db) as broker:
        assert broker.llen("celery") == 1
    assert not succeeds("startupProbe")
    assert "is not touched" not in container.text
