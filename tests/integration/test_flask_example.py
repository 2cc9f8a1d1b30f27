"""The example with Flask: a real worker, and gunicorn, whose processes are forked with connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support import recipes
from tests.support.deployment import eventually
from tests.support.patience import patience
from tests.support.servers import RedisDb
from tests.support.servers.base import HOST, free_port
from tests.support.workers import Pool, Worker

PRELOADED = """
import asyncio
import os

from sqlalchemy import text
from tasks import send_mail, sender
from views import web

from tomskit.celery import AsyncRuntime
from tomskit.redis.redis_pool import redis_client
from tomskit.sqlalchemy.database import db


async def ask():
    await redis_client.ping()
    return await db.session.scalar(text("SELECT 1"))


async def send():
    return await (await send_mail.adelay("loop")).aget(timeout=60)


@web.get("/asked")
def asked():
    return {
        "pid": os.getpid(),
        "database": AsyncRuntime.run(ask()),
        "loop": asyncio.run(send()),
        "sender": sender.delay().get(timeout=60),
    }


with web.test_client() as client:
    answer = client.get("/asked").json
    print("before the fork:", answer["database"], answer["loop"], answer["sender"], flush=True)
"""
"""An application that has connected to everything, in every way, when gunicorn forks."""


@pytest.fixture(params=["asyncio", "prefork"])
def worker(
    request: pytest.FixtureRequest, redis_db: RedisDb, tmp_path: Path
) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = recipes.copy("flask", tmp_path)
    environment = {
        **recipes.environment(redis_db),
        "CELERY_SQLALCHEMY_DATABASE_URI": f"sqlite+aiosqlite:///{tmp_path}/shop.db",
    }
    pool: Pool = request.param
    with Worker("app", pool=pool, concurrency=8, cwd=folder, env=environment) as started:
        started.wait_ready()
        yield folder, environment
        assert started.stop() == 0
        assert "ERROR" not in started.text


def test_tasks_run_in_the_context_of_the_application(
    worker: tuple[Path, dict[str, str]],
) -> None:
    folder, environment = worker
    port = str(free_port())
    serve = ["--app", "views:web", "run", "--host", HOST, "--port", port]
    with (
        recipes.running("flask", serve, folder=folder, env=environment),
        httpx.Client(base_url=f"http://{HOST}:{port}", timeout=patience(30)) as client,
    ):
        eventually(lambda: answers(port))
        addresses = [f"{name}@example.org" for name in range(16)]
        started = {client.post(f"/mails/{address}").json()["id"]: address for address in addresses}

        def statuses() -> list[dict[str, str]]:
            return [client.get(f"/mails/{task_id}").json() for task_id in started]

        eventually(lambda: all(status["state"] == "SUCCESS" for status in statuses()))
        sent = [status["sent"] for status in statuses()]
        assert sent == [f"shop@example.org to {address}" for address in started.values()]


@pytest.mark.parametrize("worker", ["asyncio"], indirect=True)
def test_gunicorn_forks_an_application_that_is_connected(
    worker: tuple[Path, dict[str, str]],
) -> None:
    folder, environment = worker
    (folder / "preloaded.py").write_text(PRELOADED, encoding="utf-8")
    port = str(free_port())
    serve = ["--preload", "--workers", "2", "--bind", f"{HOST}:{port}", "preloaded:web"]
    with recipes.running(
        "gunicorn", serve, folder=folder, env=environment | {"HOME": str(folder)}
    ) as log:
        eventually(lambda: answers(port))
        ask = f"http://{HOST}:{port}/asked"
        answered: dict[int, object] = {}

        def every_process_has_answered() -> bool:
            with ThreadPoolExecutor(4) as pool:
                for found in pool.map(partial(httpx.get, timeout=patience(30)), [ask] * 4):
                    answer = found.raise_for_status().json()
                    answered[answer.pop("pid")] = answer
            return len(answered) == 2

        eventually(every_process_has_answered)
        assert "before the fork: 1 shop@example.org to loop shop@example.org" in log.read_text()

    expected = {"database": 1, "loop": "shop@example.org to loop", "sender": "shop@example.org"}
    assert list(answered.values()) == [expected] * 2


def answers(port: str) -> bool:
    with socket.create_connection((HOST, int(port)), timeout=1):
        return True
