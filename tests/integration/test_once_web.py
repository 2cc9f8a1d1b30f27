"""Requests of a web application that send tasks on commit: FastAPI, with a worker beside it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration import once_service, once_web_service
from tests.support.deployment import Deployment, deploy, eventually
from tests.support.patience import patience
from tests.support.servers import MariaDBServer, RedisServer, die_with_parent
from tests.support.servers.base import HOST, free_port
from tests.support.workers import PROJECT
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import Database

WEB = once_web_service.__name__


@pytest.fixture(scope="module")
def served(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Deployment]:
    with deploy(redis_server, mariadb_server) as deployment:
        deployment.environment["CELERY_OUTBOX_INTERVAL"] = "2"
        asyncio.run(make_tables(deployment))
        deployment.worker("asyncio", 10, module=once_service.__name__)
        yield deployment


async def make_tables(deployment: Deployment) -> None:
    server = deployment.mariadb
    database = Database()
    database.open(
        DatabaseConfig(
            SQLALCHEMY_DATABASE_URI_SCHEME="mysql+aiomysql",
            DB_HOST=server.host,
            DB_PORT=server.port,
            DB_USERNAME=server.user,
            DB_PASSWORD=server.password,
            DB_DATABASE=deployment.database,
        )
    )
    try:
        await database.create_tables()
        async with database.engine.begin() as connection:
            await connection.run_sync(once_service.metadata.create_all)
    finally:
        await database.close()


@contextmanager
def serving(deployment: Deployment, folder: Path) -> Generator[str]:
    port = free_port()
    serve = [sys.executable, "-m", "uvicorn", f"{WEB}:api", "--host", HOST, "--port", str(port)]
    with (folder / "log").open("wb") as log:
        web = subprocess.Popen(
            die_with_parent(serve),
            cwd=PROJECT,
            env={**os.environ, **deployment.environment},
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://{HOST}:{port}"
            eventually(lambda: answers(url))
            yield url
        finally:
            web.terminate()
            web.wait(patience(30))


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/docs").is_success
    except httpx.TransportError:
        return False


def post(url: str) -> httpx.Response:
    """Ask with a connection of its own: a server may close one after an error."""
    return httpx.post(url, timeout=patience(20))


def names(deployment: Deployment, table: str) -> list[object]:
    rows = deployment.mariadb.query(
        f"SELECT name FROM `{deployment.database}`.{table} ORDER BY name"
    )
    return [name for (name,) in rows]


def waiting(deployment: Deployment) -> object:
    [(left,)] = deployment.mariadb.query(
        f"SELECT COUNT(*) FROM `{deployment.database}`.tomskit_outbox"
    )
    return left


def test_requests_send_what_they_commit_and_nothing_else(
    served: Deployment, tmp_path: Path
) -> None:
    with serving(served, tmp_path) as url:
        assert post(f"{url}/fail/failed").status_code == 500
        assert post(f"{url}/roll-back/rolled").json() == "rolled"
        assert len(post(f"{url}/commit/done").json()) == 36
        with pytest.raises(httpx.TransportError):
            post(f"{url}/die/died")
    # The worker publishes what the dead process has committed.
    eventually(lambda: names(served, "receipts") == ["died", "done"])
    assert names(served, "transfers") == ["died", "done"]
    eventually(lambda: waiting(served) == 0)
