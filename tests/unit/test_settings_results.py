"""CeleryConfig's results: how long they are kept, and results in a database."""

from pathlib import Path
from typing import cast

import pytest
from celery.app import backends
from sqlalchemy import create_engine, make_url

from tests.support.settings import MakeApp, backend_of
from tomskit.celery import CeleryConfig


def test_results_are_kept_for_a_day_by_default(make_app: MakeApp) -> None:
    backend = backend_of(make_app(CeleryConfig()))
    assert backend.expires == 86400


def test_a_database_backend_keeps_celerys_retries(make_app: MakeApp, tmp_path: Path) -> None:
    backend = backend_of(make_app(_sqlite_results(tmp_path)))
    assert backend.always_retry is True


@pytest.mark.parametrize("scheme", ["mysql", "db+mysql", "mysql+pymysql"])
def test_a_mysql_result_database_has_the_driver_that_is_installed(scheme: str) -> None:
    config = CeleryConfig(
        CELERY_RESULT_BACKEND_TYPE="database",
        CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME=scheme,
        CELERY_DB_PASSWORD="p w+",
        CELERY_DB_CHARSET="utf8mb4",
    )
    cls, url = cast("tuple[type[object], str]", backends.by_url(config.CELERY_RESULT_BACKEND))
    assert cls.__name__ == "DatabaseBackend"
    assert create_engine(url).driver == "pymysql"
    assert make_url(url).password == "p w+"
    assert make_url(url).query == {"charset": "utf8mb4"}


def test_a_result_database_has_no_transport_options() -> None:
    config = CeleryConfig(
        CELERY_RESULT_BACKEND_TYPE="database",
        CELERY_USE_SENTINEL=True,
        CELERY_SENTINEL_MASTER_NAME="m",
    )
    assert config.CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS == {}


def test_results_are_stored_in_an_sqlite_file(make_app: MakeApp, tmp_path: Path) -> None:
    backend = make_app(_sqlite_results(tmp_path)).backend
    backend.store_result("id", {"a": 1}, "SUCCESS")
    assert backend.get_result("id") == {"a": 1}


def _sqlite_results(folder: Path) -> CeleryConfig:
    return CeleryConfig(
        CELERY_RESULT_BACKEND_TYPE="database",
        CELERY_RESULT_BACKEND_DATABASE_URI_SCHEME="sqlite",
        CELERY_DB_DATABASE=str(folder / "results 1.db"),
    )


def test_the_timeouts_of_sockets_reach_the_backend(make_app: MakeApp) -> None:
    parameters = backend_of(
        make_app(
            CeleryConfig(CELERY_RESULT_SOCKET_TIMEOUT=7, CELERY_RESULT_SOCKET_CONNECT_TIMEOUT=3)
        )
    ).connparams
    assert parameters["socket_timeout"] == 7
    assert parameters["socket_connect_timeout"] == 3
    assert parameters["socket_keepalive"] is True
    assert parameters["health_check_interval"] == 25


def test_celerys_own_name_of_the_timeout_works(make_app: MakeApp) -> None:
    app = make_app(CeleryConfig.model_validate({"CELERY_REDIS_SOCKET_TIMEOUT": 7}))
    assert backend_of(app).connparams["socket_timeout"] == 7
