"""``celery -A app doctor``: what works, what does not, and what to do."""

import asyncio
import json
import os
import pty
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from typing_extensions import override

from tests.support.deployment import AWKWARD, SERVICE, Deployment
from tests.support.patience import patience
from tests.support.servers import RedisServer
from tests.support.servers.base import free_port
from tests.support.servers.redis import call
from tests.support.warm_start import WarmProcess
from tests.support.workers import PROJECT
from tomskit._commands import examination
from tomskit._commands.examination import Check, Finding
from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import Database

Checks = Mapping[str, list[dict[str, str]]]


@dataclass
class Report:
    """What ``doctor --json`` has printed."""

    exit_code: int
    text: str
    ok: bool
    checks: Checks

    def status(self, name: str) -> set[str]:
        return {check["status"] for check in self.checks[name]}

    def shown(self, name: str) -> str:
        return "\n".join(f"{check['detail']} -> {check['advice']}" for check in self.checks[name])


def run(
    deployment: Deployment, *options: str, app: str = SERVICE, **environment: str
) -> subprocess.CompletedProcess[str]:
    arguments = ["-A", app, "doctor", *options]
    process = WarmProcess(
        "celery",
        arguments,
        environment={**os.environ, **deployment.environment, **environment},
        folder=PROJECT,
        last_signal="KILL",
        apart=True,
    )
    stdout, stderr = process.communicate(patience(60))
    return subprocess.CompletedProcess(arguments, process.wait(), stdout, stderr)


def examine(
    deployment: Deployment, *options: str, app: str = SERVICE, **environment: str
) -> Report:
    done = run(deployment, "--json", *options, app=app, **environment)
    assert done.returncode in {0, 1}, done.stderr
    report = json.loads(done.stdout)
    checks: dict[str, list[dict[str, str]]] = {}
    for check in report["checks"]:
        checks.setdefault(check["name"], []).append(check)
    return Report(done.returncode, done.stdout + done.stderr, report["ok"], checks)


def test_a_healthy_deployment(deployment: Deployment) -> None:
    report = examine(deployment, CELERY_SQLALCHEMY_POOL_SIZE="20")
    assert report.exit_code == 0
    assert report.ok
    assert list(report.checks) == [
        *("versions", "broker", "clock", "results", "database", "pool size"),
        *("redis_client", "annotations", "serializers"),
    ]
    assert {check["status"] for checks in report.checks.values() for check in checks} == {"ok"}
    redis = f"redis://{deployment.redis_db.host}:{deployment.redis_db.port}"
    for name in ("broker", "results", "redis_client"):
        assert f"{redis}/" in report.shown(name)
    assert "mysql+aiomysql://" in report.shown("database")
    assert deployment.environment["CELERY_DB_PASSWORD"] not in report.text


def test_messages_that_nobody_publishes(deployment: Deployment) -> None:
    make_outbox(deployment)
    assert examine(deployment).shown("outbox") == "0 messages wait in 'database' -> "
    deployment.mariadb.query(
        f"INSERT INTO `{deployment.database}`.tomskit_outbox (id, created, due, body, options) "
        "VALUES ('a', UNIX_TIMESTAMP() * 1000 - 9000000, 0, '', ''), "
        "('b', UNIX_TIMESTAMP() * 1000, 0, '', '')"
    )
    report = examine(deployment)
    assert report.status("outbox") == {"warning"}
    told = re.match(
        r"2 messages wait in 'database', the oldest for (\d+) s", report.shown("outbox")
    )
    assert told is not None, report.shown("outbox")
    # Since then the command has started.
    assert 9000 <= int(told[1]) < 9000 + patience(60)
    assert "see whether one runs" in report.shown("outbox")
    assert report.exit_code == 0


def make_outbox(deployment: Deployment) -> None:
    async def make() -> None:
        database = Database()
        database.open(
            DatabaseConfig(
                SQLALCHEMY_DATABASE_URI_SCHEME="mysql+aiomysql",
                DB_HOST=deployment.mariadb.host,
                DB_PORT=deployment.mariadb.port,
                DB_USERNAME=deployment.mariadb.user,
                DB_PASSWORD=deployment.mariadb.password,
                DB_DATABASE=deployment.database,
            )
        )
        try:
            await database.create_tables()
        finally:
            await database.close()

    asyncio.run(make())


def test_it_leaves_nothing_behind(deployment: Deployment) -> None:
    examine(deployment)
    for db in (deployment.redis_db.broker_db, deployment.redis_db.result_db):
        assert call(deployment.redis.client(db), "DBSIZE") == 0


def test_the_table(deployment: Deployment) -> None:
    done = run(deployment, CELERY_DB_DATABASE="missing")
    assert done.returncode == 1
    assert "to database 'missing'" in done.stdout
    assert "-> User name, password or rights of the user are wrong" in done.stdout
    assert "1 failed" in done.stdout.splitlines()[-1]
    assert "\x1b" not in done.stdout


def test_the_table_fits_a_terminal(deployment: Deployment) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal, os.fdopen(theirs, "wb") as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", SERVICE, "doctor"],
            env={**os.environ, **deployment.environment, "COLUMNS": "80", "NO_COLOR": "1"},
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=subprocess.DEVNULL,
        )
        screen.close()
        text = b""
        with suppress(OSError):  # how Linux says that nobody writes to it any more
            while read := terminal.read(65536):
                text += read
        process.wait(patience(60))

    lines = text.decode().splitlines()
    # The address of a server is not broken in two.
    broken = [line for line in lines if len(line) > 80 and " " in line[24:].strip()]
    assert broken == []
    versions = lines.index(next(line for line in lines if line.startswith("versions")))
    assert lines[versions + 1].startswith(" " * 20), "a long line goes on below its beginning"


def test_what_cannot_be_reached(deployment: Deployment) -> None:
    nobody = str(free_port())
    report = examine(
        deployment,
        CELERY_BROKER_REDIS_PORT=nobody,
        CELERY_RESULT_BACKEND_REDIS_PORT=nobody,
        CELERY_DB_PORT=nobody,
        CELERY_WORKER_REDIS_PORT=nobody,
    )
    assert report.exit_code == 1
    for name in ("broker", "results", "database", "redis_client"):
        assert report.status(name) == {"failed"}
        assert "Look at" in report.shown(name) or "set the host and port" in report.shown(name)
        assert f":{nobody}/" in report.shown(name).partition("Error")[0]
    assert report.status("annotations") == {"ok"}


def test_a_wrong_password_is_named_and_never_shown(deployment: Deployment) -> None:
    secret = "geheim-4711"
    with RedisServer(password=AWKWARD) as server:
        report = examine(
            deployment,
            CELERY_BROKER_REDIS_PORT=str(server.port),
            CELERY_BROKER_REDIS_DB="0",
            CELERY_BROKER_REDIS_PASSWORD=secret,
            CELERY_DB_PASSWORD=secret,
        )
    assert report.status("broker") == {"failed"}
    assert "password are wrong: CELERY_BROKER_*" in report.shown("broker")
    assert report.status("database") == {"failed"}
    assert secret not in report.text


def test_a_replica_as_broker(deployment: Deployment) -> None:
    with RedisServer() as server:
        call(server.client(), "REPLICAOF", "127.0.0.1", free_port())
        report = examine(
            deployment, CELERY_BROKER_REDIS_PORT=str(server.port), CELERY_BROKER_REDIS_DB="0"
        )
    assert report.status("broker") == {"failed"}
    assert "This is a replica" in report.shown("broker")


def test_a_redis_that_drops_tasks_when_it_is_full(deployment: Deployment) -> None:
    config = [("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")]
    with RedisServer(config=config) as server:
        report = examine(
            deployment, CELERY_BROKER_REDIS_PORT=str(server.port), CELERY_BROKER_REDIS_DB="0"
        )
    assert report.ok
    assert "maxmemory-policy is allkeys-lru: a full Redis drops queued tasks" in report.shown(
        "broker"
    )


def test_a_pool_that_could_outgrow_the_server(deployment: Deployment) -> None:
    report = examine(deployment, CELERY_SQLALCHEMY_POOL_SIZE="5000")
    assert report.status("pool size") == {"warning"}
    assert "up to 5010 connections" in report.shown("pool size")
    assert report.exit_code == 0


def test_a_server_that_never_answers(deployment: Deployment) -> None:
    # The kernel accepts the connections; nobody reads from them.
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        report = examine(deployment, "--timeout=2", CELERY_WORKER_REDIS_PORT=port)
    assert report.status("redis_client") == {"failed"}
    assert f":{port}/" in report.shown("redis_client")
    assert "does not answer" in report.shown("redis_client")


def test_results_in_a_database_that_is_away(deployment: Deployment) -> None:
    url = f"db+mysql+pymysql://root:geheim-4711@127.0.0.1:{free_port()}/shop"
    report = examine(deployment, "--timeout=2", CELERY_RESULT_BACKEND=f"{url}?password=geheim-4711")
    assert report.status("results") == {"failed"}
    assert f"{url.replace('geheim-4711', '***')}: " in report.shown("results")
    assert "geheim-4711" not in report.text


def test_results_that_are_messages(deployment: Deployment) -> None:
    report = examine(deployment, CELERY_RESULT_BACKEND="rpc://")
    assert report.shown("results").startswith("rpc://: a result was stored and read")
    assert report.status("results") == {"ok"}


def test_a_server_that_is_no_redis(deployment: Deployment) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        report = examine(
            deployment, CELERY_BROKER_REDIS_PORT=port, CELERY_RESULT_BACKEND_REDIS_PORT=port
        )
    for name, settings in (("broker", "CELERY_BROKER_*"), ("results", "CELERY_RESULT_BACKEND_*")):
        assert report.status(name) == {"failed"}
        assert f":{port}/" in report.shown(name)
        assert f"-> What answers there is not a Redis. Look at {settings}." in report.shown(name)


def test_a_server_that_hangs_up(deployment: Deployment) -> None:
    with answering(b"") as port:
        report = examine(deployment, CELERY_BROKER_REDIS_PORT=port)
    assert "-> Either what answers there is not a Redis, or it wants TLS." in report.shown("broker")


@contextmanager
def answering(answer: bytes) -> Generator[str]:
    """The port of a server that gives one answer, and hangs up when it has heard all."""

    class Handler(socketserver.BaseRequestHandler):
        @override
        def handle(self) -> None:
            self.request.recv(10_000)
            self.request.sendall(answer)
            self.request.shutdown(socket.SHUT_WR)
            # To close it with something unread would take the answer back.
            while self.request.recv(10_000):
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield str(server.server_address[1])
        finally:
            server.shutdown()


def test_a_driver_that_is_not_installed(deployment: Deployment, tmp_path: Path) -> None:
    code = """
config = DatabaseConfig(SQLALCHEMY_DATABASE_URI="mssql+aioodbc://sa:geheim-4711@sql.example/shop")
app = AsyncCelery("examined", config=CeleryConfig(), providers=[DatabaseProvider(config)])
"""
    report = examine_app(deployment, tmp_path, code)
    assert report.status("database") == {"failed"}
    detail, _, advice = report.shown("database").partition(" -> ")
    assert detail.startswith("mssql+aioodbc://sa:***@sql.example/shop: MissingDriverError: ")
    assert "pip install 'aioodbc'" in detail
    assert advice.startswith("Install it, or set the scheme of another driver")
    assert "geheim-4711" not in report.text


def test_the_folder_of_the_health_file(deployment: Deployment, tmp_path: Path) -> None:
    report = examine(deployment, CELERY_WORKER_HEALTH_FILE=str(tmp_path / "health-%n"))
    assert report.status("health file") == {"ok"}

    report = examine(deployment, CELERY_WORKER_HEALTH_FILE=str(tmp_path / "missing" / "health"))
    assert report.exit_code == 1
    assert report.status("health file") == {"failed"}
    assert f"{tmp_path / 'missing'} is not a folder" in report.shown("health file")
    assert "-> Make it, or name another file." in report.shown("health file")


def test_an_app_without_async_tasks(deployment: Deployment, tmp_path: Path) -> None:
    code = 'app = AsyncCelery("examined", config=CeleryConfig())'
    report = examine_app(deployment, tmp_path, code)
    assert report.status("annotations") == {"skipped"}
    assert "CELERY_INCLUDE" in report.shown("annotations")


def test_all_checks_together_take_no_longer_than_one() -> None:
    never = threading.Event()

    def blocked(app: AsyncCelery) -> Iterator[Finding]:
        never.wait()
        yield Finding("blocked", "ok", "released")

    checks = {f"check {number}": Check(blocked, "nothing") for number in range(100)}
    app = AsyncCelery("examined", config=CeleryConfig(), set_as_current=False)
    started = time.monotonic()
    try:
        found = examination.examine(app, checks, timeout=1)
        assert time.monotonic() - started < 50, "one after the other they take 100 s"
    finally:
        never.set()
    assert [finding.name for finding in found] == list(checks)
    assert {finding.detail for finding in found} == {"no answer within 1 s"}


def test_serializers_that_do_not_fit(deployment: Deployment) -> None:
    report = examine(deployment, CELERY_ACCEPT_CONTENT="pickle")
    assert report.status("serializers") == {"failed"}
    assert "Add 'json' to CELERY_ACCEPT_CONTENT" in report.shown("serializers")


def examine_app(deployment: Deployment, folder: Path, code: str, **environment: str) -> Report:
    """Examine an app whose module has this code."""
    (folder / "examined.py").write_text(
        "from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task\n"
        "from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider\n"
        "from tomskit.sqlalchemy.database import Database\n" + code,
        encoding="utf-8",
    )
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return examine(deployment, app="examined", PYTHONPATH=path, **environment)


ONCE = """
app = AsyncCelery("examined", config=CeleryConfig())

@async_shared_task(once=True, name="pay")
async def pay() -> None: ...
"""


def test_tasks_that_run_once_need_their_table(deployment: Deployment, tmp_path: Path) -> None:
    report = examine_app(deployment, tmp_path, ONCE)
    assert report.exit_code == 1
    assert report.status("once") == {"failed"}
    assert "'database' has no table tomskit_once, which pay needs" in report.shown("once")
    assert "await db.create_tables()" in report.shown("once")

    make_outbox(deployment)
    report = examine_app(deployment, tmp_path, ONCE)
    assert report.exit_code == 0
    assert report.status("once") == {"ok"}


def test_tasks_that_run_once_need_their_database(deployment: Deployment, tmp_path: Path) -> None:
    names = [name for name in deployment.environment if name.startswith("CELERY_DB_")]
    report = examine_app(deployment, tmp_path, ONCE, **dict.fromkeys(names, ""))
    assert report.status("database") == {"failed"}
    assert report.exit_code == 1


def test_each_database_is_examined(deployment: Deployment, tmp_path: Path) -> None:
    code = f"""
reports = DatabaseConfig(
    SQLALCHEMY_DATABASE_URI_SCHEME="mysql+aiomysql", DB_HOST="127.0.0.1", DB_PORT={free_port()}
)
app = AsyncCelery(
    "examined",
    config=CeleryConfig(),
    providers=[DatabaseProvider(reports, database=Database(), name="reports")],
)

@async_shared_task(once="report", name="pay")
async def pay() -> None: ...
"""
    report = examine_app(deployment, tmp_path, code)
    assert report.status("database") == {"ok"}
    assert report.status("database 'reports'") == {"failed"}
    assert "the DatabaseConfig of the provider 'reports'" in report.shown("database 'reports'")
    assert report.status("once") == {"failed"}
    assert "once='report' names no database of the app" in report.shown("once")
    assert "It has 'database', 'reports'" in report.shown("once")


def test_a_database_in_place_of_the_apps_own_is_examined(
    deployment: Deployment, tmp_path: Path
) -> None:
    code = """
config = DatabaseConfig(
    SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite", DB_DATABASE="/missing/folder/a.db"
)
app = AsyncCelery("examined", config=CeleryConfig(), providers=[DatabaseProvider(config)])
"""
    report = examine_app(deployment, tmp_path, code)
    assert report.status("database") == {"failed"}
    assert "unable to open database file" in report.shown("database")


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        ("missing_module", "No module named 'missing_module'"),
        ("broken", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported(
    deployment: Deployment, tmp_path: Path, module: str, shown: str
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("\n1 / 0\n", encoding="utf-8")
    code = f'app = AsyncCelery("examined", config=CeleryConfig(), include=["{module}"])'
    report = examine_app(deployment, tmp_path, code)
    assert report.exit_code == 1
    assert report.status("modules") == {"failed"}
    assert shown in report.shown("modules")
    assert "correct the module, or its name in include" in report.shown("modules")
    assert (f"({broken}, line 2)" in report.shown("modules")) is (module == "broken")
    assert "without the module not all tasks are known" in report.shown("annotations")
    assert report.status("broker") == {"ok"}


def test_a_module_that_python_cannot_read_is_named_with_its_folder(
    deployment: Deployment, tmp_path: Path
) -> None:
    broken = tmp_path / "unclosed.py"
    broken.write_text("number = 1\nprint(\n")
    code = 'app = AsyncCelery("examined", config=CeleryConfig(), include=["unclosed"])'

    report = examine_app(deployment, tmp_path, code)

    assert f"SyntaxError: '(' was never closed ({broken}, line 2)" in report.shown("modules")


def test_a_setting_that_does_not_fit_is_what_is_to_be_corrected(
    deployment: Deployment, tmp_path: Path
) -> None:
    # Without config= the settings are read when they are first needed.
    code = 'app = AsyncCelery("examined", broker="memory://")'
    report = examine_app(deployment, tmp_path, code, CELERY_DB_PORT="many")
    assert report.status("database") == {"failed"}
    assert "CELERY_DB_PORT Input should be a whole number" in report.shown("database")
    assert "it is set in the environment" in report.shown("database")
    assert "-> Correct this setting." in report.shown("database")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CELERY_BROKER_URL", "nonsense://host", "kombu knows no such transport"),
        ("CELERY_TASK_TIME_LIMIT", "many", "Input should be a number"),
    ],
)
def test_a_setting_with_which_the_app_cannot_be_made(
    deployment: Deployment, variable: str, value: str, said: str
) -> None:
    """Celery's command line would end with its own usage and the traceback of the import."""
    report = examine(deployment, **{variable: value})

    assert report.exit_code == 1
    [finding] = report.checks["settings"]
    assert finding["detail"].startswith(f"{variable}: {said}")
    assert "it is set in the environment" in finding["detail"]
    assert finding["advice"] == "Correct this setting."


def test_other_commands_show_why_an_app_cannot_be_loaded_as_celery_does(
    deployment: Deployment,
) -> None:
    """``celery.bin.celery.find_app``."""
    deployment.environment["CELERY_TASK_TIME_LIMIT"] = "many"
    done = celery(deployment, "-A", SERVICE, "report")

    assert done.returncode == 2
    assert "Unable to load celery application" in done.stderr


def test_tls_to_a_server_without_it(deployment: Deployment) -> None:
    report = examine(deployment, "--timeout=2", CELERY_BROKER_REDIS_USE_SSL="true")
    assert report.status("broker") == {"failed"}
    assert "TLS on one side only" in report.shown("broker")


@pytest.mark.parametrize("app", ["tests.integration.stock_service"])
def test_a_plain_celery_app(deployment: Deployment, app: str) -> None:
    done = celery(deployment, "-A", app, "doctor")
    assert done.returncode == 2
    assert "is not an AsyncCelery app" in " ".join(done.stderr.split())


def test_no_app(deployment: Deployment) -> None:
    done = celery(deployment, "doctor")
    assert done.returncode == 2
    assert "name your app: celery -A app doctor" in done.stderr


def celery(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as users type it, in a process that has imported nothing."""
    return subprocess.run(
        [sys.executable, "-m", "celery", *arguments],
        env={**os.environ, **deployment.environment},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
