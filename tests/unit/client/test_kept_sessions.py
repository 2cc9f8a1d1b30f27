"""Connections to results in a database, which a worker keeps."""

import os
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import Engine, text

from tests.support.settings import new_app
from tomskit.celery._client.kept_sessions import kept_sessions


@pytest.fixture
def app() -> Celery:
    return new_app("kept", set_as_current=False)


def number(engine: Engine) -> object:
    with engine.connect() as connection:
        return connection.execute(text("SELECT 1")).scalar_one()


def test_all_threads_of_an_app_have_one_engine(app: Celery, tmp_path: Path) -> None:
    made: list[Engine] = []
    url = f"sqlite:///{tmp_path}/results"

    first = kept_sessions(app, made.append).get_engine(url)
    second = kept_sessions(app, made.append).get_engine(url)

    assert first is second
    assert made == [first]
    first.dispose()


def test_options_of_the_application_stand(app: Celery, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results"

    engine = kept_sessions(app, None).get_engine(url, pool_size=3, max_overflow=0)

    with engine.connect(), engine.connect(), engine.connect():
        assert "Pool size: 3" in engine.pool.status()
        assert "Overflow: 0" in engine.pool.status()
    engine.dispose()


def test_a_forked_process_has_an_engine_of_its_own(app: Celery, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results"
    sessions = kept_sessions(app, None)
    engine = sessions.get_engine(url)
    assert number(engine) == 1

    child = os.fork()
    if child == 0:
        own = sessions.get_engine(url)
        sessions.invalidate(url)
        os._exit(own is engine or engine.pool.status() == own.pool.status())

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sessions.get_engine(url) is engine
    sessions.invalidate(url)
    assert sessions.get_engine(url) is not engine
