"""The tutorial, followed block by block in an empty folder, on real servers, to its end."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.patience import patience
from tests.support.servers import RedisDb
from tests.support.workers import PROJECT, Worker

TUTORIAL = PROJECT / "docs" / "tutorial.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# (\w+\.py)(?:: (add|replace))?\n")
PRINTED = {
    "call.py": ["Hello ADA"],
    "tables.py": [],
    "call_users.py": ["1"],
    "call_email.py": ["grace@example.org", "grace@example.org"],
    "call_mail.py": ["2", "There is no user 404"],
    "workflows.py": ["ada@example.org", "['Hello Ada', 'Hello Grace']", "2"],
    "call_report.py": ["2 users", "2 users"],
    "call_settings.py": ["300 orjson noreply@example.org", "Hello Ada"],
}
"""What each program prints, as the tutorial says below it."""


class Block(NamedTuple):
    """A code block of the tutorial."""

    language: str
    code: str


def blocks() -> Iterator[Block]:
    for found in FENCE.findall(TUTORIAL.read_text("utf-8")):
        yield Block(*found)


class Reader:
    """Somebody who follows the tutorial in two terminals."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.worker: Worker | None = None
        self.options: list[str] = []
        self.outdated = False
        self.ran: dict[str, list[str]] = {}

    def write(self, code: str) -> None:
        found = NAME.match(code)
        assert found is not None, f"no file is named: {code}"
        path, kind = self.folder / found[1], found[2]
        assert path.exists() == (kind is not None), f"new, an addition or a replacement? {path}"
        before = path.read_text("utf-8") if kind == "add" else ""
        path.write_text(before + code, encoding="utf-8")
        self.outdated = True

    def enter(self, words: list[str]) -> None:
        match words:
            case ["pip", "install", *_]:
                pass
            case ["export", *assignments]:
                self.environment |= dict(word.split("=", 1) for word in assignments)
                self.outdated = True
            case ["celery", "-A", "app", "worker", *options]:
                self.options = options
                self.restart_worker()
            case ["celery", *arguments]:
                self.run("-m", "celery", *arguments)
            case ["python", program]:
                if self.outdated and self.worker is not None:
                    self.restart_worker()
                self.ran[program] = self.run(program)
            case _:
                raise AssertionError(f"the tutorial has a command that is not tried: {words}")

    def run(self, *arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=patience(60),
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    def restart_worker(self) -> None:
        self.stop_worker()
        self.outdated = False
        self.worker = Worker(
            "app",
            pool="prefork",
            concurrency=1,
            cwd=self.folder,
            env=self.environment,
            extra_args=self.options,
            cold=True,
        )
        self.worker.start()
        self.worker.wait_ready()

    def stop_worker(self) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            assert worker.stop() == 0, worker.text


def test_tutorial_leads_to_its_end(tmp_path: Path, redis_db: RedisDb) -> None:
    environment = {
        f"CELERY_{server}_REDIS_{part}": str(value)
        for server, db in {
            "BROKER": redis_db.broker_db,
            "RESULT_BACKEND": redis_db.result_db,
            "WORKER": redis_db.result_db,
        }.items()
        for part, value in {"HOST": redis_db.host, "PORT": redis_db.port, "DB": db}.items()
    }
    reader = Reader(tmp_path, environment)
    try:
        for block in blocks():
            if block.language == "python":
                reader.write(block.code)
            elif block.language == "sh":
                for line in block.code.splitlines():
                    reader.enter(shlex.split(line, comments=True))
    finally:
        reader.stop_worker()

    assert reader.ran == PRINTED


def test_tutorial_says_what_its_programs_print() -> None:
    prose = FENCE.sub("", TUTORIAL.read_text("utf-8"))
    for lines in PRINTED.values():
        assert all(f"`{line}`" in prose for line in lines)
