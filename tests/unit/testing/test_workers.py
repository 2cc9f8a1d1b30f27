"""A worker in the test's process."""

from __future__ import annotations

import logging
from typing import Literal

import pytest
from kombu import Connection
from kombu.transport.virtual import Transport

from tomskit.celery import AsyncCelery
from tomskit.errors import ConfigurationError
from tomskit.testing import worker


def test_results_in_memory_do_not_leave_a_pool_of_processes() -> None:
    app = AsyncCelery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    with (
        pytest.raises(ConfigurationError, match=r"cache\+memory:// stay .* use pool=\"threads\""),
        worker(app, pool="prefork"),
    ):
        pass


def test_logging_is_as_it_was_before_when_a_worker_has_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = AsyncCelery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    names = (None, "celery", "celery.task", "multiprocessing", "somewhere")
    loggers = [logging.getLogger(name) for name in names]

    def state() -> list[object]:
        return [(one.level, one.propagate, one.handlers[:], one.disabled) for one in loggers]

    before = state()
    with worker(app):
        pass

    assert state() == before
    logging.getLogger("somewhere").warning("after it")
    assert "after it" in caplog.text


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_worker_of_messages_in_memory_looks_often_whether_it_is_to_stop(
    pool: Literal["threads", "solo"], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    wait = Transport.drain_events

    def noted(self: Transport, connection: Connection, timeout: float | None = None) -> None:
        waits.append(timeout)
        wait(self, connection, timeout=timeout)

    monkeypatch.setattr(Transport, "drain_events", noted)
    app = AsyncCelery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)

    with worker(app, pool=pool):
        pass

    assert {*waits} == {0.1}
