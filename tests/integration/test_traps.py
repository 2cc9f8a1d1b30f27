"""What users of earlier systems ran into: section by section, once each, by name."""

import asyncio
import inspect
import os
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from celery import Celery
from kombu import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from tests.support.deployment import TIMEOUT, Deployment
from tomskit.celery import (
    AsyncCelery,
    AsyncRuntime,
    AsyncTask,
    BoundTask,
    CeleryConfig,
    async_shared_task,
)
from tomskit.celery._running.context import find_app
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import db


@pytest.fixture
def sqlite(tmp_path: object) -> DatabaseConfig:
    return DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite", DB_DATABASE=f"{tmp_path}/traps.db"
    )


@pytest.fixture(autouse=True)
def no_runtime() -> Iterator[None]:
    yield
    AsyncRuntime.shutdown()


def test_01_documented_configuration_reaches_the_worker(deployment: Deployment) -> None:
    app = AsyncCelery("x")
    app.config_from_object(
        CeleryConfig(CELERY_BROKER_REDIS_HOST="example.org", CELERY_TASK_TIME_LIMIT=7)
    )

    assert app.conf.broker_url == "redis://example.org:6379/0"
    assert app.conf.task_time_limit == 7
    assert app.conf.task_track_started is True
    worker = deployment.worker("solo")
    assert f":{deployment.redis_db.port}/{deployment.redis_db.broker_db}" in worker.text
    assert "amqp" not in worker.text


def test_02_space_in_a_password_is_not_read_back_as_plus() -> None:
    config = CeleryConfig(CELERY_BROKER_REDIS_PASSWORD="a b+c")

    assert "a%20b%2Bc" in config.CELERY_BROKER_URL
    assert Connection(config.CELERY_BROKER_URL).password == "a b+c"


def test_03_first_run_in_a_process_that_missed_the_start_signal(sqlite: DatabaseConfig) -> None:
    AsyncCelery("x", database=sqlite)
    assert AsyncRuntime.app() is None

    async def work() -> str:
        return str(db.session.bind)

    # Many at once, so that whoever comes second finds the initialisation under way.
    with ThreadPoolExecutor(8) as threads:
        results = [threads.submit(AsyncRuntime.run, work()) for _ in range(8)]

    assert len({result.result(timeout=TIMEOUT) for result in results}) == 1


def test_04_app_is_found_in_worker_threads(service: Deployment, sqlite: DatabaseConfig) -> None:
    app = AsyncCelery("here", database=sqlite)
    found: list[Celery | None] = []
    thread = threading.Thread(target=lambda: found.append(find_app()))

    thread.start()
    thread.join()

    assert found == [app]
    seen = cast("dict[str, object]", service.call("identity", 0))
    assert seen["app"] == "service"


def test_05_request_id_and_retry_in_the_coroutine(service: Deployment) -> None:
    sent = service.send("retry_until", 1)

    assert sent.get(timeout=TIMEOUT) == [sent.id, 1]


def test_06_soft_limit_leaves_no_coroutine_behind(service: Deployment) -> None:
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        service.call("touch_later", "woken", 3.0, soft_time_limit=0.5)
    service.call("sleep", 3.5)

    assert service.key("woken") is None


def test_07_nothing_caps_a_long_task(
    sqlite: DatabaseConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    AsyncCelery("x", database=sqlite)
    jump = 0.0
    real = time.monotonic
    go = threading.Event()

    async def long() -> str:
        nonlocal jump
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: real() + jump)
        jump = 4 * 3600.0  # for every timer on the loop, four hours pass at once
        await asyncio.to_thread(go.wait)
        return "done"

    threading.Timer(0.3, go.set).start()
    assert AsyncRuntime.run(long()) == "done"


def test_08_cleanup_error_does_not_hide_the_tasks_own(
    sqlite: DatabaseConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    AsyncCelery("x", database=sqlite)

    async def close(self: AsyncSession) -> None:
        raise ConnectionError("cannot close")

    async def fail() -> None:
        monkeypatch.setattr(AsyncSession, "close", close)
        str(db.session)
        raise LookupError("the task's own")

    with pytest.raises(LookupError, match="the task's own"):
        AsyncRuntime.run(fail())
    assert "cannot close" in caplog.text


def test_09_pools_of_two_loops_do_not_meet(service: Deployment) -> None:
    for name in ("create_user_by_runtime", "create_user_by_runner", "create_user") * 2:
        service.call(name, "loop")
    for name in ("cache", "cache_by_runner", "cache"):
        assert service.call(name, "loop", name) == name


def test_10_sentinel_urls_and_tls() -> None:
    config = CeleryConfig(
        CELERY_USE_SENTINEL=True,
        CELERY_SENTINELS="a:1,b:2",
        CELERY_SENTINEL_MASTER_NAME="m",
        CELERY_BROKER_REDIS_PASSWORD="p",
        CELERY_BROKER_REDIS_DB=3,
    )

    assert config.CELERY_BROKER_URL == "sentinel://:p@a:1/3;sentinel://:p@b:2/3"
    secure = AsyncCelery(
        "x",
        config=CeleryConfig(
            CELERY_BROKER_REDIS_USE_SSL=True, CELERY_RESULT_BACKEND_REDIS_USE_SSL=True
        ),
    )
    assert secure.conf.broker_use_ssl["ssl_cert_reqs"] == "required"
    backend = cast("dict[str, object]", getattr(secure.backend, "connparams"))  # noqa: B009
    assert backend["ssl_cert_reqs"] == ssl.CERT_REQUIRED
    assert backend["ssl_check_hostname"] is True


@async_shared_task
async def bare(a: int) -> int:
    return a


@async_shared_task(bind=True)
async def bound(self: BoundTask, a: int) -> str:
    return f"{self.name} {a} {os.getpid()}"


def test_11_bare_decorator_makes_a_task(sqlite: DatabaseConfig) -> None:
    AsyncCelery("x", database=sqlite, broker="memory://", task_always_eager=True)

    assert bare.delay(4).get() == 4
    assert isinstance(bare, AsyncTask)
    assert inspect.ismethod(bare.delay)


def test_12_bind_hands_over_the_task(service: Deployment, sqlite: DatabaseConfig) -> None:
    AsyncCelery("x", database=sqlite, broker="memory://", task_always_eager=True)

    assert bound.delay(1).get() == f"{bound.name} 1 {os.getpid()}"
    assert cast("list[object]", service.call("retry_until", 0))[1] == 0
