"""Projects under examples/, run as their pages say, with the real packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.patience import patience
from tests.support.servers import RedisDb, die_with_parent
from tests.support.workers import PROJECT

EXAMPLES = PROJECT / "examples"
FENCE = re.compile(r"^```\w+\n# (?P<name>[\w./-]+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
"""A block of a page that shows a file."""


class Shown(NamedTuple):
    """A file that a page shows."""

    name: str
    code: str


def shown(page: Path) -> list[Shown]:
    """The files that a page shows."""
    return [Shown(*found) for found in FENCE.findall(page.read_text("utf-8"))]


def copy(name: str, folder: Path) -> Path:
    """A copy of an example, which may be changed."""
    ignored = shutil.ignore_patterns("__pycache__", "*.db", "*.md")
    return shutil.copytree(EXAMPLES / name, folder / name, ignore=ignored)


def environment(redis_db: RedisDb) -> dict[str, str]:
    """What the readers of an example have in their environment: where Redis is."""
    server = f"redis://{redis_db.host}:{redis_db.port}"
    return {
        "CELERY_BROKER_URL": f"{server}/{redis_db.broker_db}",
        "CELERY_RESULT_BACKEND": f"{server}/{redis_db.result_db}",
        "CELERY_WORKER_REDIS_URL": f"{server}/{redis_db.result_db}",
    }


def python(
    *arguments: str, folder: Path, env: Mapping[str, str], code: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run Python to its end, which must be a good one; `code` is what it reads."""
    done = subprocess.run(
        [sys.executable, *arguments],
        input=code,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **env},
        timeout=patience(60),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def run(module: str, *arguments: str, folder: Path, env: Mapping[str, str]) -> str:
    """Run a program to its end, which must be a good one, and return what it prints."""
    return python("-m", module, *arguments, folder=folder, env=env).stdout


@contextmanager
def running(
    module: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    asked_to_end: int = 1,
) -> Generator[Path]:
    """Run a program as long as the context lasts; its output is in the file that this gives.

    Args:
        module: The program.
        arguments: Of its command line.
        folder: Where it runs.
        env: Its environment, besides that of the tests.
        asked_to_end: How often it gets SIGTERM before it counts as one that does not end.
    """
    log_file = folder / f"{module}.log"
    command = [sys.executable, "-m", module, *arguments]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            die_with_parent(command, "TERM"),
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield log_file
        except BaseException as exc:
            exc.add_note(f"The log of {module}:\n{log_file.read_text('utf-8')}")
            raise
        finally:
            for rest in reversed(range(asked_to_end)):
                process.terminate()
                try:
                    process.wait(patience(30 / asked_to_end))
                    break
                except subprocess.TimeoutExpired:
                    if rest:
                        continue
                    process.kill()
                    process.wait()
                    raise
