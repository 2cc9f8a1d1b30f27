"""Recipes of the cookbook, run as their pages say, with the real packages."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from tests.support import recipes
from tests.support.deployment import close_client, eventually
from tests.support.patience import patience
from tests.support.servers import MariaDBServer, RedisDb, RedisServer
from tests.support.servers.postgres import PostgresServer
from tests.support.workers import PROJECT, Worker


@pytest.fixture
def client(redis_db: RedisDb) -> Iterator[Celery]:
    """Closed after the test has dropped its results, which use it once more."""
    made = Celery(broker=redis_db.broker_url, backend=redis_db.result_url, set_as_current=False)
    yield made
    close_client(made)


ALEMBIC = """
import sys
from alembic.config import main

for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit as exc:
        print("it ends with", exc.code)
"""
MIGRATE = ("revision --autogenerate -m first", "upgrade head", "check")


def alembic(folder: Path, environment: dict[str, str], *commands: str) -> str:
    """Run commands of alembic, in one process, as each start takes its time."""
    (folder / "commands.py").write_text(ALEMBIC, encoding="utf-8")
    return recipes.run("commands", *commands, folder=folder, env=environment)


def test_alembic_migrates_the_database_of_the_tasks(
    tmp_path: Path, redis_db: RedisDb, client: Celery
) -> None:
    folder = recipes.copy("alembic", tmp_path)
    environment = recipes.environment(redis_db) | {
        "CELERY_SQLALCHEMY_DATABASE_URI": f"sqlite+aiosqlite:///{tmp_path}/shop.db"
    }
    output = alembic(folder, environment, *MIGRATE)
    assert "No new upgrade operations detected" in output
    assert "it ends with" not in output
    models = folder / "models.py"
    models.write_text(models.read_text("utf-8") + "    note: Mapped[str | None]\n", "utf-8")

    output = alembic(folder, environment, "check", *MIGRATE)

    assert "it ends with" in output.partition("Generating")[0]
    assert output.rstrip().endswith("No new upgrade operations detected.")
    with Worker("app", pool="asyncio", cwd=folder, env=environment) as worker:
        worker.wait_ready()
        ids = [client.send_task("tasks.place", (item,)) for item in ("lamp", "desk")]
        assert {result.get(timeout=patience(30)) for result in ids} == {1, 2}
        assert worker.stop() == 0


@pytest.mark.parametrize("server", ["mariadb", "postgres"])
def test_alembic_finds_no_difference_in_the_tables_it_has_made(
    request: pytest.FixtureRequest, tmp_path: Path, redis_db: RedisDb, server: str
) -> None:
    folder = recipes.copy("alembic", tmp_path)
    if server == "mariadb":
        mariadb: MariaDBServer = request.getfixturevalue("mariadb_server")
        mariadb.create_database("alembic")
        url = mariadb.url("mysql+aiomysql", "alembic")
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        address = f"{postgres.user}:{postgres.password}@{postgres.host}:{postgres.port}"
        url = f"postgresql+asyncpg://{address}/{postgres.new_database()}"
    environment = recipes.environment(redis_db) | {"CELERY_SQLALCHEMY_DATABASE_URI": url}

    output = alembic(folder, environment, *MIGRATE)

    assert "No new upgrade operations detected" in output
    assert "it ends with" not in output


def test_two_databases(tmp_path: Path, redis_db: RedisDb) -> None:
    folder = recipes.copy("databases", tmp_path)
    environment = recipes.environment(redis_db) | {
        "CELERY_SQLALCHEMY_DATABASE_URI": f"sqlite+aiosqlite:///{tmp_path}/shop.db",
        "REPORTS_URL": f"sqlite+aiosqlite:///{tmp_path}/reports.db",
    }
    page = (recipes.EXAMPLES / "databases" / "README.md").read_text("utf-8")
    printed = re.search(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert printed is not None

    recipes.run("models", folder=folder, env=environment)
    with Worker("app", pool="asyncio", cwd=folder, env=environment) as worker:
        worker.wait_ready()
        output = recipes.run("call", folder=folder, env=environment)
        assert worker.stop() == 0

    assert output == printed[1]


def test_redbeat_takes_entries_while_it_runs(
    tmp_path: Path, redis_db: RedisDb, redis_server: RedisServer
) -> None:
    folder = recipes.copy("redbeat", tmp_path)
    environment = recipes.environment(redis_db)
    beat = ["-A", "app", "beat", "--scheduler=redbeat.RedBeatScheduler", "--max-interval=1"]

    def count(key: str) -> int:
        return int(str(counts.get(key) or 0))

    with (
        redis_server.client(redis_db.result_db) as counts,
        Worker("app", pool="asyncio", cwd=folder, env=environment) as worker,
        recipes.running("celery", beat, folder=folder, env=environment) as log,
    ):
        worker.wait_ready()
        # Two runs, so it is the schedule that sends them.
        eventually(lambda: count("polled") >= 2)
        recipes.run("plan", "add", "ada", folder=folder, env=environment)
        eventually(lambda: count("reminded:ada") >= 2)

        recipes.run("plan", "remove", "ada", folder=folder, env=environment)
        sent = len(re.findall("Sending due task remind ada", log.read_text("utf-8")))
        polled = count("polled")
        eventually(lambda: count("polled") >= polled + 2)
        # One may have been on its way while the entry was removed.
        assert len(re.findall("Sending due task remind ada", log.read_text("utf-8"))) <= sent + 1
    assert "ERROR" not in worker.text


def test_worker_restarts_when_code_changes(
    tmp_path: Path, redis_db: RedisDb, client: Celery
) -> None:
    folder = recipes.copy("quickstart", tmp_path)
    page = (PROJECT / "docs" / "how-to" / "cookbook.md").read_text("utf-8")
    command = re.search(r'^watchfiles (.*) "(celery .*)" \.$', page, re.MULTILINE)
    assert command is not None
    environment = recipes.environment(redis_db) | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    }
    tasks = folder / "tasks.py"

    def answer() -> object:
        return client.send_task("tasks.simple_task", (3, 4)).get(timeout=patience(30))

    with recipes.running(
        "watchfiles", [*command[1].split(), command[2], "."], folder=folder, env=environment
    ) as log:
        assert answer() == 12
        tasks.write_text(tasks.read_text("utf-8").replace("x * y", "x + y"), encoding="utf-8")
        # The worker that runs may answer while it is told to stop.
        eventually(lambda: answer() == 7)
        # The first one has ended by itself. The second is given 5 s when watchfiles is to end, whatever
        # --sigint-timeout says.
        assert "SIGKILL" not in log.read_text("utf-8")
