"""Results in a database that accepts connections and never answers: nobody waits for it without end."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError

from tests.support.deployment import TIMEOUT, Deployment, close_client
from tests.support.outages import FREE, set_free
from tests.support.patience import patience, wait_until
from tests.support.proxy import Proxy
from tests.support.servers import MariaDBServer
from tests.support.servers.postgres import PostgresServer, postgres_missing
from tests.support.settings import build
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery
from tomskit.celery.asyncio_pool.hub import run_into

R = TypeVar("R")

SERVICE = "tests.integration.asyncio_stop_service"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    if (missing := postgres_missing()) is not None:
        pytest.skip(missing)
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["mysql+pymysql", "postgresql+psycopg"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(
    request: pytest.FixtureRequest, driver: str, mariadb_server: MariaDBServer
) -> Iterator[Proxy]:
    server: Any = mariadb_server
    if driver.startswith("postgresql"):
        server = request.getfixturevalue("postgres")
    with Proxy(server.host, server.port) as made:
        yield made


@pytest.fixture
def results(
    request: pytest.FixtureRequest, driver: str, deployment: Deployment, proxy: Proxy
) -> str:
    """The URL of the results, by way of the proxy."""
    if driver.startswith("postgresql"):
        server: PostgresServer = request.getfixturevalue("postgres")
        user, database = f"{server.user}:{server.password}", server.new_database()
        return f"db+{driver}://{user}@{proxy.host}:{proxy.port}/{database}"
    url = deployment.mariadb.url(driver, deployment.database)
    return f"db+{url}".replace(f":{deployment.mariadb.port}/", f":{proxy.port}/")


@pytest.fixture
def app(deployment: Deployment, results: str) -> Iterator[AsyncCelery]:
    with ExitStack() as stack:
        config = build(
            CELERY_BROKER_URL=deployment.redis_db.broker_url, CELERY_RESULT_BACKEND=results
        )
        made = AsyncCelery("client", config=config, set_as_current=False)
        stack.callback(close_client, made)
        yield made


def in_time(call: Callable[[], R]) -> R:
    """What a call returns or raises, in a thread that the test does not wait for."""
    ended: Future[R] = Future()
    threading.Thread(target=run_into, args=(ended, call), daemon=True).start()
    return ended.result(patience(30))


def fall_silent(proxy: Proxy) -> None:
    proxy.accept_silently()
    proxy.freeze()


def test_who_waits_for_a_result_waits_as_long_as_the_time_out_says(
    app: AsyncCelery, proxy: Proxy
) -> None:
    result = app.AsyncResult("never-sent")
    assert result.state == "PENDING"
    fall_silent(proxy)

    async def wait() -> None:
        await result.aget(timeout=2)

    with pytest.raises(CeleryTimeoutError):
        in_time(lambda: result.get(timeout=2))
    with pytest.raises(CeleryTimeoutError):
        in_time(lambda: asyncio.run(wait()))
    with pytest.raises(CeleryTimeoutError):
        in_time(lambda: app.GroupResult("group", [result]).get(timeout=2))

    proxy.heal()
    assert result.state == "PENDING"


def test_who_says_no_time_out_hears_that_the_database_does_not_answer(
    app: AsyncCelery, proxy: Proxy
) -> None:
    result = app.AsyncResult("never-sent")
    assert result.state == "PENDING"
    fall_silent(proxy)

    for call in (result.get, result.ready, result.forget):
        with pytest.raises(
            ConnectionError, match=r"database of the results, .* does not answer"
        ) as e:
            in_time(call)
        assert "password" not in str(e.value)


def test_the_event_loop_is_not_blocked_by_the_first_look_at_a_result(
    app: AsyncCelery, proxy: Proxy
) -> None:
    fall_silent(proxy)

    async def wait() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        counting = asyncio.create_task(count())
        with pytest.raises(CeleryTimeoutError):
            await app.AsyncResult("never-sent").aget(timeout=2)
        counting.cancel()
        return turns

    assert in_time(lambda: asyncio.run(wait())) > 10
    proxy.heal()


@pytest.mark.parametrize("pool", ["asyncio", "threads"])
def test_a_result_is_stored_when_the_database_answers_again(
    deployment: Deployment, app: AsyncCelery, proxy: Proxy, results: str, pool: Pool
) -> None:
    worker = deployment.worker(pool, 2, module=SERVICE, CELERY_RESULT_BACKEND=results)
    sent = app.send_task(f"{SERVICE}.early", ("key", FREE))
    wait_until(lambda: sent.state == "STARTED", 30, "the task runs")

    fall_silent(proxy)
    set_free(deployment)
    worker.wait_for_line("Cannot store a result; retrying while .* does not answer", 60)
    proxy.heal()

    assert sent.get(timeout=TIMEOUT) == "done"
    worker.wait_for_line("The result backend is back")
    assert worker.stop() == 0
    assert "Traceback" not in worker.text


def test_a_worker_ends_at_once_although_a_result_is_not_stored(
    deployment: Deployment, app: AsyncCelery, proxy: Proxy, results: str
) -> None:
    worker = deployment.worker("asyncio", 2, module=SERVICE, CELERY_RESULT_BACKEND=results)
    sent = app.send_task(f"{SERVICE}.early", ("key", FREE))
    wait_until(lambda: sent.state == "STARTED", 30, "the task runs")

    fall_silent(proxy)
    set_free(deployment)
    worker.wait_for_line("Cannot store a result; retrying while .* does not answer", 60)
    worker.send_signal(signal.SIGQUIT)

    worker.wait(40)
