"""Tasks report and end while their result backend is away, hangs, or forbids what it usually allows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests.integration import results_service
from tests.integration.results_service import Progress, add, report_until, step_by_step
from tests.integration.typed_service import client as client_app
from tests.support.contracts import untyped
from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.loops import run
from tests.support.patience import patience, slowed
from tests.support.proxy import Proxy
from tests.support.refusing import refusing
from tests.support.remote import fresh_key, release
from tests.support.servers import Outage, RedisServer, outage
from tests.support.workers import Pool, Worker

MODULE = results_service.__name__

pytestmark = pytest.mark.usefixtures("clean_process")

every_pool = pytest.mark.parametrize("pool", ["prefork", "asyncio"])


@contextmanager
def serving(deployment: Deployment, server: RedisServer, pool: Pool) -> Generator[Worker]:
    """A worker whose results are kept by a server of their own, and a client beside it."""
    deployment.environment.update(
        {
            "CELERY_RESULT_BACKEND_REDIS_HOST": server.host,
            "CELERY_RESULT_BACKEND_REDIS_PORT": str(server.port),
            "CELERY_RESULT_BACKEND_REDIS_DB": "0",
        }
    )
    worker = deployment.worker(pool, 2, module=MODULE)
    with client_app(deployment.environment) as app:
        app.set_current()
        yield worker


def state(server: RedisServer, task_id: str) -> Any:
    with server.client() as client:
        return untyped(client).get(f"celery-task-meta-{task_id}") or ""


@every_pool
@pytest.mark.parametrize("kind", ["gone", "hanging"])
def test_task_goes_on_while_the_result_backend_is_away(
    deployment: Deployment, pool: Pool, kind: Outage
) -> None:
    # What it has stored is on the disk.
    config = [("appendonly", "yes"), ("appendfsync", "always")]
    with RedisServer(config=config) as server, serving(deployment, server, pool):
        key, task_id = fresh_key(), fresh_key()

        def done() -> int:
            return int(deployment.key(f"{key}-done") or 0)

        def is_counting() -> bool:
            before = done()
            time.sleep(slowed(0.2))
            return done() > before

        try:
            deployment.send(report_until.name, key, task_id=task_id)
            eventually(lambda: '"PROGRESS"' in state(server, task_id))
            with outage(server, kind):
                before = done()
                eventually(lambda: done() > before + 30)
            seen = state(server, task_id)
            # Its newest report is stored when the result backend is there again.
            eventually(lambda: state(server, task_id) != seen)
            if pool == "asyncio":
                # In other pools Celery gives up a result that it cannot store.
                with outage(server, kind):
                    release(deployment, key)
                    eventually(lambda: not is_counting())
        finally:
            release(deployment, key)

        eventually(lambda: '"SUCCESS"' in state(server, task_id))


@contextmanager
def without_scripts(deployment: Deployment, pool: Pool) -> Generator[RedisServer]:
    """A worker and a client that may not use scripts where results are kept."""
    with RedisServer() as server:
        with server.client() as client:
            rules = ("on", ">secret", "~*", "&*", "+@all", "-@scripting")
            untyped(client).execute_command("ACL", "SETUSER", "limited", "reset", *rules)
        deployment.environment["CELERY_RESULT_BACKEND_REDIS_USERNAME"] = "limited"
        deployment.environment["CELERY_RESULT_BACKEND_REDIS_PASSWORD"] = "secret"
        with serving(deployment, server, pool):
            yield server


@every_pool
def test_reports_are_stored_where_scripts_are_forbidden(deployment: Deployment, pool: Pool) -> None:
    with without_scripts(deployment, pool):

        async def main() -> list[int]:
            keys = [fresh_key() for _ in range(2)]
            sent = await step_by_step.adelay(keys)
            seen: list[int] = []
            async for progress in sent.progress(Progress, timeout=patience(30)):
                seen.append(progress.done)
                release(deployment, keys[progress.done])
            return [*seen, await sent]

        assert run(main()) == [0, 1, 2]


def stored_states(server: RedisServer, task_id: str, send: Callable[[], object]) -> Iterator[str]:
    """Each state of a task that is stored after it was sent."""
    with server.client() as client, closing(untyped(client).pubsub()) as heard:
        heard.subscribe(f"celery-task-meta-{task_id}")
        assert heard.get_message(timeout=TIMEOUT)["type"] == "subscribe"
        send()
        while True:
            message = heard.get_message(timeout=TIMEOUT)
            assert message is not None
            yield json.loads(message["data"])["status"]


@every_pool
def test_that_a_task_has_started_hides_no_report(deployment: Deployment, pool: Pool) -> None:
    """Where scripts are forbidden both are stored in several steps."""
    with without_scripts(deployment, pool) as server:
        key, task_id = fresh_key(), fresh_key()
        found = stored_states(
            server, task_id, lambda: deployment.send(step_by_step.name, [key], task_id=task_id)
        )
        seen = [next(found), next(found)]
        release(deployment, key)
        seen.append(next(found))
        assert seen == ["STARTED", "PROGRESS", "SUCCESS"]


@every_pool
def test_that_a_task_has_started_hides_no_report_of_an_outage(
    deployment: Deployment, pool: Pool
) -> None:
    with RedisServer() as server, serving(deployment, server, pool) as worker:
        key, task_id = fresh_key(), fresh_key()

        def send() -> None:
            with refusing("OOM", server):
                deployment.send(step_by_step.name, [key], task_id=task_id)
                worker.wait_for_line("Cannot store (a result|the progress)")

        found = stored_states(server, task_id, send)
        seen = [next(found)]
        while "PROGRESS" not in seen:
            seen.append(next(found))
        release(deployment, key)
        seen.append(next(found))
        assert seen[-2:] == ["PROGRESS", "SUCCESS"]


@pytest.fixture
def database(deployment: Deployment) -> Generator[Proxy]:
    """A network between the worker and the database of its results."""
    deployment.use_database_for_results()
    with Proxy(deployment.mariadb.host, deployment.mariadb.port) as proxy:
        deployment.environment |= {
            "CELERY_RESULT_BACKEND_TYPE": "database",
            "CELERY_DB_HOST": proxy.host,
            "CELERY_DB_PORT": str(proxy.port),
        }
        yield proxy


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_results_are_stored_when_their_database_is_back(
    deployment: Deployment, database: Proxy, pool: Pool
) -> None:
    worker = deployment.worker(pool, 2, module=MODULE)
    # Celery makes its tables.
    assert deployment.send(add.name, 1, 1).get(timeout=TIMEOUT) == 2
    database.refuse()
    try:
        sent = [deployment.send(add.name, n, n) for n in (2, 3)]
        for one in sent:
            # By itself Celery tries no more.
            worker.wait_for_line(rf"task_id={one.id}\D[^\n]* Retrying 0 more times")
    finally:
        database.heal()
    assert [one.get(timeout=TIMEOUT) for one in sent] == [4, 6]
