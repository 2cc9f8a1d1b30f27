"""The README's smallest example, copied block by block into an empty folder and run on real servers."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import recipes
from tests.support.deployment import redis_environment
from tests.support.servers import RedisDb
from tests.support.workers import PROJECT, Worker

README = PROJECT / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A code block of the README."""

    language: str
    code: str


def blocks() -> list[Block]:
    """The first screen and the section of the example."""
    text = README.read_text("utf-8")
    first, section = text.partition("\n## ")[0], text.partition("\n## The smallest example\n")[2]
    return [Block(*found) for found in FENCE.findall(first + section.partition("\n## ")[0])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with the files that the README shows."""
    for block in blocks():
        if block.language == "python":
            name = re.match(r"# (\w+\.py)\n", block.code)
            assert name is not None, "every block says which file it is"
            path = tmp_path / name[1]
            assert not path.exists(), "no block is an addition to another one"
            path.write_text(block.code, encoding="utf-8")
    return tmp_path


def test_smallest_example_runs_as_it_stands(folder: Path, redis_db: RedisDb) -> None:
    environment = {
        **redis_environment("CELERY_BROKER", redis_db, redis_db.broker_db),
        **redis_environment("CELERY_RESULT_BACKEND", redis_db, redis_db.result_db),
    }
    commands = [
        shlex.split(line, comments=True)
        for block in blocks()
        if block.language == "sh"
        for line in block.code.splitlines()
    ]
    printed = ""
    with Worker(
        "app", pool="prefork", concurrency=1, cwd=folder, env=environment, cold=True
    ) as worker:
        for command in commands:
            match command:
                case ["python", script]:
                    done = recipes.python(script, folder=folder, env=environment)
                    assert done.stderr == ""
                    printed += done.stdout
                case ["celery", "-A", "app", "worker", "--loglevel=INFO"]:
                    worker.wait_ready()
                case _:
                    assert command[0] in {"pip", "make"}, "every other command is run"
        assert worker.stop() == 0

    assert printed == next(block.code for block in blocks() if block.language == "text")


def test_the_install_lines_name_extras_that_exist() -> None:
    installs = [
        block.code for block in blocks() if block.language == "sh" and block.code[:3] == "pip"
    ]
    assert len(installs) == 2, "one for an index, one for a checkout"
    assert all("[sqlite]" in line for line in installs)
